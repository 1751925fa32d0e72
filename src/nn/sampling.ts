/**
 * How responses are sampled: every sampling parameter, as callers say it, with its default, its limits, and what the kernels
 * are told of it. One more is a line in each of these, and its field and formula in the shader: settings, flags and requests
 * have it from here.
 */
import { UserError } from "../runtime/errors.ts";
import { snakeCase } from "../runtime/names.ts";
import { philox } from "../runtime/rng.ts";
import { type Tensor, tensor } from "../tensor/core.ts";
import { MAX_ENDS, SAMPLE_DOMAIN, type SlotNeeds, type SlotState } from "../tensor/ops/sample.ts";
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

/** What a number among the parameters may be. */
interface Limits {
  /** Where it does nothing. */
  neutral?: number;
  min?: number;
  max?: number;
  /** `min` itself is not allowed. */
  exclusiveMin?: boolean;
  whole?: boolean;
}

/** A parameter that says which tokens are taken, or how surely. */
interface Choice extends Limits {
  neutral: number;
  min: number;
  /** For `--help`, without its full stop. */
  help: string;
  /** From where to where requests to a server and a model's generation_config.json may have it. */
  asked: readonly [min: number, max: number];
}

/**
 * The parameters that are known wherever responses are sampled: trainers and verbs have settings, flags and checks of them,
 * servers read them in requests, and are asked for them in turn.
 */
export const samplingChoices = {
  temperature: { neutral: 1, min: 0, help: "Sampling temperature", asked: [0, 100] },
  topP: {
    neutral: 1,
    min: 0,
    max: 1,
    exclusiveMin: true,
    help: "Sample from the fewest tokens with this much probability",
    asked: [1e-6, 1],
  },
  topK: {
    neutral: 0,
    min: 0,
    whole: true,
    help: "Sample from this many likeliest tokens; 0 takes all",
    asked: [0, 1e9],
  },
  minP: {
    neutral: 0,
    min: 0,
    max: 1,
    help: "Sample from tokens with this share of the likeliest one's probability",
    asked: [0, 1],
  },
  repetitionPenalty: {
    neutral: 1,
    min: 0,
    exclusiveMin: true,
    help: "Divides the logits of tokens that were there before",
    asked: [1e-3, 1e3],
  },
} as const satisfies Partial<Record<keyof SamplingParams, Choice>>;

/** The name of one of `samplingChoices`. */
export type SamplingChoice = keyof typeof samplingChoices;

/** Each of `samplingChoices` with its name, and its name in requests, files and flags. */
export const eachChoice: readonly (readonly [name: SamplingChoice, snake: string, choice: Choice])[] = Object.entries(
  samplingChoices,
).map(([name, choice]) => [name as SamplingChoice, snakeCase(name), choice]);

const limits = {
  maxNewTokens: { min: 1, whole: true },
  minNewTokens: { neutral: 0, min: 0, whole: true },
  ...samplingChoices,
  presencePenalty: { neutral: 0 },
  frequencyPenalty: { neutral: 0 },
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
} satisfies Partial<Record<keyof SamplingParams, Limits>>;

const fits = (value: number, { min = -Infinity, max = Infinity, exclusiveMin, whole }: Limits): boolean =>
  (whole ? Number.isSafeInteger(value) : Number.isFinite(value)) &&
  (exclusiveMin ? value > min : value >= min) &&
  value <= max;

function inWords({ min, max, exclusiveMin, whole }: Limits): string {
  const least = min === undefined ? "" : exclusiveMin ? ` above ${min}` : ` of at least ${min}`;
  const most = max === undefined || max === Number.MAX_SAFE_INTEGER ? "" : ` and at most ${max}`;
  return `${whole ? "a whole number" : "a number"}${least}${most}`;
}

type Numbers = { readonly [K in keyof typeof limits]: number };

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
    Object.entries<Limits>(limits).map(([name, limit]) => {
      const value = (params[name as keyof Numbers] ?? limit.neutral) as number;
      need(fits(value, limit), snakeCase(name), inWords(limit), value);
      return [name, value];
    }),
  ) as unknown as Numbers;
  const { logitBias } = params;
  const endIds = params.ignoreEos ? [] : [...new Set(params.eosIds ?? eosIds)];
  need(endIds.length <= MAX_ENDS, "the number of end tokens", `at most ${MAX_ENDS}`, endIds.length);
  for (const id of [...endIds, ...(logitBias?.keys() ?? [])]) {
    need(
      fits(id, { min: 0, max: vocabSize - 1, whole: true }),
      "a token id",
      `below the vocabulary size ${vocabSize}`,
      id,
    );
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

const isPenalised = (o: SlotOptions): boolean =>
  o.repetitionPenalty !== 1 || o.presencePenalty !== 0 || o.frequencyPenalty !== 0;

/**
 * What the kernels keep of a sequence's options.
 * @param drawn tokens of the response that are there already
 * @param top how many of the most probable tokens are asked for
 */
export function slotState(o: SlotOptions, drawn = 0, top = 1): SlotState {
  const greedy = o.temperature === 0;
  const values = {
    stream: o.stream,
    done: 0,
    length: drawn,
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
    noTop: Number(top === 0),
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

/**
 * What is added to a token's log-probability, at the sampling temperature, before the largest is taken: the noise of a response's
 * random numbers, as the kernels compute it.
 * @param step tokens that the response has already
 */
export function drawingNoise(seed: number, stream: number, step: number, token: number): number {
  const words = philox(seed >>> 0, Math.floor(seed / 2 ** 32), stream, step, token >>> 2, SAMPLE_DOMAIN);
  return -Math.log(-Math.log1p(-(words[token & 3] + 0.5) / 2 ** 32));
}
