/** Lesson 2: sampling trades quality against variety, and colder is not better without end. */
import * as v from "valibot";
import { withError } from "../../lib/lesson/numbers.ts";
import type { Lesson, LessonEvent, Numbers, Size } from "../../lib/lesson/types.ts";

/** From hot to cold. */
export const TEMPERATURES = [1.5, 1, 0.7, 0.5, 0.3, 0.15, 0] as const;
/** What the figures of the lesson's claims compare. */
const [HOT, WARM, COLD] = [1.5, 0.7, 0.15];

export interface SamplingInput {
  topP: number;
  topK: number;
  seed: number;
  /** Stories at each temperature, to the same held-out wishes. */
  stories: number;
}

/** All stories at one temperature. */
export type StoriesData = {
  temperature: number;
  /** True reward of each story, wish by wish. */
  gold: number[];
  /** Different pairs of neighbouring words over all pairs, in all stories together. */
  distinct: number;
  /** Different stories. */
  different: number;
  /** The worst one, one in the middle, the best one. */
  shown: { prompt: string; response: string; gold: number }[];
};

/** What may come next after a text, before sampling changes it. */
export type NextData = {
  tokens: string[];
  /** The likeliest tokens. */
  top: [text: string, logProb: number][];
  /** Log-probabilities of all others, likeliest first. */
  rest: number[];
};

const schema = v.strictObject({
  topP: v.pipe(v.number(), v.minValue(0.05), v.maxValue(1)),
  topK: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(327)),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
  stories: v.pipe(v.number(), v.integer(), v.minValue(128), v.maxValue(1024)),
});

const sizes: Record<Size, number> = { S: 128, M: 256, L: 512 };
const input = (changes: Partial<SamplingInput> = {}): SamplingInput => ({
  topP: 1,
  topK: 0,
  seed: 42,
  stories: sizes.S,
  ...changes,
});

export const storiesOf = (events: readonly LessonEvent[]): StoriesData[] =>
  events.flatMap((e) => (e.type === "data" && e.name === "step" ? [e.data as StoriesData] : []));

export const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

export const errorOf = (values: readonly number[]): number => {
  const mean = meanOf(values);
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1) / values.length);
};

/** What cooling did to the truth, paired by wishes, and to variety; null until it was cooled so far. */
function cooled(events: readonly LessonEvent[]): Numbers | null {
  const at = new Map(storiesOf(events).map((stories) => [stories.temperature, stories]));
  const [hot, warm, cold] = [at.get(HOT), at.get(WARM), at.get(COLD)];
  if (!hot || !warm || !cold) return null;
  const first = warm.gold.map((gold, i) => gold - hot.gold[i]);
  const later = cold.gold.map((gold, i) => gold - warm.gold[i]);
  return {
    first: meanOf(first),
    first_se: errorOf(first),
    later: meanOf(later),
    later_se: errorOf(later),
    distinct_warm: warm.distinct,
    distinct_cold: cold.distinct,
  };
}

const better = (n: Numbers): boolean => n.first > 2 * n.first_se;
const alike = (n: Numbers): boolean => n.later < n.first / 3 && n.distinct_cold < 0.8 * n.distinct_warm;

export const lesson: Lesson<SamplingInput> = {
  slug: "sampling",
  number: 2,
  title: { en: "Sampling", zh: "采样" },
  aha: {
    en: "Colder is not better without end: the stories stop getting better, and go on getting more alike.",
    zh: "并非越冷越好:故事不再变好,却越来越雷同。",
  },
  start: { en: "Answer the wishes", zh: "回答这些愿望" },
  input: (size, seed) => input({ seed, stories: sizes[size] }),
  wrong: (size, seed) => input({ topK: 1, seed, stories: sizes[size] }),
  parse: (value) => v.parse(schema, value),
  steps: () => TEMPERATURES.length,
  recorded: [
    { name: { en: "All tokens", zh: "全部词元" }, input: input() },
    { name: { en: "top-p 0.9", zh: "top-p 0.9" }, input: input({ topP: 0.9 }) },
    { name: { en: "top-p 0.5", zh: "top-p 0.5" }, input: input({ topP: 0.5 }) },
    { name: { en: "top-k 5", zh: "top-k 5" }, input: input({ topK: 5 }) },
    { name: { en: "top-k 1: always the likeliest", zh: "top-k 1:总取最可能的" }, input: input({ topK: 1 }) },
  ],
  predictions: [
    {
      id: "cooling",
      asks: {
        en: "The model is cooled from temperature 1.5 down to 0.15. What becomes of its stories?",
        zh: "把温度从 1.5 一直降到 0.15,它的故事会怎样?",
      },
      options: [
        { id: "better", text: { en: "Better and better down to the coldest", zh: "越来越好,直到最冷" } },
        { id: "alike", text: { en: "Better at first, then only more alike", zh: "先变好,然后只是越来越雷同" } },
        { id: "worse", text: { en: "Worse and worse", zh: "越来越差" } },
      ],
      outcome(events) {
        const n = cooled(events);
        if (!n) return null;
        if (better(n) && alike(n)) return "alike";
        if (better(n) && n.later > 2 * n.later_se) return "better";
        return n.first < -2 * n.first_se ? "worse" : null;
      },
    },
  ],
  checks: [
    {
      id: "better",
      claim: {
        en: "Cooling from 1.5 to 0.7 made the stories truly better",
        zh: "从 1.5 降到 0.7,故事确实变好了",
      },
      measure: (events) => pick(cooled(events), ["first", "first_se"]),
      holds: better,
      says: (n, language) =>
        ({
          en: `Truth moved by ${withError(n.first, n.first_se)}, on the same wishes.`,
          zh: `在同样的愿望上,真实得分变化 ${withError(n.first, n.first_se)}。`,
        })[language],
    },
    {
      id: "alike",
      claim: {
        en: "From there to 0.15 it gained less than a third of that, and lost more than a fifth of its variety",
        zh: "从那里再降到 0.15,得分的提高不到前者的三分之一,而多样性减少了五分之一以上",
      },
      measure: cooled,
      holds: alike,
      says: (n, language) =>
        ({
          en: `Truth moved by ${withError(n.later, n.later_se)}${Math.abs(n.later) < 2 * n.later_se ? ", which cannot be told from nothing" : ""}; distinct-2 went from ${n.distinct_warm.toFixed(2)} to ${n.distinct_cold.toFixed(2)}.`,
          zh: `真实得分变化 ${withError(n.later, n.later_se)}${Math.abs(n.later) < 2 * n.later_se ? ",无法与零区分" : ""};distinct-2 从 ${n.distinct_warm.toFixed(2)} 变为 ${n.distinct_cold.toFixed(2)}。`,
        })[language],
    },
  ],
};

const pick = (values: Numbers | null, names: readonly string[]): Numbers | null =>
  values && Object.fromEntries(names.map((name) => [name, values[name]]));
