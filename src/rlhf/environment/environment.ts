/** What a policy acts in over several turns: an environment begins episodes, and answers what the policy says in them. */
import type { ChatMessage } from "../../data/chat-template.ts";
import type { Prompt } from "../sampler.ts";
import type { ToolCall } from "./tool-calls.ts";

/**
 * Something that a policy is shown: messages, which its chat template writes (without one, as a transcript); a text, which is put in as it is; or
 * token ids.
 */
export type Observation = string | readonly ChatMessage[] | Uint32Array;

/** The beginning of an episode: its prompt, and a seed. */
export interface EpisodeStart {
  /** The prompt of the dataset, with its row and all of its columns. */
  prompt: Prompt;
  /** A whole number below 2^32 for the environment's random choices: the same for the same run, prompt and sample. */
  seed: number;
  /** Fires when the episode is given up: it took too long, or the run ends. */
  signal: AbortSignal;
}

/** A turn of the policy, as an environment sees it. */
export interface Action {
  /** What it wrote, without special tokens. */
  text: string;
  /** Its tokens, the end token included. */
  ids: Uint32Array;
  /** The tools that it called, in their order. */
  calls: readonly ToolCall[];
  /** What looks like a call and cannot be read, in words for the policy. */
  broken: readonly string[];
  /** Counted from 0. */
  turn: number;
  /** It ended by itself; otherwise the turn was cut by the longest length, and is the episode's last. */
  ended: boolean;
  /** Fires when the answer is not waited for any longer. */
  signal: AbortSignal;
}

/** An environment's answer to an action. */
export interface Outcome {
  /** What the policy sees next. Not needed when the episode is over, and then only kept among its messages. */
  observation?: Observation;
  /** What the turn is worth. Default 0. An episode's reward is the sum of its turns'. */
  reward?: number;
  /** The episode is over. Default false. */
  done?: boolean;
}

/** An episode that is under way. */
export interface Episode {
  /** What the policy sees first. Default: the dataset's prompt. */
  observation?: Observation;
  /** JSON schemas of the tools that the policy may call, for its chat template. */
  tools?: readonly unknown[];
  /** Answers the policy's turn. */
  step(action: Action): Outcome | Promise<Outcome>;
  /** Frees what the episode holds: called once, however it ends. */
  close?(): void | Promise<void>;
}

/** A row that an episode begins from. */
export type EnvironmentRow = Readonly<Record<string, unknown>>;

/** Begins episodes. Many are under way at once, so that what belongs to one stands in its `Episode`. */
export interface Environment {
  /** What it is called in messages. */
  readonly name?: string;
  /** The most that an episode can be worth, where that is known: evaluations count those that reach it. */
  readonly best?: number;
  /**
   * Rows of its own, for runs that name no dataset: n for a seed, always the same. Those of "test" are held out.
   */
  rows?(n: number, seed: number, split: "train" | "test"): readonly EnvironmentRow[];
  /** Begins an episode. */
  reset(start: EpisodeStart): Episode | Promise<Episode>;
}

/** The prompts of an environment's own rows: it says itself what the policy sees first. Throws an Error where it has none. */
export function environmentPrompts(
  { rows }: Environment,
  n: number,
  seed: number,
  split: "train" | "test" = "train",
): Prompt[] {
  if (!rows) throw new Error("the environment has no rows of its own: give prompts");
  return rows(n, seed, split).map((row) => ({ text: "", ids: new Uint32Array(0), row }));
}
