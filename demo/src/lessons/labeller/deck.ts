/**
 * Pairs that tell simple tastes apart: of each pair just one story names a friend, one is shorter, one is truly better, and
 * which of them these are is drawn for each by itself. Whoever follows one of the rules is right by the others half the time.
 */
import { goldReward, type WorldSplit, worldCompletion, worldPrompts } from "webrlhf/data";
import { namesFriend, wordsOf } from "./rules.ts";

/** Two stories for one wish, as they lie on the table, with their true rewards. */
export interface Pair {
  prompt: string;
  left: string;
  right: string;
  goldLeft: number;
  goldRight: number;
}

/** Stories that are drawn for a wish before its pair is chosen. */
const DRAWN = 96;
/** Differences below these would not be seen by a reader. */
const WORDS = 2;
const GOLD = 0.4;

/** `count` pairs, a pure function of (seed, split). */
export function deckPairs(count: number, seed: number, split: WorldSplit = "train"): Pair[] {
  const pairs: Pair[] = [];
  // Some wishes have no such pair among what was drawn for them.
  const prompts = worldPrompts(2 * count + 64, seed, split);
  for (let i = 0; i < prompts.length && pairs.length < count; i++) {
    const pair = pairOf(prompts[i], seed, i);
    if (pair) pairs.push(pair);
  }
  return pairs;
}

function pairOf(prompt: string, seed: number, i: number): Pair | null {
  const stories = Array.from({ length: DRAWN }, (_, k) => {
    const text = worldCompletion(prompt, seed, undefined, i * DRAWN + k);
    return { text, words: wordsOf(text), gold: goldReward(prompt, text) };
  });
  const [friendLeft, friendShorter, friendBetter] = [bit(seed, i, 0), bit(seed, i, 1), bit(seed, i, 2)];
  for (const friend of stories.filter(({ text }) => namesFriend(text))) {
    const other = stories.find(
      ({ text, words, gold }) =>
        !namesFriend(text) &&
        (friendShorter ? words - friend.words : friend.words - words) >= WORDS &&
        (friendBetter ? friend.gold - gold : gold - friend.gold) >= GOLD,
    );
    if (!other) continue;
    const [left, right] = friendLeft ? [friend, other] : [other, friend];
    return { prompt, left: left.text, right: right.text, goldLeft: left.gold, goldRight: right.gold };
  }
  return null;
}

/** A fair coin of one's own for each pair and each of its differences. */
function bit(seed: number, i: number, what: number): boolean {
  let x = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(i + 1, 0x85ebca6b) ^ Math.imul(what + 1, 0xc2b2ae35)) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
  return ((x ^ (x >>> 16)) & 1) === 1;
}
