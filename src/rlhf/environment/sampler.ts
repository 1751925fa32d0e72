/**
 * Responses that are episodes in an environment. All of a rollout are played at once over the slots of one engine: while an
 * environment thinks, the others' turns are drawn.
 */
import { Engine } from "../../nn/engine.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { SamplingParams } from "../../nn/sampling.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { isUserError, UserError } from "../../runtime/errors.ts";
import { streamId, uint32 } from "../../runtime/rng.ts";
import { earlierOnes } from "../jobs.ts";
import { responseLogProbs } from "../measure.ts";
import type { Prompt, Response, Sampler, SamplingOptions } from "../sampler.ts";
import { average } from "../stats.ts";
import type { Environment } from "./environment.ts";
import { type Begun, beginEpisode, type DrawTurn, type EpisodeLimits, endEpisode, playEpisode } from "./episode.ts";
import type { EnvironmentSettings } from "./settings.ts";

/** Sequences that are decoded at once. */
const SLOTS = 256;
/** Decode steps between reads, at most. */
const MOST_STEPS = 16;

/** Who plays episodes, and how. */
export interface EnvironmentSamplerOptions
  extends Pick<EnvironmentSettings, "maxTurns" | "environmentTimeout" | "environmentFailure"> {
  policy: CausalLM;
  tokenizer: TextTokenizer;
  environment: Environment;
  /** Temperature that the log-probabilities of responses are measured at. Default: that of none, 1. */
  measuredAt?: number | null;
  /** Hears why responses were left out. */
  dropped?: (reason: string) => void;
}

/** One episode of a rollout. */
interface Seat {
  prompt: number;
  sample: number;
  where: string;
  /** Names the random numbers of its turns. */
  stream(turn: number): number;
  seed: number;
}

/**
 * A sampler whose responses are episodes. The random numbers are keyed by (seed, iteration, prompt id, sample, turn, token), those
 * of a first turn as those of a response without an environment.
 * @throws UserError naming the prompt, where an environment fails, unless that leaves the prompt's responses out; where all fail, always
 */
export function environmentSampler(o: EnvironmentSamplerOptions): Sampler {
  // Turns as long as those of the rollout before are read when they end, rather than long after. It changes no response.
  const pace = { steps: 4 };
  return async (prompts, promptIds, options) => {
    const seats = seatsOf(prompts, promptIds, options);
    const stop = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
    const limits: EpisodeLimits = {
      maxTurns: o.maxTurns,
      maxTokens: options.maxNewTokens,
      maxLength: options.maxLength ?? Number.POSITIVE_INFINITY,
      timeout: o.environmentTimeout * 1000,
      ends: options.ignoreEos ? [] : (options.eosIds ?? o.policy.config.eosIds),
      stopped: new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      }),
    };
    limits.stopped.catch(() => {}); // who waits for it hears of it
    signal.throwIfAborted();
    const failed = new Map<number, unknown>();
    /** What comes of a part of an episode; null where that failed and the run goes on. */
    const kept = async <T>({ prompt }: Seat, work: Promise<T>): Promise<T | null> => {
      try {
        return await work;
      } catch (error) {
        if (o.environmentFailure === "stop" || !isUserError(error)) stop.abort(error);
        // What is given up thereby fails for the same reason.
        signal.throwIfAborted();
        if (!failed.has(prompt)) failed.set(prompt, error);
        return null;
      }
    };
    const open: Begun[] = [];
    const begin = async (seat: Seat) => {
      const begun = await beginEpisode(o.environment, { ...seat, prompt: prompts[seat.prompt] }, o.tokenizer, limits);
      open.push(begun);
      return begun;
    };
    let responses: (Response | null)[];
    try {
      const begun = await all(seats.map((seat) => kept(seat, begin(seat))));
      responses = await played(o, prompts, seats, begun, options, limits, kept, pace);
    } finally {
      await Promise.all(open.map(({ episode }) => endEpisode(episode))); // some were never played
    }
    const turns = responses.flatMap((response) => response?.turns ?? []);
    const length = average(turns.map(({ start, end }) => end - start));
    if (turns.length > 0) pace.steps = Math.min(MOST_STEPS, Math.ceil(length));
    for (const error of failed.values()) o.dropped?.((error as Error).message);
    const whole = responses.filter(
      (response): response is Response => response !== null && !failed.has(response.prompt),
    );
    if (whole.length === 0) throw failed.values().next().value;
    const { measuredAt } = o;
    if (measuredAt !== undefined && measuredAt !== null && measuredAt !== 1) {
      const { logProbs } = await responseLogProbs(o.policy, whole, measuredAt);
      for (const [i, response] of whole.entries()) response.logProbs = logProbs[i];
    }
    await options.onResponses?.(whole);
    return whole;
  };
}

