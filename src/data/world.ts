/**
 * The built-in world: tiny stories made by a seeded generator instead of a data file, with an exact gold reward, so that
 * the truth behind every trainer's result is known.
 */
import { RandomStream, streamId } from "../runtime/rng.ts";
import type { Preference, PromptCompletion } from "./records.ts";
import { goldReward } from "./world/gold.ts";
import { type WorldSplit, worldPrompts } from "./world/prompts.ts";
import { worldCompletion } from "./world/stories.ts";

export { type GoldBreakdown, goldBreakdown, goldReward } from "./world/gold.ts";
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

/** A preference of a judge who follows the gold reward, with noise. */
export interface WorldPreference extends Preference {
  goldChosen: number;
  goldRejected: number;
  /** The chance with which the judge prefers the truly better story. */
  certainty: number;
}

/** How the preferences of the built-in world are made. */
export interface PreferenceOptions {
  /** The judge prefers a over b with probability sigmoid((gold(a) - gold(b)) / temperature); default 0.25. */
  temperature?: number;
  split?: WorldSplit;
}

/** n pairs of different stories of the generator, judged with Bradley-Terry noise. */
export function worldPreferences(n: number, seed: number, options: PreferenceOptions = {}): WorldPreference[] {
  const { temperature = 0.25, split = "train" } = options;
  return worldPrompts(n, seed, split).map((prompt, i) => {
    const first = worldCompletion(prompt, seed, undefined, 2 * i);
    let second = first;
    // Two draws are equal about once in a million; then the second is drawn again, far from everybody's sample numbers.
    for (let k = 0; second === first; k++) second = worldCompletion(prompt, seed, undefined, 2 * i + 1 + k * 2 ** 26);
    const judge = new RandomStream(seed, i, streamId(`world/judge/${split}`));
    return { ...judgePair(prompt, first, second, temperature, judge.uniform()), where: `world/${split}:${i}` };
  });
}

/**
 * Lets the judge choose between two completions.
 * @param draw a uniform number in [0, 1)
 */
export function judgePair(prompt: string, a: string, b: string, temperature: number, draw: number): WorldPreference {
  const goldA = goldReward(prompt, a);
  const goldB = goldReward(prompt, b);
  const prefersA = 1 / (1 + Math.exp((goldB - goldA) / temperature));
  const aWins = draw < prefersA;
  return {
    kind: "preference",
    prompt,
    chosen: aWins ? a : b,
    rejected: aWins ? b : a,
    goldChosen: aWins ? goldA : goldB,
    goldRejected: aWins ? goldB : goldA,
    certainty: Math.max(prefersA, 1 - prefersA),
  };
}

/** The share of these pairs that a perfect judge without noise would call as they are labelled, in expectation. */
export function bayesAccuracy(pairs: readonly { certainty: number }[]): number {
  return pairs.reduce((sum, pair) => sum + pair.certainty, 0) / pairs.length;
}
