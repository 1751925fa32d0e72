/** Lesson 5's work: judges of few, more and many pairs; how sure the last is and when it is right; what it would choose. */
import {
  bayesAccuracy,
  goldReward,
  preferenceExample,
  sftExample,
  type Tokenizer,
  type WorldPreference,
  worldPreferences,
} from "webrlhf/data";
import { loadCausalLM, loadScoreModel, type ScoreModel } from "webrlhf/nn";
import {
  evaluatePolicy,
  modelReward,
  reward,
  type Sample,
  scorePairs,
  scoreWithHidden,
  trainReward,
} from "webrlhf/rlhf";
import type { Json, LessonEvent, Program } from "../../lib/lesson/types.ts";
import {
  heldOutPrompts,
  kept,
  Models,
  meanAndError,
  RESPONSE_LENGTH,
  readTokenizer,
  trained,
  truth,
} from "../../lib/lesson/work.ts";
import { fitBasis, inBasis } from "../../lib/pca.ts";
import {
  type Bin,
  CHOICE,
  type Cloud,
  HELD_OUT,
  type RewardInput,
  rules,
  STEPS,
  settingsOf,
  sizesOf,
  stageOf,
  WATCHED,
} from "./lesson.ts";
import { slopes } from "./slopes.ts";

/** Points of a cloud that are shown. */
const SHOWN = 128;

export const program: Program<RewardInput> = async function* ({ pairs, noise, liking, seed }, context) {
  const { start, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const judge = { ...rules[liking], noise };
    const all = worldPreferences(pairs, seed, { judge });
    const test = worldPreferences(HELD_OUT, seed, { judge, split: "test" });
    const ceiling = bayesAccuracy(test);
    yield { type: "measured", stage: "labels", step: 0, values: { ceiling } };

    let model: ScoreModel | null = null;
    let first: boolean[] | null = null;
    for (const size of sizesOf(pairs)) {
      model = models.keep(await loadScoreModel(start.files, start.folder, "reward model", seed));
      const { maxPositions: maxLength } = model.config;
      const examples = (of: readonly WorldPreference[]) =>
        of.map((pair) => preferenceExample(pair, tokenizer, { maxLength }));
      const data = { train: examples(all.slice(0, size)), eval: examples(test.slice(0, WATCHED)) };
      const settings = reward(settingsOf(seed));
      yield* trained(
        stageOf(size),
        trainReward({ model, tokenizer }, data, settings, kept(context, stageOf(size))),
        signal,
      );
      if (signal.aborted) return;
      const scores = await scorePairs(model, examples(test));
      const right = scores.chosen.map((score, i) => score > scores.rejected[i]);
      first ??= right;
      yield {
        type: "measured",
        stage: stageOf(size),
        step: STEPS,
        values: { ...accuracyOf(right, first), ceiling, ...liked(test, scores) },
      };
      yield told("reliability", { pairs: size, bins: bins(scores).map((bin) => ({ ...bin })) });
    }
    if (!model) return;

    yield { type: "enter", stage: "best" };
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    const prompts = heldOutPrompts(tokenizer, seed);
    const inputs = { policy, tokenizer, prompts, reward: modelReward(model), gold: truth };
    const options = { seed, responseLength: RESPONSE_LENGTH, showSamples: prompts.length };
    const plain = await evaluatePolicy(inputs, options);
    if (signal.aborted) return;
    const best = await evaluatePolicy(inputs, { ...options, bestOf: CHOICE });
    yield { type: "measured", stage: "best", step: CHOICE, values: chosen(plain.samples, best.samples) };
    yield { type: "samples", stage: "plain", step: 1, samples: plain.samples.slice(0, 4) };
    yield { type: "samples", stage: "best", step: CHOICE, samples: best.samples.slice(0, 4) };

    const stories = test.map(({ prompt, chosen: completion }) => ({ prompt, completion }));
    const others = test.map(({ prompt, rejected: completion }) => ({ prompt, completion }));
    const shown = [...stories.slice(0, SHOWN / 2), ...others.slice(0, SHOWN / 2)];
    const seen = await seenBy(model, tokenizer, shown);
    const basis = fitBasis(seen.hidden, seen.width, 2); // of the data alone: what leaves it, leaves it in the picture
    const answers = best.samples.slice(0, SHOWN).map(({ prompt, response }) => ({ prompt, completion: response }));
    const found = await seenBy(model, tokenizer, answers);
    const cloud = (name: Cloud["name"], { hidden, scores }: typeof seen, of: readonly Told[]): Cloud => ({
      name,
      points: inBasis(basis, hidden).map(([x, y], i) => [x, y, scores[i], goldReward(of[i].prompt, of[i].completion)]),
    });
    const clouds = [cloud("data", seen, shown), cloud("best", found, answers)];
    yield told("space", { explained: basis.explained, clouds: clouds.map((c) => ({ ...c })) });
  } finally {
    models.free();
  }
};

