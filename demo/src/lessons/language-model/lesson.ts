/** Lesson 1: a language model is a distribution over the next token, and training makes it less wrong. */
import * as v from "valibot";
import { lastMeasured, measuredCurve, withError } from "../../lib/lesson/numbers.ts";
import type { Lesson, LessonEvent } from "../../lib/lesson/types.ts";

/** What is read: the world's stories, or the same words in any order. */
export const texts = ["stories", "shuffled"] as const;
export type Texts = (typeof texts)[number];

/** Tokens of the built-in world. */
export const VOCABULARY = 327;
/** Letters of a prefix at most: the model sees 64 tokens. */
export const PREFIX_LENGTH = 120;

export interface LanguageModelInput {
  texts: Texts;
  /** What is to be continued while it learns. */
  prefix: string;
  seed: number;
  /** Optimizer steps of 32 texts. */
  steps: number;
}

/** A token, and the probability with which it comes next. */
export type Likely = [text: string, probability: number];

/** The last tokens of a text, and what may come next. */
export type NextData = {
  /** Whose distribution: the model before its first step, at its last one, or the one that was trained for long. */
  model: "untrained" | "own" | "long";
  step: number;
  /** The text so far, by tokens. */
  tokens: string[];
  /** The likeliest ones. */
  next: Likely[];
  /** The token that was drawn; null: none was, and "" is the end of the text. */
  drawn: string | null;
};

const schema = v.strictObject({
  texts: v.picklist(texts),
  prefix: v.pipe(v.string(), v.minLength(1), v.maxLength(PREFIX_LENGTH)),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
  steps: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(500)),
});

export const PREFIX = "One day Tim the cat wanted a red ball. Tim";
const OTHER = "Today Anna";

const steps = { S: 100, M: 100, L: 200 };
const input = (changes: Partial<LanguageModelInput> = {}): LanguageModelInput => ({
  texts: "stories",
  prefix: PREFIX,
  seed: 42,
  steps: steps.S,
  ...changes,
});

/** Where the loss stood at first and at last, on texts that were not trained on. */
function losses(events: readonly LessonEvent[]): Record<"first" | "last" | "last_se", number> | null {
  const [first] = measuredCurve(events, "look", "loss");
  const last = lastMeasured(events, "after");
  return first && last ? { first: first[1], last: last.loss, last_se: last.loss_se } : null;
}

export const lesson: Lesson<LanguageModelInput> = {
  slug: "language-model",
  number: 1,
  title: { en: "A language model", zh: "语言模型" },
  aha: {
    en: "It is only a distribution over 327 tokens, asked again and again; learning makes the tokens that came likelier.",
    zh: "它不过是 327 个词元上的一个概率分布,一次又一次地被询问;学习就是让真正出现的词元变得更可能。",
  },
  input: (size, seed) => input({ seed, steps: steps[size] }),
  wrong: (size, seed) => input({ texts: "shuffled", seed, steps: steps[size] }),
  parse: (value) => v.parse(schema, value),
  steps: ({ steps }) => steps,
  recorded: [
    { name: { en: "Stories, 100 steps", zh: "故事,100 步" }, input: input() },
    { name: { en: "Stories, 20 steps", zh: "故事,20 步" }, input: input({ steps: 20 }) },
    { name: { en: "Another beginning", zh: "另一个开头" }, input: input({ prefix: OTHER }) },
    { name: { en: "Shuffled words, 100 steps", zh: "打乱的词,100 步" }, input: input({ texts: "shuffled" }) },
  ],
  keep: (event) => {
    if (event.type !== "train") return event;
    if (event.event.type !== "step") return null;
    const { loss } = event.event.metrics;
    return { ...event, event: { ...event.event, metrics: { loss }, epoch: 0, tokens: 0, seconds: 0, usage: {} } };
  },
  predictions: [
    {
      id: "start",
      asks: {
        en: "A fresh model knows 327 tokens and nothing else. What is its loss?",
        zh: "一个全新的模型只知道有 327 个词元。它的损失是多少?",
      },
      options: [
        { id: "small", text: { en: "About 1", zh: "约 1" } },
        { id: "ln", text: { en: "About ln 327 = 5.79: all tokens alike", zh: "约 ln 327 = 5.79:所有词元一样可能" } },
        { id: "large", text: { en: "About 327", zh: "约 327" } },
      ],
      outcome(events) {
        const [first] = measuredCurve(events, "look", "loss");
        if (!first) return null;
        return first[1] < 3 ? "small" : first[1] < 20 ? "ln" : "large";
      },
    },
    {
      id: "fall",
      asks: { en: "How will the loss fall over 100 steps?", zh: "损失会怎样在 100 步内下降?" },
      xLabel: { en: "step", zh: "步" },
      yLabel: { en: "loss per token", zh: "每个词元的损失" },
      x: [0, 100],
      y: [0, 6],
      outcome: (events) => measuredCurve(events, "look", "loss"),
    },
  ],
  checks: [
    {
      id: "falls",
      claim: {
        en: "The loss on unseen texts fell from ln 327 to below 2",
        zh: "在未见文本上,损失从 ln 327 降到 2 以下",
      },
      measure: losses,
      holds: ({ first, last, last_se }) => Math.abs(first - Math.log(VOCABULARY)) < 0.1 && last + 2 * last_se < 2,
      says: ({ first, last, last_se }, language) => {
        const perplexity = Math.exp(last).toFixed(1);
        return {
          en: `From ${first.toFixed(2)} to ${withError(last, last_se)} on 128 texts: as if it chose among ${perplexity} tokens instead of ${Math.exp(first).toFixed(0)}.`,
          zh: `在 128 篇文本上从 ${first.toFixed(2)} 降到 ${withError(last, last_se)}:好比在 ${perplexity} 个词元中选,而不是 ${Math.exp(first).toFixed(0)} 个。`,
        }[language];
      },
    },
    {
      id: "grammar",
      claim: {
        en: "Its own texts became English: fewer than one stumble a story",
        zh: "它自己写的文本成了通顺的英语:每篇故事不到一处语病",
      },
      measure(events) {
        const [first] = measuredCurve(events, "look", "stumbles");
        const last = lastMeasured(events, "after");
        return first && last ? { before: first[1], after: last.stumbles, after_se: last.stumbles_se } : null;
      },
      holds: ({ before, after, after_se }) => after + 2 * after_se < Math.min(1, before),
      says: ({ before, after, after_se }, language) =>
        ({
          en: `Steps from word to word that the world's grammar does not know, in each of 128 stories: ${before.toFixed(1)} before, ${withError(after, after_se)} after.`,
          zh: `128 篇故事中,每篇里语法不允许的词间过渡:之前 ${before.toFixed(1)} 处,之后 ${withError(after, after_se)} 处。`,
        })[language],
    },
  ],
};
