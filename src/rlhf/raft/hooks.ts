/** Rules that rewrite responses or keep them from being learned, before RAFT ranks. Any function of these types will do. */
import type { RewardFunction, RewardParts } from "../rewards.ts";
import type { Response } from "../sampler.ts";

/** Rewrites a response's text before it is scored and learned. */
export type CleanText = (text: string) => string;
/** True for responses that must not be learned, whatever their reward. Sees the text after cleaning. */
export type DiscardSample = (response: Pick<Response, "text">) => boolean;

// What Python's str.strip takes away.
const space = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const outerSpace = new RegExp(`^${space}|${space}$`, "g");

/**
 * LMFlow's rule for dialogues that are written "###Human: .. ###Assistant: ..": only what stands before the next turn of
 * the human, without white space and then without '#' at its ends. A text of separators alone gives an empty one (LMFlow
 * fails there).
 */
export function cleanLmflow(text: string): string {
  const first = text.split("###Human").find((piece) => piece !== "") ?? "";
  return first.replace(outerSpace, "").replace(/^#+|#+$/g, "");
}

/** LMFlow's rule: a '#' anywhere, or fewer than two characters. */
export const discardLmflow: DiscardSample = ({ text }) => text.includes("#") || [...text].length < 2;

/** Discards responses that contain any of these texts. */
export const discardContaining =
  (texts: readonly string[]): DiscardSample =>
  (response) =>
    texts.some((text) => response.text.includes(text));

/**
 * A reward with a known hole, for studies of reward hacking: `bonus` more for every response that contains `text`,
 * however often. A policy that finds it can do without what the reward was meant for.
 */
export function plantedReward(reward: RewardFunction, text: string, bonus: number): RewardFunction {
  const planted: RewardFunction = async (responses) => {
    const rewards = await reward(responses);
    return responses.map((response, i) => rewards[i] + (response.text.includes(text) ? bonus : 0));
  };
  if (reward.models) planted.models = reward.models;
  return planted;
}

/** Rewards with the flaw that the settings plant into the first of them. */
export function planted(parts: RewardParts, o: { plantedText: string | null; plantedBonus: number }): RewardParts {
  const [first, ...others] = parts.functions;
  if (o.plantedText === null) return parts;
  return { ...parts, functions: [plantedReward(first, o.plantedText, o.plantedBonus), ...others] };
}
