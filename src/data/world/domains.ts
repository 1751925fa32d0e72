/**
 * Stories for two readers with different standards: one reads of half of the heroes and likes merry stories, the other of
 * the rest and likes kind ones. Ratings of each quality are noisy, favour long stories, and are often missing.
 */
import { RandomStream, streamId } from "../../runtime/rng.ts";
import type { Rated } from "../rated.ts";
import type { Preference } from "../records.ts";
import { judged } from "./judged.ts";
import { parseWish, type WorldSplit, worldPrompts } from "./prompts.ts";
import { worldCompletion } from "./stories.ts";
import { CLASS_OF, HEROES } from "./words.ts";

/** The attributes that stories are rated for, each from 0 to about 1. */
export const DOMAIN_ATTRIBUTES = ["merry", "kind", "long"] as const;

/** The domains of the built-in world, in which judges value different things. */
export type Domain = "fun" | "care";

/** The weights of the attributes by which each domain's judge decides. */
export const DOMAIN_WEIGHTS: Record<Domain, Record<(typeof DOMAIN_ATTRIBUTES)[number], number>> = {
  fun: { merry: 0.9, kind: 0.1, long: 0 },
  care: { merry: 0.1, kind: 0.9, long: 0 },
};

/** Log-odds of a story that is ahead by 1. */
const CERTAINTY = 8;
const LENGTH_BIAS = 0.3;
const NOISE = 0.1;
const MISSING = 0.3;

/** A preference of the built-in world with the domain whose judge made it. */
export interface DomainPreference extends Preference {
  domain: Domain;
  /** The chance with which the judge prefers the story that is better by the domain's weights. */
  certainty: number;
}

/** The domain of a prompt of the built-in world, by its hero: every other one is of the same. */
export const domainOf = (prompt: string): Domain =>
  (HEROES as readonly string[]).indexOf(parseWish(prompt)?.hero ?? "") % 2 === 0 ? "fun" : "care";

/** The true qualities of a story, in the order of `DOMAIN_ATTRIBUTES`. */
export function qualities(story: string): number[] {
  const words = story.replaceAll(".", "").split(/\s+/).filter(Boolean);
  const has = (...names: string[]) => words.some((word) => names.includes(CLASS_OF.get(word) ?? ""));
  const merry = has("happyAdjective", "happyVerb") ? 1 : 0;
  return [merry, has("kindVerb", "shared") ? 1 : 0, Math.min(1, Math.max(0, (words.length - 6) / 10))];
}

/** n rated stories, a pure function of (seed, index, split); NaN where a rating is missing. */
export function domainRatings(n: number, seed: number, split: WorldSplit = "train"): Rated[] {
  return worldPrompts(n, seed, split).map((prompt, i) => {
    const random = new RandomStream(seed, i, streamId("domains/ratings"), streamId(split));
    const completion = story(prompt, seed, i, "rated");
    const truth = qualities(completion);
    const long = truth[2];
    const ratings = truth.map((value, k) => {
      const rating = value + (k === 2 ? 0 : LENGTH_BIAS * long) + NOISE * random.normal();
      return random.chance(MISSING) ? Number.NaN : rating;
    });
    return { kind: "prompt_completion", prompt, completion, ratings, where: `domains/${split}:${i}` };
  });
}

/** n judged pairs, likewise. */
export function domainPreferences(n: number, seed: number, split: WorldSplit = "train"): DomainPreference[] {
  return worldPrompts(n, seed, split).map((prompt, i) => {
    const random = new RandomStream(seed, i, streamId("domains/judge"), streamId(split));
    const a = story(prompt, seed, 2 * i, "a");
    let b = a;
    for (let k = 0; b === a; k++) b = story(prompt, seed, 2 * i + 1 + k * 2 ** 26, "b");
    const domain = domainOf(prompt);
    const [x, y] = [qualities(a), qualities(b)];
    const ahead = DOMAIN_ATTRIBUTES.reduce((sum, name, k) => sum + DOMAIN_WEIGHTS[domain][name] * (x[k] - y[k]), 0);
    const chance = 1 / (1 + Math.exp(-CERTAINTY * ahead));
    return { ...judged(prompt, [a, b], chance, random), domain, where: `domains/${split}:${i}` };
  });
}

/** Stories of every quality, so that merry and kind ones are as frequent as the others. */
const story = (prompt: string, seed: number, sample: number, what: string): string =>
  worldCompletion(prompt, seed, new RandomStream(seed, sample, streamId(`domains/${what}`)).uniform(), sample);
