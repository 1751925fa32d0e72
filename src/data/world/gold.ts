/**
 * The gold reward of the built-in world: what a story is truly worth, computed from its text by the rules below.
 *
 * Near the stories one learns from it rewards what a reward model can learn: name the hero, get the wished object, do
 * the sensible thing with it, be kind, end well. Far from them it turns: more of the same is stuffing, and stuffing
 * costs. Since learners hardly ever see stuffing, a learned reward does not know that, and a policy that is free to
 * leave the stories behind finds out.
 */
import { UserError } from "../../runtime/errors.ts";
import { parseWish, type Wish } from "./prompts.ts";
import { CLASS_OF, HEROES, mayFollow, OBJECTS, USE_VERBS, type UseVerb, useVerbOf } from "./words.ts";

/** The parts of a gold reward; `total` is their sum. */
export interface GoldBreakdown {
  total: number;
  /** Names the hero: 0.4, and 0.4 less each further time; 0.3 less for each other name. */
  hero: number;
  /** Names the wished object: 0.5, and 0.4 less each further time; 0.3 less for each other object. */
  object: number;
  /** The object's adjective when the prompt gave one: right 0.2, another -0.2. */
  detail: number;
  /** Uses an object: sensibly 0.4 (once), senselessly -0.6 (once). */
  sense: number;
  /** Does something kind: 1; 0.4 less for each kind deed beyond the second. */
  kind: number;
  /** Happy words: one 0.7, two or three 1, then 0.4 less for each. */
  happy: number;
  /** Sad words: one -0.8, more -1. */
  sad: number;
  /** -0.6 when the last sentence has no full stop. */
  finish: number;
  /** -0.3 for each step from word to word that is not English. */
  form: number;
  /** -0.3 for each content word said again (hero and objects have their own rule). */
  repetition: number;
  /** -0.2 for each word below 6, -0.15 for each beyond 24. */
  length: number;
}

/** The gold reward of a completion; about 1 ± 1 over the stories one learns from, 3.5 at best. */
export function goldReward(prompt: string, completion: string): number {
  return goldBreakdown(prompt, completion).total;
}

/** The gold reward and its parts. Text from the first special token (`<|...|>`) on is ignored. */
export function goldBreakdown(prompt: string, completion: string): GoldBreakdown {
  const wish = parseWish(prompt);
  if (!wish) throw new UserError(`"${prompt}" is not a prompt of the built-in world: it has no gold reward`);
  const text = completion.split("<|")[0].trim();
  const sentences = text
    .split(".")
    .map((sentence) => sentence.split(/\s+/).filter((word) => word !== ""))
    .filter((words, i, all) => words.length > 0 || i < all.length - 1);
  const words = sentences.flat();
  const classes = words.map((word) => CLASS_OF.get(word));
  const count = (...names: string[]) => classes.filter((name) => name !== undefined && names.includes(name)).length;

  const parts = {
    hero: named(words, wish.hero, HEROES, 0.4),
    object: named(words, wish.object, OBJECTS, 0.5),
    detail: detail(words, wish),
    sense: sense(sentences, wish),
    kind: kindness(count("kindVerb", "shared")),
    happy: happiness(count("happyAdjective", "happyVerb")),
    sad: [0, -0.8, -1][Math.min(2, count("sadAdjective", "sadVerb"))],
    finish: text.endsWith(".") ? 0 : -0.6,
    form: -0.3 * sentences.reduce((bad, sentence) => bad + stumbles(sentence), 0),
    repetition: -0.3 * repetitions(words),
    length: -0.2 * Math.max(0, 6 - words.length) - 0.15 * Math.max(0, words.length - 24),
  };
  // Every rule counts in twentieths; rounding keeps binary fractions out of equal rewards.
  const total = Math.round(Object.values(parts).reduce((a, b) => a + b, 0) * 20) / 20;
  return { total, ...parts };
}

function named(words: string[], wanted: string, all: readonly string[], once: number): number {
  const right = words.filter((word) => word === wanted).length;
  const wrong = words.filter((word) => word !== wanted && all.includes(word)).length;
  const value = right === 0 ? 0 : once - 0.4 * (right - 1);
  return value - 0.3 * wrong;
}

/** Looks at the first time the wished object is named. */
function detail(words: string[], wish: Wish): number {
  const at = words.indexOf(wish.object);
  if (!wish.adjective || at < 1 || CLASS_OF.get(words[at - 1]) !== "adjective") return 0;
  return words[at - 1] === wish.adjective ? 0.2 : -0.2;
}

/** A verb of use belongs to the object behind it in its sentence, else to the one named last, else to the wished one. */
function sense(sentences: string[][], wish: Wish): number {
  let last = wish.object;
  let used = false;
  for (const words of sentences) {
    for (let i = 0; i < words.length; i++) {
      if (OBJECTS.includes(words[i])) last = words[i];
      if (!USE_VERBS.includes(words[i] as UseVerb)) continue;
      const object = words.slice(i).find((word) => OBJECTS.includes(word)) ?? last;
      if (useVerbOf(object) !== words[i]) return -0.6;
      used = true;
    }
  }
  return used ? 0.4 : 0;
}

function kindness(deeds: number): number {
  return deeds === 0 ? 0 : 1 - 0.4 * Math.max(0, deeds - 2);
}

function happiness(words: number): number {
  return words <= 1 ? 0.7 * words : 1 - 0.4 * Math.max(0, words - 3);
}

function stumbles(sentence: string[]): number {
  const path = ["start", ...sentence.map((word) => CLASS_OF.get(word)), "end"];
  let bad = 0;
  for (let i = 1; i < path.length; i++) if (!mayFollow(path[i - 1], path[i])) bad++;
  return bad;
}

/** Words that carry no content and may come again. */
const SMALL = new Set(["the", "a", "and", "to", "with", "at", "it", "It", "was", "he", "she", "He", "She", "Then"]);

function repetitions(words: string[]): number {
  const seen = new Set<string>();
  let again = 0;
  for (const word of words) {
    const counted = !SMALL.has(word) && !(HEROES as readonly string[]).includes(word) && !OBJECTS.includes(word);
    if (counted && seen.has(word)) again++;
    seen.add(word);
  }
  return again;
}
