/**
 * Sampling cut into jobs. A job is a pure function of its message and of the policy that it names: who runs it, when, and what
 * else is run beside it changes no bit of its result. Local sampling goes through the same jobs, so that responses drawn
 * elsewhere on the same kind of adapter are those that would have been drawn here.
 */
import type { KvCacheFormat } from "../nn/cache.ts";
import { type GenerateOptions, generate } from "../nn/generate.ts";
import type { CausalLM } from "../nn/models.ts";
import { uint32 } from "../runtime/rng.ts";
import { responseLogProbs } from "./measure.ts";

/** How the responses of a job are drawn: all of it is data that can be sent. */
export interface JobSampling extends Omit<GenerateOptions, "streams" | "signal" | "logitBias"> {
  /** Added to the logits of single tokens: their ids with what is added. */
  logitBias?: readonly (readonly [id: number, bias: number])[];
  /** Temperature that log-probabilities are measured at, whatever the responses are drawn at. Default 1. */
  measuredAt?: number;
  /** The policy computes in f16: see `Model.half`. Default: as it does. */
  half?: boolean;
  /** How the policy keeps keys and values: see `Model.kvCache`. Default: as it does. */
  kvCache?: KvCacheFormat;
  /** The policy's bits do not depend on what is computed beside them: see `Model.batchInvariant`. Default: as it does. */
  batchInvariant?: boolean;
}

/** Responses to draw together. */
export interface SamplingJob extends JobSampling {
  /** The same in every run of the same settings: "<iteration>/<number>". */
  id: string;
  /** The policy that is to draw: how many updates it has had. */
  version: number;
  /** Token ids. */
  prompts: readonly Uint32Array[];
  /** Name each response's random numbers, prompt by prompt; `samples` for each. */
  streams: Uint32Array;
  samples: number;
}

/** A response of a job. */
export interface JobResponse {
  /** The response's tokens, its end token included. */
  ids: Uint32Array;
  /**
   * Of each token under the policy that drew it, at the job's `measuredAt`; at 1 with the rounding of its `kvCache`. Servers may
   * not say them.
   */
  logProbs?: Float32Array;
  /** It ended by itself. */
  ended: boolean;
  /** Its text as a server gave it; otherwise the text is that of its ids. */
  text?: string;
}

/** The responses that a job drew. */
export interface JobResult {
  /** The job's. */
  id: string;
  /** The policy that drew. */
  version: number;
  /** Prompt by prompt. */
  responses: JobResponse[];
}

/** How an iteration is cut into jobs. */
export interface JobsOptions extends Omit<JobSampling, "logitBias" | "samples">, Pick<GenerateOptions, "logitBias"> {
  /** Responses per prompt. Default 1. */
  samples?: number;
  /** Separates the random numbers of one iteration from the next. */
  iteration: number;
  /**
   * Ids of the prompts that the iteration has drawn for before, where it draws more than once: its random numbers, and the names of
   * its jobs, go on from there. Default: none.
   */
  after?: readonly number[];
  /** The policy that is to draw. Default: `iteration`, which is the newest. */
  version?: number;
  /** Prompts in one job. Default: as many as `generate` decodes at once, which is what fills a GPU: see `promptsPerJob`. */
  promptsPerJob?: number | null;
}

/** Responses that `generate` decodes at once. */
const RESPONSES = 256;

/**
 * Prompts in one job: as many as `generate` decodes at once (256 responses), so that a job fills a GPU and sampling here is as fast
 * as without jobs. More would not be decoded together; fewer share better among several machines.
 */
export const promptsPerJob = (samples: number): number => Math.max(1, Math.floor(RESPONSES / samples));

/**
 * For each id, how often it stands before: a prompt that comes twice in one iteration must not get the same responses.
 * @param after ids that come before all of them
 */
export function earlierOnes(ids: ArrayLike<number>, after: readonly number[] = []): number[] {
  const seen = new Map<number, number>();
  for (const id of after) seen.set(id, (seen.get(id) ?? 0) + 1);
  return Array.from(ids, (id) => {
    const before = seen.get(id) ?? 0;
    seen.set(id, before + 1);
    return before;
  });
}

/**
 * Cuts an iteration into jobs of one shape; the last one has what is left. The random numbers are keyed by (seed, iteration,
 * prompt id, sample, token): they do not depend on how it is cut.
 * @param promptIds stable numbers of the prompts, e.g. their places in the dataset
 */
export function jobsOf(
  prompts: readonly Uint32Array[],
  promptIds: ArrayLike<number>,
  options: JobsOptions,
): SamplingJob[] {
  const {
    iteration,
    version = iteration,
    promptsPerJob: asked,
    samples = 1,
    logitBias,
    after = [],
    ...others
  } = options;
  const size = asked ?? promptsPerJob(samples);
  const earlier = earlierOnes(promptIds, after);
  const jobs: SamplingJob[] = [];
  for (let first = 0; first < prompts.length; first += size) {
    const own = prompts.slice(first, first + size);
    const streams = Uint32Array.from({ length: own.length * samples }, (_, i) => {
      const at = first + Math.floor(i / samples);
      return uint32(others.seed, iteration, promptIds[at], earlier[at] * samples + (i % samples));
    });
    const id = `${iteration}/${after.length + jobs.length}`;
    const bias = logitBias && { logitBias: [...logitBias] };
    jobs.push({ ...others, ...bias, id, version, prompts: own, streams, samples });
  }
  return jobs;
}

/**
 * Draws a job's responses. The model must be the policy of the job's version; it is left as it was.
 * @param signal stops it between decode steps: the promise is rejected with the signal's reason
 * @throws UserError as `generate` does
 */
export async function runJob(model: CausalLM, job: SamplingJob, signal?: AbortSignal): Promise<JobResult> {
  const { id, version, prompts, measuredAt = 1, half, kvCache, batchInvariant, logitBias, ...options } = job;
  const drawn = await computing(model, { half, kvCache, batchInvariant }, async () => {
    const bias = logitBias && { logitBias: new Map(logitBias) };
    const responses = await generate(model, prompts, { ...options, ...bias, ...(signal && { signal }) });
    if (measuredAt === 1) return responses;
    const sequences = responses.map(({ prompt, ids }) => whole(prompts[prompt], ids));
    const { logProbs } = await responseLogProbs(model, sequences, measuredAt);
    return responses.map((response, i) => ({ ...response, logProbs: logProbs[i] }));
  });
  return { id, version, responses: drawn.map(({ ids, logProbs, ended }) => ({ ids, logProbs, ended })) };
}

/** A prompt with its response. */
export function whole(prompt: Uint32Array, response: Uint32Array): { ids: Uint32Array; promptLength: number } {
  const ids = new Uint32Array(prompt.length + response.length);
  ids.set(prompt);
  ids.set(response, prompt.length);
  return { ids, promptLength: prompt.length };
}

/** Has a model compute in some way for the time of some work. */
async function computing<R>(
  model: CausalLM,
  {
    half = model.half,
    kvCache = model.kvCache,
    batchInvariant = model.batchInvariant,
  }: Pick<JobSampling, "half" | "kvCache" | "batchInvariant">,
  work: () => Promise<R>,
): Promise<R> {
  const before = { half: model.half, kvCache: model.kvCache, batchInvariant: model.batchInvariant };
  if (half !== before.half) model.half = half;
  model.kvCache = kvCache;
  model.batchInvariant = batchInvariant;
  try {
    return await work();
  } finally {
    if (half !== before.half) model.half = before.half;
    model.kvCache = before.kvCache;
    model.batchInvariant = before.batchInvariant;
  }
}
