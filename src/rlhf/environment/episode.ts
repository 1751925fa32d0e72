/** One episode: the policy and the environment take turns until it is over, or cut off. */
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Prompt, Response } from "../sampler.ts";
import type { Environment, Episode, Outcome } from "./environment.ts";
import { toolCalls } from "./tool-calls.ts";
import { inEpisode, Transcript } from "./transcript.ts";
import type { Turn } from "./turn.ts";

/** A turn that a policy drew. */
export interface DrawnTurn {
  ids: ArrayLike<number>;
  /** Of each token under the policy that drew it, untempered. */
  logProbs: ArrayLike<number>;
  /** Its last token ends it. */
  ended: boolean;
}

/** Draws the policy's next turn behind tokens. `turn`, counted from 0, names its random numbers. */
export type DrawTurn = (context: Uint32Array, maxNewTokens: number, turn: number) => Promise<DrawnTurn>;

/** How an episode is played. */
export interface EpisodeLimits {
  maxTurns: number;
  /** Tokens behind the prompt, the environment's among them. */
  maxTokens: number;
  /** Longest prompt and response together. */
  maxLength: number;
  /** Milliseconds that the environment may take for one answer. */
  timeout: number;
  /** Ids that end a turn. */
  ends: readonly number[];
  /** Is rejected when all episodes are given up, with the reason. */
  stopped: Promise<never>;
}

/** An episode that has begun. */
export interface Begun {
  episode: Episode;
  transcript: Transcript;
  /** Where it is, for messages: "prompt 3, sample 1". */
  where: string;
}

const ended = new WeakSet<Episode>();

/** Closes an episode, once. */
export async function endEpisode(episode: Episode): Promise<void> {
  if (ended.has(episode)) return;
  ended.add(episode);
  try {
    await episode.close?.();
  } catch {
    // What came of the episode is known.
  }
}

/**
 * Begins an episode.
 * @throws UserError that names the prompt, for whatever the environment throws, and where it takes too long
 */
export async function beginEpisode(
  environment: Environment,
  { prompt, seed, where }: { prompt: Prompt; seed: number; where: string },
  tokenizer: TextTokenizer,
  limits: Pick<EpisodeLimits, "timeout" | "stopped">,
): Promise<Begun> {
  const about = `${environment.name ?? "the environment"}, ${where}`;
  let episode: Episode | undefined;
  try {
    episode = await answered((signal) => environment.reset({ prompt, seed, signal }), limits);
    if (typeof episode?.step !== "function")
      throw new UserError("reset gives an episode, an object with a step function");
    return { episode, transcript: new Transcript(tokenizer, prompt, episode), where: about };
  } catch (error) {
    if (typeof episode === "object" && episode !== null) await endEpisode(episode);
    throw inEpisode(`${about}, at its beginning`, error);
  }
}

/**
 * Plays an episode to its end. The response's tokens are all that follow the prompt, of which only the policy's are learned.
 * @throws UserError that names the prompt and the turn, as `beginEpisode`
 */
export async function playEpisode(
  { episode, transcript, where }: Begun,
  draw: DrawTurn,
  limits: EpisodeLimits,
): Promise<
  Pick<
    Response,
    "ids" | "promptLength" | "promptText" | "text" | "ended" | "logProbs" | "messages" | "turns" | "learned"
  >
> {
  const { promptLength, promptText } = transcript;
  const most = Math.min(limits.maxLength, promptLength + limits.maxTokens);
  const turns: Turn[] = [];
  const logProbs: number[] = [];
  let over = false;
  try {
    for (let turn = 0; turn < limits.maxTurns && !over; turn++) {
      const start = transcript.ids.length;
      const room = turn === 0 ? Math.max(1, most - start) : most - start;
      if (room < 1) break;
      const drawn = await draw(Uint32Array.from(transcript.ids), room, turn);
      const { text, raw } = transcript.wrote(drawn.ids);
      for (const logProb of Array.from(drawn.logProbs)) logProbs.push(logProb);
      const { calls, broken } = toolCalls(raw);
      const action = { text, ids: Uint32Array.from(drawn.ids), calls, broken, turn, ended: drawn.ended };
      let reply: ArrayLike<number> | null = null;
      try {
        const outcome = await answered((signal) => episode.step({ ...action, signal }), limits);
        const { reward = 0, done = false, observation } = checked(outcome, drawn.ended);
        turns.push({ start, end: transcript.ids.length, text, calls, reward });
        over = done && drawn.ended;
        // A turn that was cut ends the episode, whatever the environment says.
        if (done || !drawn.ended) {
          transcript.closed(observation);
          break;
        }
        reply = transcript.reply(observation as NonNullable<typeof observation>, limits.ends);
        // Nobody would see what leaves no room for an answer.
        if (turn + 1 === limits.maxTurns || transcript.ids.length + reply.length >= most) {
          transcript.closed(observation);
          break;
        }
        transcript.said(observation as NonNullable<typeof observation>, reply);
      } catch (error) {
        throw inEpisode(`${where}, turn ${turn + 1}`, error);
      }
    }
  } finally {
    await endEpisode(episode);
  }
  const { messages } = transcript;
  return {
    ids: Uint32Array.from(transcript.ids),
    learned: Uint8Array.from(transcript.written),
    promptLength,
    promptText,
    text: transcript.text,
    ended: over,
    logProbs: Float32Array.from(logProbs),
    turns,
    ...(messages && { messages }),
  };
}

/**
 * What an environment answered.
 * @param ended the turn that it answers ended by itself
 * @throws UserError for what is no answer
 */
export function checked(outcome: Outcome, ended: boolean): Outcome {
  if (typeof outcome !== "object" || outcome === null) {
    throw new UserError(`step gives {observation, reward, done}, not ${JSON.stringify(outcome)}`);
  }
  const { reward = 0, done = false, observation } = outcome;
  if (typeof reward !== "number" || !Number.isFinite(reward)) {
    throw new UserError(`step gave the reward ${JSON.stringify(reward) ?? String(reward)}: it must be a finite number`);
  }
  if (!done && ended && (observation === undefined || observation.length === 0)) {
    throw new UserError("step gave nothing for the policy to go on from: give an observation, or done: true");
  }
  return outcome;
}

/** What an environment answers, unless it takes too long. */
export async function answered<T>(
  ask: (signal: AbortSignal) => T | Promise<T>,
  { timeout, stopped }: Pick<EpisodeLimits, "timeout" | "stopped">,
): Promise<T> {
  const given = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new UserError(`no answer within ${timeout / 1000} seconds (environment_timeout)`);
    timer = setTimeout(() => reject(error), timeout);
  });
  try {
    return await Promise.race([Promise.resolve().then(() => ask(given.signal)), late, stopped]);
  } catch (error) {
    given.abort(error);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
