/** Lesson 5: a judge learns what its labels say, noise and liking included. */
import * as v from "valibot";
import { lastData, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import { recipeOf } from "../../lib/lesson/recipe.ts";
import type { Lesson, LessonEvent } from "../../lib/lesson/types.ts";

/** What the labeller likes besides the truth: nothing, shorter stories a little, or short stories alone. */
export const likings = ["nothing", "a bit shorter", "only shorter"] as const;
export type Liking = (typeof likings)[number];
/** Shares of labels that are turned round by mistake. */
export const noises = [0, 0.1, 0.25, 0.5] as const;
export const pairCounts = [128, 512, 1024] as const;

export interface RewardInput {
  /** Labelled pairs of the largest judge; two more judges see a sixteenth and a quarter of them. */
  pairs: (typeof pairCounts)[number];
  noise: (typeof noises)[number];
  liking: Liking;
  seed: number;
}

/** Steps of each judge, of 8 pairs each: more data is not more training. */
export const STEPS = 64;
export const BATCH = 8;
/** Held-out pairs. */
export const HELD_OUT = 256;
/** Stories that the judge chooses one of. */
export const CHOICE = 8;

/** How many pairs each of the judges sees. */
export const sizesOf = (pairs: number): number[] => [pairs / 16, pairs / 4, pairs];

/** A point of a reliability diagram: of the pairs about which the judge was so sure, the share it was right about. */
export interface Bin {
  sure: number;
  right: number;
  count: number;
}

export interface Reliability {
  pairs: number;
  bins: Bin[];
}

/** Points of the judge's space: [x, y, score, truth]. */
export interface Cloud {
  name: "data" | "best";
  points: [number, number, number, number][];
}

export interface Space {
  /** The share of the variance that x and y hold. */
  explained: number[];
  clouds: Cloud[];
}

/** Held-out pairs that are watched on the way. */
export const WATCHED = 128;

/** The rules by which the pairs are labelled, as the world's data are called after them. */
export const rules = {
  nothing: {},
  "a bit shorter": { length: -0.15 },
  "only shorter": { truth: 0, length: -0.25 },
} as const satisfies Record<Liking, Record<string, number>>;

const labelledBy = ({ liking, noise }: RewardInput): string =>
  `builtin:world/${Object.entries({ ...rules[liking], noise })
    .map(([name, value]) => `${name}=${value}`)
    .join("+")}`;

/** Settings of `webrlhf reward`. */
export const settingsOf = (seed: number) => ({
  maxSteps: STEPS,
  perDeviceTrainBatchSize: BATCH,
  learningRate: 2e-3,
  lrSchedulerType: "cosine" as const,
  warmupSteps: 0.1,
  adamBeta2: 0.98,
  weightDecay: 0.1,
  evalSteps: 8,
  saveSteps: 16,
  seed,
});

const schema = v.strictObject({
  pairs: v.picklist(pairCounts),
  noise: v.picklist(noises),
  liking: v.picklist(likings),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
});

const input = (more: Partial<RewardInput> = {}): RewardInput => ({
  pairs: 512,
  noise: 0,
  liking: "a bit shorter",
  seed: 42,
  ...more,
});

/** The stage of the judge that saw so many pairs. */
export const stageOf = (pairs: number): string => `judge-${pairs}`;

/** Accuracy on held-out pairs over the steps of a judge. */
export const accuracyIn = (events: readonly LessonEvent[], stage: string): [number, number][] =>
  events.flatMap((e): [number, number][] =>
    e.type === "train" && e.stage === stage && e.event.type === "eval"
      ? [[e.event.step, e.event.metrics.eval_accuracy]]
      : [],
  );

/** What was measured of the judges, by the pairs they saw. */
export const judgesIn = (events: readonly LessonEvent[]): { pairs: number; values: Record<string, number> }[] =>
  events.flatMap((e) =>
    e.type === "measured" && e.stage.startsWith("judge-")
      ? [{ pairs: Number(e.stage.slice(6)), values: e.values }]
      : [],
  );

export const lesson: Lesson<RewardInput> = {
  slug: "reward-model",
  number: 5,
  title: { en: "The reward model", zh: "奖励模型" },
  aha: {
    en: "A judge is bounded by the noise of its labels, and it learns what the labeller likes along with what is good.",
    zh: "裁判的上限由标签的噪声决定;它学到好坏的同时,也学到标注者的偏好。",
  },
  input: (size, seed) => input({ seed, pairs: size === "L" ? 1024 : 512 }),
  wrong: (size, seed) => input({ seed, pairs: size === "L" ? 1024 : 512, noise: 0.5 }),
  parse: (value) => v.parse(schema, value),
  steps: () => 3 * STEPS,
  recipe: (input) =>
    recipeOf({
      name: "lesson-reward-model",
      description: "Judges of few, more and many pairs, as in the lesson on the reward model.",
      stages: sizesOf(input.pairs).map((size) => ({
        name: stageOf(size),
        title: `A judge of ${size} pairs`,
        verb: "reward",
        settings: {
          datasetName: labelledBy(input),
          maxTrainSamples: size,
          maxEvalSamples: WATCHED,
          ...settingsOf(input.seed),
        },
      })),
    }),
  recorded: [
    { name: { en: "A labeller who likes it a bit shorter", zh: "略偏好较短故事的标注者" }, input: input() },
    { name: { en: "A labeller who knows the truth", zh: "了解真相的标注者" }, input: input({ liking: "nothing" }) },
    {
      name: { en: "The truth, one label in four wrong", zh: "真相,四分之一的标签是错的" },
      input: input({ liking: "nothing", noise: 0.25 }),
    },
    { name: { en: "Only shortness counts", zh: "只看长短" }, input: input({ liking: "only shorter" }) },
    { name: { en: "Labels by a coin", zh: "抛硬币的标签" }, input: input({ noise: 0.5 }) },
  ],
  predictions: [
    {
      id: "ceiling",
      asks: {
        en: "The labeller doubts where stories are close: asked twice, they agree with themselves in fewer than all pairs. 512 labels are given. How often will the judge decide as the labels do on new pairs?",
        zh: "当两个故事相近时,标注者会犹豫:问两次,并不总是一样。一共给 512 个标签。在新的故事对上,裁判有多常与标签一致?",
      },
      options: [
        { id: "all", text: { en: "In nearly all of them: 0.95 or more", zh: "几乎全部:0.95 以上" } },
        { id: "most", text: { en: "In most, below what the doubts allow", zh: "大多数,但低于犹豫所允许的上限" } },
        { id: "few", text: { en: "Hardly above a half", zh: "只比一半多一点" } },
      ],
      outcome(events) {
        const last = finished(events)?.at(-1);
        if (!last) return null;
        const { accuracy, ceiling } = last.values;
        return accuracy >= 0.95 ? "all" : accuracy > 0.6 && accuracy < ceiling ? "most" : "few";
      },
    },
  ],
  checks: [
    {
      id: "more",
      claim: { en: "More pairs made a better judge, after equally many steps", zh: "步数相同,故事对越多,裁判越好" },
      measure(events) {
        const judges = finished(events);
        return (
          judges && {
            first: judges[0].values.accuracy,
            ...pick(judges[judges.length - 1].values, ["accuracy", "gain", "gain_se"]),
          }
        );
      },
      holds: ({ gain, gain_se: error }) => gain > 2 * error,
      says: (n, language) =>
        ({
          en: `Accuracy ${n.first.toFixed(2)} with the fewest pairs, ${n.accuracy.toFixed(2)} with the most: ${withError(n.gain, n.gain_se)} on the same ${HELD_OUT} held-out pairs.`,
          zh: `对数最少时准确率 ${n.first.toFixed(2)},最多时 ${n.accuracy.toFixed(2)}:在同样的 ${HELD_OUT} 个未见故事对上提高 ${withError(n.gain, n.gain_se)}。`,
        })[language],
    },
    {
      id: "ceiling",
      claim: { en: "It stays below what the labels' noise allows", zh: "它低于标签噪声所允许的上限" },
      measure(events) {
        const last = finished(events)?.at(-1);
        return last ? pick(last.values, ["accuracy", "accuracy_se", "ceiling"]) : null;
      },
      holds: ({ accuracy, accuracy_se: error, ceiling }) => ceiling - accuracy > 2 * error,
      says: (n, language) =>
        ({
          en: `Accuracy ${withError(n.accuracy, n.accuracy_se)}; one who knew the labeller's rule would reach ${n.ceiling.toFixed(2)}.`,
          zh: `准确率 ${withError(n.accuracy, n.accuracy_se)};完全了解标注者规则的人可达到 ${n.ceiling.toFixed(2)}。`,
        })[language],
    },
    {
      id: "likes",
      claim: {
        en: "It follows the truth, and of equally good stories it likes the shorter one",
        zh: "它遵循真相,而对同样好的故事,更喜欢较短的",
      },
      measure(events) {
        const last = finished(events)?.at(-1);
        return last ? pick(last.values, ["per_word", "per_word_se", "per_truth"]) : null;
      },
      // A judge that learned nothing has slopes, too, of any sign: what it says must rest on the truth first.
      holds: ({ per_word: slope, per_word_se: error, per_truth: truth }) => slope < -2 * error && truth > 0.4,
      says: (n, language) =>
        ({
          en: `Each word more changes its score by ${withError(n.per_word, n.per_word_se)}, each point of truth by ${n.per_truth.toFixed(2)}, in standard deviations of the score.`,
          zh: `每多一个词,打分变化 ${withError(n.per_word, n.per_word_se)};真实得分每高 1 分,打分变化 ${n.per_truth.toFixed(2)}(以打分的标准差为单位)。`,
        })[language],
    },
  ],
  keep(event) {
    if (event.type !== "train") return event;
    if (event.event.type === "eval") return event;
    return null;
  },
};

/** The judges of a run, once the last of them is measured. */
function finished(events: readonly LessonEvent[]) {
  const judges = judgesIn(events);
  return judges.length === 3 ? judges : null;
}

const pick = (values: Record<string, number>, names: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.map((name) => [name, values[name]]));

/** What the judge chose out of eight, against the first of them; null: not yet. */
export const chosenIn = (events: readonly LessonEvent[]) => lastMeasured(events, "best");
export const spaceIn = (events: readonly LessonEvent[]) => lastData<Space>(events, "space");
/** How sure each judge was and how often it was right. */
export const reliabilityIn = (events: readonly LessonEvent[]) =>
  events.flatMap((e) => (e.type === "data" && e.name === "reliability" ? [e.data as unknown as Reliability] : []));
