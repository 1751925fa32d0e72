/** One's own judge: a reward model trained on one's labels, and how it decides on pairs that it has not seen. */
import { preferenceExample, type Tokenizer } from "webrlhf/data";
import { loadScoreModel, type ScoreModel } from "webrlhf/nn";
import { reward, scorePairs, trainReward } from "webrlhf/rlhf";
import type { Label } from "../../lib/labels.ts";
import type { Start } from "../../lib/lesson/types.ts";
import { deckPairs, type Pair } from "./deck.ts";
import { judgeSettings } from "./lesson.ts";
import { leans, type Rule, rules } from "./rules.ts";

/** Held-out pairs: each of them is decided by every rule. */
const HELD_OUT = 128;

/** A judge that knows nothing yet. */
export const freshJudge = ({ files, folder }: Start, seed: number): Promise<ScoreModel> =>
  loadScoreModel(files, folder, "judge", seed);

const examples = (labels: readonly Label[], tokenizer: Tokenizer, judge: ScoreModel) =>
  labels.map((label) =>
    preferenceExample({ kind: "preference", ...label }, tokenizer, { maxLength: judge.config.maxPositions }),
  );

/** Trains the judge in place. */
export const teach = (
  judge: ScoreModel,
  tokenizer: Tokenizer,
  labels: readonly Label[],
  seed: number,
  run: Parameters<typeof trainReward>[3] = {},
) => trainReward({ model: judge, tokenizer }, examples(labels, tokenizer, judge), reward(judgeSettings(seed)), run);

/** A pair as a rule decides it. */
export const ruled = (rule: Rule, pair: Pair): Label => {
  const left = leans(rule, pair) > 0;
  return { prompt: pair.prompt, chosen: left ? pair.left : pair.right, rejected: left ? pair.right : pair.left };
};

let drawn: { seed: number; pairs: Pair[] } | null = null;

/** Pairs of prompts that no labeller sees; kept, for it takes a second to find them. */
export function heldOutPairs(seed: number): Pair[] {
  if (drawn?.seed !== seed) drawn = { seed, pairs: deckPairs(HELD_OUT, seed, "test") };
  return drawn.pairs;
}

/** How far the judge puts the chosen story of each label ahead of the other; below 0 it decides otherwise. */
export async function aheadOf(judge: ScoreModel, tokenizer: Tokenizer, labels: readonly Label[]): Promise<number[]> {
  const scores = await scorePairs(judge, examples(labels, tokenizer, judge));
  return scores.chosen.map((score, i) => score - scores.rejected[i]);
}

/** The share of labels that the judge decides alike, with its standard error. */
export async function agrees(
  judge: ScoreModel,
  tokenizer: Tokenizer,
  labels: readonly Label[],
): Promise<{ share: number; same: number; of: number }> {
  const same = (await aheadOf(judge, tokenizer, labels)).filter((ahead) => ahead > 0).length;
  return { share: same / labels.length, same, of: labels.length };
}

/** A held-out story as the judge ranks it. */
export interface Ranked {
  prompt: string;
  story: string;
  score: number;
  gold: number;
}

/**
 * How often the judge decides as each of the rules, on held-out pairs: `friend`, `shorter`, `truth`, and their number `of`.
 * With the stories that it likes best and least.
 */
export async function likens(judge: ScoreModel, tokenizer: Tokenizer, seed: number) {
  const pairs = heldOutPairs(seed);
  const shown = pairs.map(({ prompt, left, right }) => ({ prompt, chosen: left, rejected: right }));
  const scores = await scorePairs(judge, examples(shown, tokenizer, judge));
  const ahead = scores.chosen.map((score, i) => score - scores.rejected[i]);
  const share = (rule: Rule) => pairs.filter((pair, i) => leans(rule, pair) * ahead[i] > 0).length / pairs.length;
  const ranked = pairs
    .flatMap(({ prompt, left, right, goldLeft, goldRight }, i): Ranked[] => [
      { prompt, story: left, score: scores.chosen[i], gold: goldLeft },
      { prompt, story: right, score: scores.rejected[i], gold: goldRight },
    ])
    .sort((a, b) => b.score - a.score);
  const values: Record<string, number> = {
    ...Object.fromEntries(rules.map((rule) => [rule, share(rule)])),
    of: pairs.length,
  };
  return { values, ends: [...ranked.slice(0, ENDS), ...ranked.slice(-ENDS)] };
}

/** Stories that are shown of either end of the order. */
const ENDS = 3;
