/** Lesson 4: twenty clicks make a judge, and it learns the clicker's rule, not the truth. */
import * as v from "valibot";
import { type Label, labelsSchema } from "../../lib/labels.ts";
import { lastData, lastGain, lastMeasured, withError } from "../../lib/lesson/numbers.ts";
import { madeBy, recipeOf } from "../../lib/lesson/recipe.ts";
import { RESPONSE_LENGTH } from "../../lib/lesson/sizes.ts";
import type { Lesson, LessonEvent, Numbers } from "../../lib/lesson/types.ts";
import { type Rule, rules } from "./rules.ts";

/** Whose labels a run learns from: one who follows a rule, one who tosses a coin, or the visitor. */
export const labellers = [...rules, "coin", "own"] as const;
export type Labeller = (typeof labellers)[number];

/** A judge is trained whenever so many labels more were given. */
export const EVERY = 5;
/** Labels below which nothing is trained. */
export const LEAST = 5;
/** Labels of a whole lesson. */
export const GOAL = 20;

export interface LabellerInput {
  labeller: Labeller;
  seed: number;
  /** Labels by a rule or a coin; one's own are as many as they are. */
  count: number;
  /** Rounds in which the judge chooses what the policy imitates. */
  rounds: number;
  /** One's own. */
  labels?: Label[];
  /** Somebody else's, to compare with. */
  others?: Label[];
}

/** What the program says of the labels, as data "labels". */
export interface LabelsTold {
  by: Labeller;
  count: number;
  taste: Rule;
  agrees: Record<Rule, [same: number, of: number]>;
}

/** The labels that a run learned from, whoever gave them, in its folder. */
export const GIVEN = "given.jsonl";

/** Settings of `webrlhf reward`: what trains the same judge; see the text of the lesson. */
export const judgeSettings = (seed: number) => ({
  numTrainEpochs: 8,
  learningRate: 2e-3,
  perDeviceTrainBatchSize: 2,
  seed,
});

/** Responses per prompt, of which the judge keeps one, and prompts in a round. */
const CANDIDATES = 4;
export const PROMPTS = 32;

/** Settings of `webrlhf raft`. */
export const raftSettings = ({ seed, rounds }: LabellerInput) => ({
  seed,
  // What LMFlow does to texts would take the space before each story, and with it the first word.
  dialect: "corrected" as const,
  learningRate: 1e-3,
  raftBatchSize: PROMPTS,
  topRewardPercentage: 1 / CANDIDATES,
  perDeviceTrainBatchSize: PROMPTS / 2,
  numTrainEpochs: 3,
  maxSteps: rounds,
  responseLength: RESPONSE_LENGTH,
  temperature: 1,
  showSamples: 0,
});

const whole = (least: number, most: number) => v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));
const schema = v.strictObject({
  labeller: v.picklist(labellers),
  seed: whole(0, 999_999_999),
  count: whole(LEAST, 64),
  rounds: whole(0, 20),
  labels: v.optional(labelsSchema),
  others: v.optional(labelsSchema),
});

const rounds = { S: 4, M: 4, L: 8 };
const input = (labeller: Labeller, seed = 42): LabellerInput => ({ labeller, seed, count: GOAL, rounds: rounds.S });

/** How often the judge decides as whoever gave the labels, on pairs that it was not trained on. */
function likeTheLabeller(events: readonly LessonEvent[]): { same: number; of: number } | null {
  const told = lastData<LabelsTold>(events, "labels");
  const judged = lastMeasured(events, "judge");
  if (!told || !judged) return null;
  if (told.by === "own") return judged.later_of ? { same: judged.later_same, of: judged.later_of } : null;
  const finished = events.some((e) => e.type === "enter" && e.stage === "unseen");
  return finished ? { same: judged[told.by] * judged.of, of: judged.of } : null;
}

const half = ({ same, of }: { same: number; of: number }) => ({
  share: same / of,
  se: Math.sqrt(Math.max(same * (of - same), 0.25 * of) / of) / of,
  of,
});