const told = (name: string, data: Json): LessonEvent => ({ type: "data", name, data });

interface Told {
  prompt: string;
  completion: string;
}

/** Stories as the judge sees them. */
const seenBy = (model: ScoreModel, tokenizer: Tokenizer, stories: readonly Told[]) =>
  scoreWithHidden(
    model,
    stories.map((story) =>
      sftExample({ kind: "prompt_completion", ...story }, tokenizer, { maxLength: model.config.maxPositions }),
    ),
  );

/** Accuracy, and by how much it is above the first judge's on the same pairs. */
function accuracyOf(right: readonly boolean[], first: readonly boolean[]): Record<string, number> {
  const accuracy = meanAndError(right.map(Number));
  const gain = meanAndError(right.map((r, i) => Number(r) - Number(first[i])));
  return { accuracy: accuracy.mean, accuracy_se: accuracy.error, gain: gain.mean, gain_se: gain.error };
}

/** What a judge's score rests on: its slopes over the truth and over the number of words of both stories of each pair. */
function liked(pairs: readonly WorldPreference[], scores: { chosen: readonly number[]; rejected: readonly number[] }) {
  const words = (story: string) => story.split(/\s+/).filter(Boolean).length;
  const stories = pairs.flatMap(({ chosen: a, rejected: b, goldChosen, goldRejected }, i) => [
    { score: scores.chosen[i], truth: goldChosen, words: words(a) },
    { score: scores.rejected[i], truth: goldRejected, words: words(b) },
  ]);
  return slopes(stories);
}

/** Pairs by how sure the judge was of its own choice: the mean of σ(difference), and how often the labels agree. */
function bins({ chosen: a, rejected: b }: { chosen: readonly number[]; rejected: readonly number[] }): Bin[] {
  const pairs = a.map((score, i) => {
    const ahead = score - b[i];
    return { sure: 1 / (1 + Math.exp(-Math.abs(ahead))), right: ahead > 0 };
  });
  return Array.from({ length: 5 }, (_, k) => {
    const inside = pairs.filter(({ sure }) => Math.min(4, Math.floor((sure - 0.5) * 10)) === k);
    const mean = (of: (pair: (typeof pairs)[number]) => number) =>
      inside.reduce((sum, pair) => sum + of(pair), 0) / inside.length;
    return { sure: mean(({ sure }) => sure), right: mean(({ right }) => Number(right)), count: inside.length };
  }).filter(({ count }) => count > 0);
}

/** One answer to each prompt, and the best of eight by the judge. */
function chosen(plain: readonly Sample[], best: readonly Sample[]): Record<string, number> {
  const words = ({ response }: Sample) => response.split(/\s+/).filter(Boolean).length;
  const out: Record<string, number> = {};
  for (const [name, of] of Object.entries({
    words,
    gold: ({ gold = Number.NaN }: Sample) => gold,
    reward: ({ reward = Number.NaN }: Sample) => reward,
  })) {
    for (const [when, samples] of [
      ["plain", plain],
      ["best", best],
    ] as const) {
      const { mean, error } = meanAndError(samples.map(of));
      Object.assign(out, { [`${name}_${when}`]: mean, [`${name}_${when}_se`]: error });
    }
  }
  return out;
}
