/**
 * How responses are sampled: every sampling parameter, as callers say it, with its default, its check, and what the kernels
 * are told of it. One more is a line in each of these, and its field and formula in the shader.
 */
import { UserError } from "../runtime/errors.ts";
import { type Tensor, tensor } from "../tensor/core.ts";
import { MAX_ENDS, type SlotNeeds, type SlotState } from "../tensor/ops/sample.ts";
import type { DecoderConfig } from "./config.ts";

/** How a response is sampled; everything but its length and seed has a default that does nothing. */
export interface SamplingParams {
  /** Tokens per response, the end token included. */
  maxNewTokens: number;
  /** Until a response has this many tokens, it cannot end. Default 0. */
  minNewTokens?: number;
  /** 0 is greedy. Default 1. */
  temperature?: number;
  /** Keep the k most probable tokens; 0 keeps all. Default 0. */
  topK?: number;
  /** Keep the smallest set of tokens with this much probability. Default 1. */
  topP?: number;
  /** Keep tokens with at least this share of the most probable one's probability. Default 0. */
  minP?: number;
  /**
   * Divides positive logits and multiplies negative ones of tokens that stand in the prompt or the response (Keskar et
   * al. 2019, as Hugging Face does). Default 1.
   */
  repetitionPenalty?: number;
  /** Taken off the logits of tokens that stand in the response (OpenAI). Default 0. */
  presencePenalty?: number;
  /** Taken off the logits of tokens for each time they stand in the response (OpenAI). Default 0. */
  frequencyPenalty?: number;
  /** Added to the logits of single tokens, before the penalties. */
  logitBias?: ReadonlyMap<number, number>;
  /** Names the random numbers: the same seed gives the same response whatever else is being sampled. */
  seed: number;
  /** Tokens that end a response; by default the model's. */
  eosIds?: readonly number[];
  /** Go on to `maxNewTokens` whatever is sampled. Default false. */
  ignoreEos?: boolean;
}

interface Rule {
  /** Where nothing is said. */
  neutral?: number;
  must: string;
  ok(value: number): boolean;
}

const whole = (least: number): Omit<Rule, "neutral"> => ({
  must: `a whole number of at least ${least}`,
  ok: (v) => Number.isSafeInteger(v) && v >= least,
});
const finite: Omit<Rule, "neutral"> = { must: "a number", ok: Number.isFinite };

/** What the numbers among the parameters must be. */
const rules = {
  maxNewTokens: whole(1),
  minNewTokens: { neutral: 0, ...whole(0) },
  temperature: { neutral: 1, must: "a number of at least 0", ok: (v) => Number.isFinite(v) && v >= 0 },
  topK: { neutral: 0, ...whole(0) },
  topP: { neutral: 1, must: "above 0 and at most 1", ok: (v) => v > 0 && v <= 1 },
  minP: { neutral: 0, must: "from 0 to 1", ok: (v) => v >= 0 && v <= 1 },
  repetitionPenalty: { neutral: 1, must: "above 0", ok: (v) => Number.isFinite(v) && v > 0 },
  presencePenalty: { neutral: 0, ...finite },
  frequencyPenalty: { neutral: 0, ...finite },
  seed: { ...whole(0), must: "a whole number from 0 to 2^53 - 1" },
} satisfies Partial<Record<keyof SamplingParams, Rule>>;

type Numbers = { readonly [K in keyof typeof rules]: number };

/** How one sequence is sampled: checked, and nothing left unsaid. */
export interface SlotOptions extends Numbers {
  /** Names the random numbers, together with `seed`. */
  readonly stream: number;
  readonly endIds: readonly number[];
  readonly logitBias?: ReadonlyMap<number, number>;
}

/** Checked options for one sequence. Throws `UserError` that names the option. */
export function slotOptions(
  params: SamplingParams,
  { vocabSize, eosIds }: Pick<DecoderConfig, "vocabSize" | "eosIds">,
  stream: number,
): SlotOptions {
  const need = (ok: boolean, name: string, must: string, value: unknown) => {
    if (!ok) throw new UserError(`${name} must be ${must}, not ${String(value)}`);
  };
  const numbers = Object.fromEntries(
    Object.entries<Rule>(rules).map(([name, { neutral, must, ok }]) => {
      const value = (params[name as keyof Numbers] ?? neutral) as number;
      need(ok(value), inSnakeCase(name), must, value);
      return [name, value];
    }),
  ) as unknown as Numbers;
  const { logitBias } = params;
  const endIds = params.ignoreEos ? [] : [...new Set(params.eosIds ?? eosIds)];
  need(endIds.length <= MAX_ENDS, "the number of end tokens", `at most ${MAX_ENDS}`, endIds.length);
  for (const id of [...endIds, ...(logitBias?.keys() ?? [])]) {
    need(whole(0).ok(id) && id < vocabSize, "a token id", `below the vocabulary size ${vocabSize}`, id);
  }
  for (const [id, bias] of logitBias ?? []) need(Number.isFinite(bias), `logit_bias of ${id}`, "a number", bias);
  return {
    ...numbers,
    minNewTokens: Math.min(numbers.minNewTokens, numbers.maxNewTokens),
    topK: numbers.topK >= vocabSize ? 0 : numbers.topK,
    stream,
    endIds,
    ...(logitBias && logitBias.size > 0 && { logitBias }),
  };
}

const inSnakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const isPenalised = (o: SlotOptions): boolean =>
  o.repetitionPenalty !== 1 || o.presencePenalty !== 0 || o.frequencyPenalty !== 0;

/** What the kernels keep of a sequence's options. */
export function slotState(o: SlotOptions): SlotState {
  const greedy = o.temperature === 0;
  const values = {
    stream: o.stream,
    done: 0,
    length: 0,
    minNew: o.minNewTokens,
    maxNew: o.maxNewTokens,
    seed0: o.seed >>> 0,
    seed1: Math.floor(o.seed / 2 ** 32) >>> 0,
    greedy: Number(greedy),
    it: greedy ? 1 : 1 / o.temperature,
    topK: o.topK,
    topP: o.topP,
    logMinP: o.minP > 0 ? Math.log(o.minP) : -1e30,
    repetition: o.repetitionPenalty,
    presence: o.presencePenalty,
    frequency: o.frequencyPenalty,
    penalised: Number(isPenalised(o)),
  };
  return { values, endIds: o.endIds };
}

/**
 * What the kernels must do for rows with these options (null: an empty slot).
 * @param early whether rows may have fewer tokens than they need before they end
 */
export function slotNeeds(rows: readonly (SlotOptions | null)[], early: boolean): SlotNeeds {
  const any = (test: (o: SlotOptions) => boolean) => rows.some((o) => o !== null && test(o));
  return {
    sampled: any((o) => o.temperature > 0),
    topK: any((o) => o.topK > 0),
    topP: any((o) => o.topP < 1),
    penalty: any(isPenalised),
    biases: biasesOf(rows, early),
  };
}

/** Entries of single logits to change in these rows; null if there are none. */
function biasesOf(rows: readonly (SlotOptions | null)[], early: boolean): Tensor | null {
  const words: number[] = [];
  rows.forEach((options, row) => {
    if (!options) return;
    const waiting = new Set(early && options.minNewTokens > 0 ? options.endIds : []);
    const bias = options.logitBias ?? new Map<number, number>();
    for (const id of new Set([...waiting, ...bias.keys()])) {
      words.push(row, id, floatBits(bias.get(id) ?? 0), waiting.has(id) ? 1 : 0);
    }
  });
  return words.length === 0 ? null : tensor(Uint32Array.from(words), [words.length / 4, 4]);
}

const floatBits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];
