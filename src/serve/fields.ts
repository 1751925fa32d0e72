/** Reads the fields of a request body: each is checked where it is used, and what nobody read is unknown. */
import { eachChoice, type SamplingChoice, type SamplingParams } from "../nn/sampling.ts";
import { ApiError, badField } from "./errors.ts";

/** Fields without effect here that clients send: accepted, whatever they hold. */
const IGNORED = ["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "priority"];

/** Unknown fields that an error names. */
const MOST_NAMED = 10;
/** Stop strings are looked for in every piece of text. */
const LONGEST_STRING = 1024;

export class Fields {
  private readonly body: Record<string, unknown>;
  private readonly known = new Set(IGNORED);

  constructor(body: unknown) {
    if (typeof body !== "object" || body === null || Array.isArray(body)) {
      throw new ApiError(400, "the request body must be a JSON object");
    }
    this.body = body as Record<string, unknown>;
  }

  /** The value as it stands; null and absent are the same. */
  raw(name: string): unknown {
    this.known.add(name);
    return Object.hasOwn(this.body, name) ? (this.body[name] ?? undefined) : undefined;
  }

  number(name: string, min: number, max: number, whole = false): number | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    const fits = typeof value === "number" && Number.isFinite(value) && (!whole || Number.isSafeInteger(value));
    if (!fits || value < min || value > max) {
      const range = max < Number.MAX_SAFE_INTEGER ? `from ${min} to ${max}` : `of at least ${min}`;
      throw badField(name, `${name} must be ${whole ? "an integer" : "a number"} ${range}, not ${show(value)}`);
    }
    return value;
  }

  integer(name: string, min: number, max = Number.MAX_SAFE_INTEGER): number | undefined {
    return this.number(name, min, max, true);
  }

  boolean(name: string): boolean {
    const value = this.raw(name) ?? false;
    if (typeof value !== "boolean") throw badField(name, `${name} must be true or false, not ${show(value)}`);
    return value;
  }

  /** A string or a list of them. */
  strings(name: string, most: number): string[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    const list = Array.isArray(value) ? value : [value];
    if (!list.every((s) => typeof s === "string"))
      throw badField(name, `${name} must be a string or a list of strings`);
    if (list.length > most) throw badField(name, `${name} may hold at most ${most} strings, not ${list.length}`);
    if (list.some((s) => s.length > LONGEST_STRING)) {
      throw badField(name, `${name} may hold strings of at most ${LONGEST_STRING} characters`);
    }
    return list;
  }

  /** Fields that are understood but cannot be had; `harmless` values of them pass. */
  unsupported(fields: Readonly<Record<string, (value: unknown) => boolean>>): void {
    for (const [name, harmless] of Object.entries(fields)) {
      const value = this.raw(name);
      if (value === undefined || harmless(value)) continue;
      throw badField(name, `${name} ${show(value)} is not supported by this server`, "unsupported_parameter");
    }
  }

  /** Fails for fields that nobody asked for, as OpenAI does: a misspelt option must not pass in silence. */
  refuseUnknown(): void {
    const unknown: string[] = [];
    for (const name in this.body) {
      if (!this.known.has(name)) unknown.push(name);
      if (unknown.length === MOST_NAMED) break;
    }
    if (unknown.length > 0) {
      throw badField(unknown[0], `Unrecognized request argument supplied: ${unknown.join(", ")}`, "unknown_parameter");
    }
  }
}

const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

/** What requests may say beyond a choice's limits, and what that means. */
const lenient: Partial<Record<SamplingChoice, { range: readonly [number, number]; as(value: number): number }>> = {
  topP: { range: [0, 1], as: (value) => value || 1e-6 }, // 0 leaves only the most probable token
  topK: { range: [-1, Number.MAX_SAFE_INTEGER], as: (value) => Math.max(0, value) }, // -1 is vLLM's word for all
};

/** The sampling options of a body: OpenAI's, and vLLM's where OpenAI has none. */
export function samplingFields(
  f: Fields,
  vocabSize: number,
): Omit<Partial<SamplingParams>, "maxNewTokens"> & { stop: string[] } {
  const seed = f.integer("seed", Number.MIN_SAFE_INTEGER);
  const choices = eachChoice.map(([name, snake, { asked, whole }]) => {
    const [min, max] = lenient[name]?.range ?? asked;
    const value = f.number(snake, min, max, whole);
    return [name, value === undefined ? undefined : (lenient[name]?.as(value) ?? value)];
  });
  const values = {
    ...(Object.fromEntries(choices) as Partial<Record<SamplingChoice, number>>),
    presencePenalty: f.number("presence_penalty", -2, 2),
    frequencyPenalty: f.number("frequency_penalty", -2, 2),
    minNewTokens: f.integer("min_tokens", 0),
    logitBias: biases(f, vocabSize),
    ignoreEos: f.boolean("ignore_eos") || undefined,
    seed: seed === undefined ? undefined : seed < 0 ? seed + 2 ** 53 : seed,
  };
  const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  return { ...given, stop: f.strings("stop", 16) };
}

function biases(f: Fields, vocabSize: number): ReadonlyMap<number, number> | undefined {
  const value = f.raw("logit_bias");
  if (value === undefined) return undefined;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badField("logit_bias", "logit_bias must be an object from token ids to numbers");
  }
  const entries = Object.entries(value);
  if (entries.length > 1024)
    throw badField("logit_bias", `logit_bias may name at most 1024 tokens, not ${entries.length}`);
  return new Map(
    entries.map(([key, bias]) => {
      if (!/^\d{1,9}$/.test(key) || Number(key) >= vocabSize) {
        throw badField("logit_bias", `logit_bias names token ${show(key)}; ids are below ${vocabSize}`);
      }
      if (typeof bias !== "number" || !(bias >= -100 && bias <= 100)) {
        throw badField("logit_bias", `logit_bias of ${key} must be a number from -100 to 100, not ${show(bias)}`);
      }
      return [Number(key), bias];
    }),
  );
}

/** Token ids that end a response besides the model's own. */
export function stopIds(f: Fields, vocabSize: number, own: readonly number[]): number[] | undefined {
  const value = f.raw("stop_token_ids");
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || !value.every((id) => Number.isInteger(id) && id >= 0 && id < vocabSize)) {
    throw badField("stop_token_ids", `stop_token_ids must be a list of ids below ${vocabSize}`);
  }
  return [...new Set([...own, ...(value as number[])])];
}
