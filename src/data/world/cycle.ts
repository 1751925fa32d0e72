/**
 * Stories whose judge has no order: running beats walking, walking beats going, and going beats running, as rock, paper
 * and scissors do. Where to counts as well, but less. No score of single stories can say who wins, since every cycle
 * of three has at least one meeting that goes against the scores; a model that sees both stories can.
 */
import { RandomStream, streamId } from "../../runtime/rng.ts";
import type { Preference } from "../records.ts";
import { judged } from "./judged.ts";
import { parseWish, type WorldSplit, worldPrompts } from "./prompts.ts";
import { PLACES } from "./words.ts";

/** Each beats the one behind it, the last the first. */
export const CYCLE = ["ran", "walked", "went"] as const;
type Move = (typeof CYCLE)[number];

/** Log-odds of a won meeting of moves, and of a merry place against a plain one. */
const MOVE_COUNTS = 4;
const PLACE_COUNTS = 1.5;
/** How often each move occurs. Not equally, or else nothing could be learned from one story of a pair alone. */
const FREQUENCY = [0.5, 0.25, 0.25];

const MERRY: ReadonlySet<string> = new Set([
  "park",
  "lake",
  "hill",
  "tree",
  "river",
] satisfies (typeof PLACES)[number][]);

/** What the judge looks at. */
interface Looks {
  move: number;
  merry: boolean;
}

/** n pairs of stories with what the judge said of them; no two stories of a pair are alike. */
export interface CyclePreference extends Preference {
  /** The chance with which the judge prefers the story that wins more often. */
  certainty: number;
}

/** n judged pairs, a pure function of (seed, index, split). */
export function cyclePreferences(n: number, seed: number, split: WorldSplit = "train"): CyclePreference[] {
  return worldPrompts(n, seed, split).map((prompt, i) => {
    const random = new RandomStream(seed, i, streamId("cycle"), streamId(split));
    const a = story(prompt, random);
    let b = a;
    while (b === a) b = story(prompt, random);
    return { ...judged(prompt, [a, b], cycleChance(a, b), random), where: `cycle/${split}:${i}` };
  });
}

/** The chance with which the judge prefers story a to story b. */
export function cycleChance(a: string, b: string): number {
  return chanceOf(looksOf(a), looksOf(b));
}

function chanceOf(a: Looks, b: Looks): number {
  const ahead = (b.move - a.move + 3) % 3; // 1: a's move beats b's, 2: it loses
  const meeting = ahead === 1 ? MOVE_COUNTS : ahead === 2 ? -MOVE_COUNTS : 0;
  return 1 / (1 + Math.exp(-meeting - PLACE_COUNTS * (Number(a.merry) - Number(b.merry))));
}

/** A story without a known move counts as one that goes. */
function looksOf(story: string): Looks {
  const words = story.replaceAll(".", "").split(/\s+/);
  const move = words.find((word): word is Move => (CYCLE as readonly string[]).includes(word)) ?? "went";
  return { move: CYCLE.indexOf(move), merry: words.some((word) => MERRY.has(word)) };
}

/** " Tim ran to the park." */
function story(prompt: string, random: RandomStream): string {
  return ` ${parseWish(prompt)?.hero ?? ""} ${pickMove(random)} to the ${random.pick(PLACES)}.`;
}

function pickMove(random: RandomStream): string {
  const draw = random.uniform();
  return CYCLE[draw < FREQUENCY[0] ? 0 : draw < FREQUENCY[0] + FREQUENCY[1] ? 1 : 2];
}

/**
 * The expected accuracy of the best order of stories there is, and of the best judge: what a score of single stories and
 * what a comparison of two can reach.
 */
export function cycleCeilings(): { order: number; judge: number } {
  const kinds: Looks[] = CYCLE.flatMap((_, move) => [true, false].map((merry) => ({ move, merry })));
  const stories = CYCLE.flatMap((_, move) =>
    PLACES.map((place) => ({ kind: kindOf(move, MERRY.has(place)), frequency: FREQUENCY[move] / PLACES.length })),
  );
  // How often the stories of a pair, which differ, are of these two kinds.
  const meetings = new Float64Array(kinds.length ** 2);
  for (const a of stories) {
    for (const b of stories) {
      if (a !== b) meetings[a.kind * kinds.length + b.kind] += (a.frequency * b.frequency) / (1 - a.frequency);
    }
  }
  const expected = (right: (i: number, j: number, chance: number) => number) =>
    meetings.reduce((sum, frequency, at) => {
      const [i, j] = [Math.floor(at / kinds.length), at % kinds.length];
      return sum + frequency * right(i, j, chanceOf(kinds[i], kinds[j]));
    }, 0);
  const byOrder = (rank: readonly number[]) =>
    expected((i, j, chance) => (i === j ? 0.5 : rank[i] < rank[j] ? chance : 1 - chance));
  return {
    order: Math.max(...permutations(kinds.map((_, i) => i)).map(byOrder)),
    judge: expected((_i, _j, chance) => Math.max(chance, 1 - chance)),
  };
}

/** The place of a kind of story in the list of all kinds. */
const kindOf = (move: number, merry: boolean): number => 2 * move + (merry ? 0 : 1);

function permutations(items: readonly number[]): number[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}
