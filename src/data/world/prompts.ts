/** The prompts of the built-in world: who wishes for what, and which wishes are held out for testing. */
import { permutation, streamId, uniform } from "../../runtime/rng.ts";
import { ADJECTIVES, HEROES, KINDS, OBJECTS, OPENERS } from "./words.ts";

/** The built-in world's prompts: those to train on, or others that were held out. */
export type WorldSplit = "train" | "test";

/** A prompt of the built-in world, taken apart. */
export interface Wish {
  opener: string;
  hero: string;
  kind: string;
  /** "" when the prompt names none. */
  adjective: string;
  object: string;
}

/** "One day", Tim, cat, red, ball -> "One day Tim the cat wanted a red ball." */
export function wishText(wish: Wish): string {
  const thing = wish.adjective ? `${wish.adjective} ${wish.object}` : wish.object;
  return `${wish.opener} ${wish.hero} the ${wish.kind} wanted a ${thing}.`;
}

const PROMPT = new RegExp(
  `^(${OPENERS.join("|")}) (${HEROES.join("|")}) the (${KINDS.join("|")}) wanted a ` +
    `(?:(${ADJECTIVES.join("|")}) )?(${OBJECTS.join("|")})\\.$`,
);

/** The wish in a prompt's text, or undefined when the text is not a prompt of this world. */
export function parseWish(prompt: string): Wish | undefined {
  const match = PROMPT.exec(prompt.trim());
  if (!match) return undefined;
  const [, opener, hero, kind, adjective, object] = match;
  return { opener, hero, kind, adjective: adjective ?? "", object };
}

/**
 * n prompts, a pure function of (seed, index, split): no two alike until the split is used up (about 75,000 train and
 * 8,000 test prompts), then again from the start in another order. The splits share no wish, whatever the seeds.
 */
export function worldPrompts(n: number, seed: number, split: WorldSplit = "train"): string[] {
  const numbers = numbersOf(split);
  const prompts: string[] = [];
  for (let round = 0; prompts.length < n; round++) {
    const order = permutation(numbers.length, seed, streamId(`world/${split}/${round}`));
    for (let i = 0; i < order.length && prompts.length < n; i++) prompts.push(wishText(wishOf(numbers[order[i]])));
  }
  return prompts;
}

const ADJECTIVES_AND_NONE = ["", ...ADJECTIVES];
const TEST_SHARE = 0.1;
const numbersBySplit: Partial<Record<WorldSplit, Uint32Array>> = {};

/**
 * The numbers of all wishes of a split. What is held out depends on hero, kind, adjective and object, not on the opener:
 * a held-out wish never occurs in training behind another opening.
 */
function numbersOf(split: WorldSplit): Uint32Array {
  const known = numbersBySplit[split];
  if (known) return known;
  const things = HEROES.length * KINDS.length * ADJECTIVES_AND_NONE.length * OBJECTS.length;
  const numbers: number[] = [];
  for (let thing = 0; thing < things; thing++) {
    const held = uniform(0, thing, streamId("world/split")) < TEST_SHARE;
    if (held !== (split === "test")) continue;
    for (let opener = 0; opener < OPENERS.length; opener++) numbers.push(thing * OPENERS.length + opener);
  }
  const result = Uint32Array.from(numbers);
  numbersBySplit[split] = result;
  return result;
}

function wishOf(number: number): Wish {
  let rest = number;
  const take = <T>(list: readonly T[]): T => {
    const item = list[rest % list.length];
    rest = Math.floor(rest / list.length);
    return item;
  };
  return {
    opener: take(OPENERS),
    hero: take(HEROES),
    kind: take(KINDS),
    adjective: take(ADJECTIVES_AND_NONE),
    object: take(OBJECTS),
  };
}
