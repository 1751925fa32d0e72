/** Episodes in files of responses: who wrote which of a response's tokens, and what each turn was worth. */
import { UserError } from "../runtime/errors.ts";
import type { ChatMessage } from "./chat-template.ts";
import { checkMessages } from "./messages.ts";

/** A turn that the policy wrote. */
export interface SampledTurn {
  /** Of its first token, counted in prompt and response together; all up to `end` are the policy's. */
  start: number;
  end: number;
  text: string;
  /** The tools that it called. */
  calls: readonly unknown[];
  reward: number;
}

/** A response that is an episode in an environment. */
export interface SampledEpisode {
  /** What the policy saw first, as text and as tokens. */
  prompt: string;
  promptIds: number[];
  turns: SampledTurn[];
  /** The conversation, where there is one. */
  messages?: ChatMessage[];
}

/** An episode as it stands in a file. */
export const episodeColumns = ({ prompt, promptIds, turns, messages }: SampledEpisode): Record<string, unknown> => ({
  prompt,
  prompt_ids: promptIds,
  turns,
  ...(messages && { messages }),
});

/**
 * Reads an episode from a file.
 * @param tokens how many the response has
 * @throws UserError naming the place
 */
export function readEpisode(value: unknown, tokens: number, where: string): SampledEpisode {
  const { prompt, prompt_ids: promptIds, turns, messages } = (value ?? {}) as Record<string, unknown>;
  const isWhole = (x: unknown): x is number => Number.isInteger(x) && (x as number) >= 0;
  if (typeof prompt !== "string" || !Array.isArray(promptIds) || !promptIds.every(isWhole) || !Array.isArray(turns)) {
    throw new UserError(`${where} must be {"prompt": text, "prompt_ids": token ids, "turns": list}`);
  }
  let before = promptIds.length;
  for (const [i, turn] of turns.entries()) {
    const { start, end, text, calls, reward } = (turn ?? {}) as Partial<SampledTurn>;
    const isPlaced =
      isWhole(start) && isWhole(end) && start >= before && end >= start && end <= promptIds.length + tokens;
    if (!isPlaced || typeof text !== "string" || !Array.isArray(calls) || !Number.isFinite(reward)) {
      throw new UserError(`${where}: turn ${i + 1} must have start, end, text, calls and reward, within the response`);
    }
    before = end;
  }
  return {
    prompt,
    promptIds,
    turns,
    ...(messages !== undefined && { messages: checkMessages(messages, "messages", where) }),
  };
}
