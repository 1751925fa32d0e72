/** Lesson 3: imitation reaches the average of what it is shown. */
import * as v from "valibot";
import { lastGain, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import { recipeOf } from "../../lib/lesson/recipe.ts";
import type { Lesson, Numbers } from "../../lib/lesson/types.ts";

/** Which of the world's stories are shown: all, or one of the parts that are datasets of their own. */
export const diets = ["all", "better-half", "best-tenth", "worse-half"] as const;
export type Diet = (typeof diets)[number];

export interface SftInput {
  diet: Diet;
  seed: number;
  /** Optimizer steps of 32 stories. */
  steps: number;
}

const schema = v.strictObject({
  diet: v.picklist(diets),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
  steps: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(500)),
});

/** Of 2048 stories, or as near as a part comes. */
const stories: Record<Diet, number> = { all: 2048, "better-half": 1024, "best-tenth": 205, "worse-half": 1024 };

/** What is learned from, and how: the options of `webrlhf sft`. */
export const settingsOf = ({ diet, seed, steps }: SftInput) => ({
  datasetName: diet === "all" ? "builtin:world" : `builtin:world/${diet}`,
  maxTrainSamples: stories[diet],
  seed,
  maxSteps: steps,
  perDeviceTrainBatchSize: 32,
  learningRate: 1e-3,
  lrSchedulerType: "cosine" as const,
  saveSteps: 20,
});

const steps = { S: 60, M: 60, L: 120 };
const input = (diet: Diet, seed = 42): SftInput => ({ diet, seed, steps: steps.S });

export const lesson: Lesson<SftInput> = {
  slug: "sft",
  number: 3,
  title: { en: "Supervised fine-tuning", zh: "监督微调" },
  aha: {
    en: "Imitation reaches the average of what it is shown, never more: so who chooses what is shown?",
    zh: "模仿只能达到所见样本的平均水平,不会更高:那么,由谁来挑选样本?",
  },
  input: (size, seed) => ({ diet: "better-half", seed, steps: steps[size] }),
  wrong: (size, seed) => ({ diet: "worse-half", seed, steps: steps[size] }),
  parse: (value) => v.parse(schema, value),
  steps: ({ steps }) => steps,
  recipe: (input) =>
    recipeOf({
      name: "lesson-sft",
      description: "Imitation of chosen stories, as in the lesson on supervised fine-tuning.",
      stages: [{ name: "sft", title: "Supervised fine-tuning", verb: "sft", settings: settingsOf(input) }],
    }),
  recorded: [
    { name: { en: "The better half", zh: "较好的一半" }, input: input("better-half") },
    { name: { en: "All stories", zh: "全部故事" }, input: input("all") },
    { name: { en: "The best tenth", zh: "最好的十分之一" }, input: input("best-tenth") },
    { name: { en: "The worse half", zh: "较差的一半" }, input: input("worse-half") },
  ],
  predictions: [
    {
      id: "reach",
      asks: {
        en: "The model is shown only the better half of the stories. How good will its own be?",
        zh: "只给模型看较好的那一半故事。它自己写的会有多好?",
      },
      options: [
        { id: "better", text: { en: "Better than what it was shown", zh: "比看到的更好" } },
        { id: "same", text: { en: "Up to what it was shown, not beyond", zh: "最多和看到的一样好" } },
        { id: "before", text: { en: "No better than before", zh: "和以前一样" } },
      ],
      outcome(events) {
        const before = lastMeasured(events, "before");
        const after = lastMeasured(events, "after");
        if (!before || !after) return null;
        const { gold, gold_se: error, shown } = after;
        if (gold > shown + 2 * error) return "better";
        return after.gold_change > 2 * after.gold_change_se ? "same" : "before";
      },
    },
  ],
  truth: (events) => lastGain(events, "after"),
  checks: [
    {
      id: "rises",
      claim: { en: "The stories got truly better", zh: "故事确实变好了" },
      measure: (events) => pick(lastMeasured(events, "after"), ["gold_change", "gold_change_se"]),
      holds: (n) => n.gold_change > 2 * n.gold_change_se,
      says: (n, language) =>
        ({
          en: `Truth moved by ${withError(n.gold_change, n.gold_change_se)} on 128 held-out prompts.`,
          zh: `在 128 个未见提示上,真实得分变化 ${withError(n.gold_change, n.gold_change_se)}。`,
        })[language],
    },
    {
      id: "reaches",
      claim: {
        en: "They came more than halfway up to what was shown, and not beyond",
        zh: "向所见样本的水平走了一半以上,但没有超过",
      },
      measure: (events) => pick(lastMeasured(events, "after"), ["gold", "gold_se", "gold_change", "shown"]),
      holds: (n) => {
        const share = n.gold_change / (n.shown - (n.gold - n.gold_change));
        return n.gold_change > 0 && share > 0.5 && n.gold < n.shown + 2 * n.gold_se;
      },
      says: (n, language) =>
        ({
          en: `Shown: ${n.shown.toFixed(2)} on average. The model's own: ${withError(n.gold, n.gold_se)}.`,
          zh: `看到的平均为 ${n.shown.toFixed(2)};模型自己的为 ${withError(n.gold, n.gold_se)}。`,
        })[language],
    },
  ],
};

const pick = (values: Numbers | null, names: readonly string[]): Numbers | null =>
  values && Object.fromEntries(names.map((name) => [name, values[name]]));
