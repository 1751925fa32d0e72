/** Rewards for the shape of a response: tags, patterns, length, repetition. Names and rules are TRL's and open-r1's where they have them. */
import { predictedTokens } from "../batch.ts";
import type { Response } from "../sampler.ts";

/** Tokens of a response, its end included; of an episode those that the policy wrote. */
export const responseLength = (response: Response): number => predictedTokens(response);

/** 1 where the reasoning stands between `<think>` and `</think>` at the beginning, and there once (TRL's think_format_reward). */
export const thinkFormat = (text: string): number => {
  if (!text.startsWith("<think>")) return 0;
  const rest = text.slice("<think>".length);
  return !rest.includes("<think>") && rest.includes("</think>") ? 1 : 0;
};

/** The part of the tags that stand exactly once (open-r1's tag_count_reward: a quarter for each of four). */
export function tagCount(text: string, names: readonly string[]): number {
  const tags = names.flatMap((name) => [`<${name}>`, `</${name}>`]);
  return tags.filter((tag) => text.split(tag).length === 2).length / tags.length;
}

/** 0 for n-grams of tokens that all differ, towards `most` for one again and again (Yeo et al. 2025, Appendix C.2). */
export function repetitionPenalty(ids: ArrayLike<number>, size: number, most: number): number {
  const count = ids.length - size + 1;
  if (count < 1) return 0;
  const seen = new Set<string>();
  const all = Array.from(ids);
  for (let i = 0; i < count; i++) seen.add(all.slice(i, i + size).join(" "));
  return seen.size === count ? 0 : (1 - seen.size / count) * most;
}

/** The cosine schedule of Yeo et al. 2025, Appendix C.1: short and right is best, short and wrong is worst. */
export function cosineScaled(
  right: boolean,
  length: number,
  o: { max_len: number; min_wrong: number; max_wrong: number; min_correct: number; max_correct: number },
): number {
  const [low, high] = right ? [o.min_correct, o.max_correct] : [o.max_wrong, o.min_wrong];
  return low + 0.5 * (high - low) * (1 + Math.cos(Math.min(length / o.max_len, 1) * Math.PI));
}