export const lesson: Lesson<LabellerInput> = {
  slug: "labeller",
  number: 4,
  title: { en: "You are the labeller", zh: "由你来标注" },
  aha: {
    en: "Twenty clicks make a judge, and it learns your rule, not the truth.",
    zh: "点二十下就能造出一个裁判,而它学到的是你的标准,不是真相。",
  },
  input: (size, seed) => ({ ...input("friend", seed), rounds: rounds[size] }),
  wrong: (size, seed) => ({ ...input("coin", seed), rounds: rounds[size] }),
  parse: (value) => v.parse(schema, value),
  private: ["labels", "others"],
  recipe(input) {
    const { seed, rounds } = input;
    const judge = {
      name: "judge",
      title: "The judge of the labels",
      verb: "reward",
      settings: { datasetName: `\${recipe_dir}/files/run/${GIVEN}`, ...judgeSettings(seed) },
    };
    const raft = {
      name: "raft",
      title: "RAFT by this judge",
      verb: "raft",
      settings: { rewardModelPath: madeBy("judge"), maxTrainSamples: PROMPTS * rounds, ...raftSettings(input) },
    };
    return recipeOf({
      name: "lesson-labeller",
      description: "A judge of labels, and a policy that imitates what it chooses, as in the lesson on labelling.",
      notes: [
        "The labels are in the saved run, run.zip: unpack it, and run the recipe that is in it. For labels that lie elsewhere:",
        "  --set judge.dataset_name=labels.jsonl",
      ],
      stages: rounds > 0 ? [judge, raft] : [judge],
    });
  },
  // 80 steps for 20 labels, and fewer for the judges before.
  steps: ({ count, rounds, labels }) => {
    const all = labels?.length ?? count;
    const judges = Array.from({ length: Math.ceil(all / EVERY) }, (_, i) => Math.min(all, (i + 1) * EVERY));
    return judges.reduce((sum, n) => sum + 8 * Math.ceil(n / 2), rounds);
  },
  recorded: [
    { name: { en: "Twenty labels: a friend is named", zh: "二十个标签:提到朋友" }, input: input("friend") },
    { name: { en: "Twenty labels: the shorter story", zh: "二十个标签:较短的故事" }, input: input("shorter") },
    { name: { en: "Twenty labels: the truly better story", zh: "二十个标签:真正更好的故事" }, input: input("truth") },
    { name: { en: "Twenty labels by a coin", zh: "二十个标签:抛硬币" }, input: input("coin") },
  ],
  predictions: [
    {
      id: "clicks",
      asks: {
        en: "Somebody always prefers the story that names a friend, and gives 20 labels. How often will a judge trained on them decide alike on new pairs?",
        zh: "有人总是选提到朋友的故事,一共给了 20 个标签。用它们训练的裁判,在新的故事对上有多常和他一致?",
      },
      options: [
        { id: "coin", text: { en: "Hardly more than half the time", zh: "只比一半多一点" } },
        { id: "some", text: { en: "In about three of four", zh: "大约四次中有三次" } },
        { id: "most", text: { en: "In nine of ten or more", zh: "十次中有九次以上" } },
      ],
      outcome(events) {
        if (lastData<LabelsTold>(events, "labels")?.by !== "friend") return null;
        const found = likeTheLabeller(events);
        if (!found) return null;
        const share = found.same / found.of;
        return share >= 0.9 ? "most" : share > 0.65 ? "some" : "coin";
      },
    },
  ],
  truth: (events) => lastGain(events, "policy"),
  checks: [
    {
      id: "learns",
      claim: {
        en: "The judge decides as the labeller does, beyond chance, on pairs that it was not shown",
        zh: "在没见过的故事对上,裁判与标注者的一致程度超出偶然",
      },
      measure(events) {
        const found = likeTheLabeller(events);
        return found && half(found);
      },
      holds: ({ share, of }) => share - 0.5 > 2 * Math.sqrt(0.25 / of),
      says: ({ share, se, of }, language) =>
        ({
          en: `Alike in ${withError(share, se)} of ${of} pairs; a coin would be in 0.5 ± ${Math.sqrt(0.25 / of).toFixed(2)}.`,
          zh: `在 ${of} 对中一致的比例为 ${withError(share, se)};抛硬币为 0.5 ± ${Math.sqrt(0.25 / of).toFixed(2)}。`,
        })[language],
    },
    {
      id: "taste",
      claim: { en: "It learned this taste, not the truth", zh: "它学到的是这个偏好,不是真相" },
      measure(events) {
        const told = lastData<LabelsTold>(events, "labels");
        const judged = lastMeasured(events, "judge");
        if (!told || !judged || told.taste === "truth") return null;
        if (!events.some((e) => e.type === "enter" && e.stage === "unseen")) return null;
        return { taste: judged[told.taste], truth: judged.truth, of: judged.of };
      },
      holds: ({ taste, truth, of }) => taste - truth > 2 * Math.sqrt(0.5 / of),
      says: ({ taste, truth, of }, language) =>
        ({
          en: `On ${of} new pairs it agrees with the taste in ${taste.toFixed(2)}, with the truth in ${truth.toFixed(2)}.`,
          zh: `在 ${of} 个新的故事对上,与该偏好一致 ${taste.toFixed(2)},与真相一致 ${truth.toFixed(2)}。`,
        })[language],
    },
    {
      id: "follows",
      claim: {
        en: "What the labeller preferred, the policy now writes more often",
        zh: "标注者偏好的东西,策略现在写得更多了",
      },
      measure(events) {
        const told = lastData<LabelsTold>(events, "labels");
        const after = lastMeasured(events, "policy");
        if (!told || after?.gold_change === undefined) return null;
        // A coin prefers nothing: the labels' nearest rule is chance, and the coin itself is asked again.
        const { name, sign } = moved[told.by === "coin" ? "coin" : told.taste];
        return { change: sign * after[`${name}_change`], se: after[`${name}_change_se`], truth: after.gold_change };
      },
      holds: ({ change, se }) => change > 2 * se,
      says: (n: Numbers, language) =>
        ({
          en: `In the direction of the labels it moved by ${withError(n.change, n.se)} on 128 held-out prompts; truth moved by ${n.truth.toFixed(2)}.`,
          zh: `在 128 个未见提示上,朝标签的方向变化 ${withError(n.change, n.se)};真实得分变化 ${n.truth.toFixed(2)}。`,
        })[language],
    },
  ],
  keep(event) {
    if (event.type === "samples") return event;
    if (event.type !== "train") return event;
    if (event.event.type !== "step" || event.stage !== "raft") return null;
    const { reward, gold } = event.event.metrics;
    return { ...event, event: { ...event.event, metrics: { reward, gold } } };
  },
};

/** What of a policy's stories each rule looks at, and where it wants it to go. */
const moved: Record<Rule | "coin", { name: "friend" | "words" | "gold" | "coin"; sign: 1 | -1 }> = {
  coin: { name: "coin", sign: 1 },
  friend: { name: "friend", sign: 1 },
  shorter: { name: "words", sign: -1 },
  truth: { name: "gold", sign: 1 },
};