function seatsOf(
  prompts: readonly Prompt[],
  promptIds: ArrayLike<number>,
  { samples = 1, seed, iteration, after }: SamplingOptions,
): Seat[] {
  const earlier = earlierOnes(promptIds, after);
  return prompts.flatMap((_, prompt) =>
    Array.from({ length: samples }, (_, sample): Seat => {
      const id = promptIds[prompt];
      const own = earlier[prompt] * samples + sample;
      return {
        prompt,
        sample,
        where: `prompt ${id}, sample ${sample}`,
        stream: (turn) => uint32(seed, iteration, id, own, turn),
        seed: uint32(seed, iteration, id, own, streamId("environment")),
      };
    }),
  );
}

/** Plays the episodes that have begun, all at once. */
async function played(
  { policy }: EnvironmentSamplerOptions,
  prompts: readonly Prompt[],
  seats: readonly Seat[],
  begun: readonly (Begun | null)[],
  options: SamplingOptions,
  limits: EpisodeLimits,
  kept: <T>(seat: Seat, work: Promise<T>) => Promise<T | null>,
  pace: { steps: number },
): Promise<(Response | null)[]> {
  const { maxLength = Number.POSITIVE_INFINITY, maxNewTokens, samples: _, iteration: __, ...others } = options;
  const { onResponses: ___, promptsPerJob: ____, batchSize: _____, signal: ______, after: _______, ...params } = others;
  const longest = begun.reduce((most, one) => Math.max(most, one?.transcript.promptLength ?? 0), 0);
  if (longest === 0) return seats.map(() => null);
  const capacity = Math.max(longest + 1, Math.min(longest + maxNewTokens, maxLength));
  const { maxPositions } = policy.config;
  if (capacity > maxPositions) {
    const { where, transcript } = begun.find((one) => one?.transcript.promptLength === longest) as Begun;
    throw new UserError(
      `${where}: the policy sees ${transcript.promptLength} tokens first; with ${capacity - longest} more they exceed the context of ` +
        `${maxPositions}: show less, or shorten the response`,
    );
  }
  const engine = new Engine(policy, { slots: Math.min(SLOTS, seats.length), capacity, stepsPerRead: pace.steps });
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= engine.close();
    return closed;
  };
  limits.stopped.catch(close);
  try {
    return await all(
      seats.map(async (seat, i): Promise<Response | null> => {
        const own = begun[i];
        if (!own) return null;
        const draw = drawnBy(engine, params, seat);
        const response = await kept(seat, playEpisode(own, draw, limits));
        const { target, row } = prompts[seat.prompt];
        const given = { ...(target !== undefined && { target }), ...(row && { row }) };
        return (
          response && { ...response, ...given, prompt: seat.prompt, sample: seat.sample, version: options.iteration }
        );
      }),
    );
  } finally {
    await close();
  }
}

/** Draws turns with an engine's next free slot. */
const drawnBy =
  (engine: Engine, params: Omit<SamplingParams, "maxNewTokens">, { stream }: Seat): DrawTurn =>
  async (ids, maxNewTokens, turn) => {
    const drawn = { ids: [] as number[], logProbs: [] as number[], ended: false };
    const request = { ids, params: { ...params, maxNewTokens }, streams: [stream(turn)] };
    for await (const piece of engine.submit(request)) {
      drawn.ids.push(...piece.ids);
      drawn.logProbs.push(...piece.logProbs);
      if (piece.finish === "stop") drawn.ended = true;
    }
    return drawn;
  };

/** All of these; the first failure once nothing is under way any more. */
async function all<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(work);
  const broken = outcomes.find((outcome) => outcome.status === "rejected");
  if (broken) throw broken.reason;
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<T>).value);
}
