/**
 * The built-in world: tiny stories made by a seeded generator instead of a data file, with an exact gold reward, so that
 * the truth behind every trainer's result is known.
 */
import { RandomStream, streamId } from "../runtime/rng.ts";
import type { PromptCompletion } from "./records.ts";
import { goldReward } from "./world/gold.ts";
import { type WorldPreference, type WorldRule, worldJudgement, worldPairs } from "./world/judges.ts";
import { type WorldSplit, worldPrompts } from "./world/prompts.ts";
import { worldCompletion } from "./world/stories.ts";

export { type GoldBreakdown, goldBreakdown, goldReward } from "./world/gold.ts";
export {
  type WorldLabeller,
  type WorldPair,
  type WorldPreference,
  type WorldRule,
  worldChance,
  worldJudgement,
  worldJudges,
  worldLabellers,
  worldLabels,
  worldPairs,
  worldWorth,
} from "./world/judges.ts";
export { parseWish, type Wish, type WorldSplit, wishText, worldPrompts } from "./world/prompts.ts";
export { worldCompletion } from "./world/stories.ts";
export { worldTokenizer } from "./world/tokenizer.ts";

/** n stories of mixed quality to learn from, on training prompts. */
export function worldSftRecords(n: number, seed: number, split: WorldSplit = "train"): PromptCompletion[] {
  return worldPrompts(n, seed, split).map((prompt, i) => ({
    kind: "prompt_completion",
    prompt,
    completion: worldCompletion(prompt, seed, undefined, i),
    where: `world/${split}:${i}`,
  }));
}

/** Parts of some stories by what they are truly worth. */
export const worldQualities = {
  "better-half": [0, 0.5],
  "worse-half": [0.5, 1],
  "best-tenth": [0, 0.1],
} as const satisfies Record<string, readonly [from: number, to: number]>;

/** A part of some stories by what they are truly worth. */
export type WorldQuality = keyof typeof worldQualities;

/**
 * The stories of a part by the true reward, in their order: the better or the worse half, or the best tenth. Of equal ones the
 * earlier count as better.
 */
export function worldPart(records: readonly PromptCompletion[], part: WorldQuality): PromptCompletion[] {
  const [from, to] = worldQualities[part].map((share) => Math.round(share * records.length));
  const worth = records.map(({ prompt, completion }) => goldReward(prompt, completion));
  const order = records.map((_, i) => i).sort((a, b) => worth[b] - worth[a] || a - b);
  const taken = new Set(order.slice(from, to));
  return records.filter((_, i) => taken.has(i));
}

/** How the preferences of the built-in world are made. */
export interface PreferenceOptions {
  /** The judge prefers a over b with probability sigmoid((gold(a) - gold(b)) / temperature); default 0.25. */
  temperature?: number;
  /** A judge with a rule of their own, such as one of `worldJudges`; its temperature where `temperature` is not given. */
  judge?: WorldRule;
  split?: WorldSplit;
}

/** n pairs of different stories of the generator, judged with Bradley-Terry noise. */
export function worldPreferences(n: number, seed: number, options: PreferenceOptions = {}): WorldPreference[] {
  const { temperature, judge = {}, split = "train" } = options;
  const rule = { ...judge, ...(temperature !== undefined && { temperature }) };
  return worldPairs(n, seed, split).map((pair, i) => {
    const doubt = new RandomStream(seed, i, streamId(`world/judge/${split}`));
    return { ...worldJudgement(rule, pair, doubt.uniform()), where: `world/${split}:${i}` };
  });
}

/**
 * Lets the judge of the truth choose between two completions.
 * @param draw a uniform number in [0, 1)
 */
export const judgePair = (prompt: string, a: string, b: string, temperature: number, draw: number): WorldPreference =>
  worldJudgement({ temperature }, { prompt, first: a, second: b }, draw);

/** The share of these pairs that a perfect judge without noise would call as they are labelled, in expectation. */
export function bayesAccuracy(pairs: readonly { certainty: number }[]): number {
  return pairs.reduce((sum, pair) => sum + pair.certainty, 0) / pairs.length;
}
