/**
 * Judges of the built-in world whose rule is known: the truth, or a planted bias beside it or in its place. What a reward model
 * learns from a biased judge can then be told from what it should have learned.
 */
import { UserError } from "../../runtime/errors.ts";
import { RandomStream, streamId, uniform } from "../../runtime/rng.ts";
import type { Preference } from "../records.ts";
import { goldReward } from "./gold.ts";
import { type WorldSplit, worldPrompts } from "./prompts.ts";
import { worldCompletion } from "./stories.ts";

/** The rule of a judge: what makes stories worth more, and how surely the better one is preferred. What is left out counts nothing. */
export interface WorldRule {
  /** Weight of the true reward. Default 1; 0 does not know the truth. */
  truth?: number;
  /** Worth of each word of a story: below 0 likes short stories, above 0 long ones. */
  length?: number;
  /** Worth of the story that is shown first, which no reader of a single story can see. */
  first?: number;
  /** Worth of single words, each counted once however often it stands there: `{ friend: 2 }`. */
  words?: Readonly<Record<string, number>>;
  /** Story a is preferred to b with probability sigmoid((worth(a) - worth(b)) / temperature). Default 0.25; 0 never doubts. */
  temperature?: number;
  /** Share of the pairs that are labelled the other way round, whatever the judge thinks. Default 0. */
  noise?: number;
}

/** Two different stories about a prompt, in the order that a judge is shown them. */
export interface WorldPair {
  prompt: string;
  first: string;
  second: string;
}

/** A preference of a judge of the built-in world. */
export interface WorldPreference extends Preference {
  goldChosen: number;
  goldRejected: number;
  /**
   * The chance with which the judge prefers the story that it prefers more often; without a bias that is the truly better one.
   */
  certainty: number;
}

/** n pairs of different stories of the generator, a pure function of (seed, index, split). */
export function worldPairs(n: number, seed: number, split: WorldSplit = "train"): WorldPair[] {
  return worldPrompts(n, seed, split).map((prompt, i) => {
    const first = worldCompletion(prompt, seed, undefined, 2 * i);
    let second = first;
    // Two draws are equal about once in a million; then the second is drawn again, far from everybody's sample numbers.
    for (let k = 0; second === first; k++) second = worldCompletion(prompt, seed, undefined, 2 * i + 1 + k * 2 ** 26);
    return { prompt, first, second };
  });
}

/** The worth of a story by a judge's rule, wherever it is shown. */
export function worldWorth(rule: WorldRule, prompt: string, completion: string): number {
  const { truth = 1, length = 0, words = {} } = rule;
  const said = completion.split(/[\s.]+/).filter((word) => word !== "");
  const liked = Object.entries(words).filter(([word]) => said.includes(word));
  const known = truth === 0 ? 0 : truth * goldReward(prompt, completion);
  return known + length * said.length + liked.reduce((sum, [, worth]) => sum + worth, 0);
}

/**
 * The chance with which a judge prefers the first story of a pair.
 * @throws UserError for a temperature below 0, and noise that is no share
 */
export function worldChance(rule: WorldRule, { prompt, first, second }: WorldPair): number {
  const { first: place = 0, temperature = 0.25, noise = 0 } = rule;
  if (!(temperature >= 0)) throw new UserError(`temperature of a judge must be at least 0, not ${temperature}`);
  if (!(noise >= 0 && noise <= 1)) throw new UserError(`noise of a judge must be between 0 and 1, not ${noise}`);
  const behind = worldWorth(rule, prompt, second) - (worldWorth(rule, prompt, first) + place);
  const chance = temperature === 0 ? (1 - Math.sign(behind)) / 2 : 1 / (1 + Math.exp(behind / temperature));
  return chance * (1 - noise) + (1 - chance) * noise;
}

/**
 * Lets a judge choose between two stories.
 * @param draw a uniform number in [0, 1)
 */
export function worldJudgement(rule: WorldRule, pair: WorldPair, draw: number): WorldPreference {
  const { prompt, first, second } = pair;
  const chance = worldChance(rule, pair);
  const [chosen, rejected] = draw < chance ? [first, second] : [second, first];
  return {
    kind: "preference",
    prompt,
    chosen,
    rejected,
    goldChosen: goldReward(prompt, chosen),
    goldRejected: goldReward(prompt, rejected),
    certainty: Math.max(chance, 1 - chance),
  };
}

/** Judges by name, as datasets are named after them: `builtin:world/shorter`. */
export const worldJudges = {
  truth: {},
  shorter: { truth: 0, length: -0.25 },
  longer: { truth: 0, length: 0.25 },
  "a-bit-longer": { length: 0.15 },
  friend: { truth: 0, words: { friend: 2 } },
  first: { first: 1 },
  careless: { noise: 0.25 },
} as const satisfies Record<string, WorldRule>;

/** One who labels pairs, with a rule and doubts of their own. */
export interface WorldLabeller {
  name: string;
  rule: WorldRule;
  /** Names their doubts: another one with the same rule does not doubt the same pairs. */
  seed: number;
}

/**
 * n labellers who differ: each values the truth more or less, doubts and errs more or less, and every other one has a liking of
 * their own. Labeller i is a pure function of (seed, i).
 */
export function worldLabellers(n: number, seed: number): WorldLabeller[] {
  return Array.from({ length: n }, (_, i) => {
    const random = new RandomStream(seed, i, LABELLERS);
    const between = (low: number, high: number) => Math.round(100 * (low + (high - low) * random.uniform())) / 100;
    const plain = { truth: between(0.3, 1), temperature: between(0.1, 0.6), noise: between(0, 0.15) };
    const likings: WorldRule[] = [
      { length: between(-0.3, -0.1) },
      { length: between(0.1, 0.3) },
      { first: between(0.5, 1.5) },
      { words: { [random.pick(["friend", "happy", "mom", "shared", "park"])]: between(1, 2) } },
    ];
    const liking = random.pick(likings);
    const rule = random.chance(0.5) ? { ...plain, ...liking } : plain;
    return { name: `labeller ${i + 1}`, rule, seed: random.uint32() };
  });
}

const LABELLERS = streamId("world/labellers");
const LABELS = streamId("world/labels");

/**
 * Lets somebody label pairs: true where the first story is the better one. A label does not depend on which other pairs are asked
 * about, so that asked again they say the same.
 */
export const worldLabels = ({ rule, seed }: WorldLabeller, pairs: readonly WorldPair[]): boolean[] =>
  pairs.map((pair) => {
    const key = streamId(`${pair.prompt}\n${pair.first}\n${pair.second}`);
    return uniform(seed, key, LABELS) < worldChance(rule, pair);
  });
