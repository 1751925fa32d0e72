/** Lesson 6's work: stores many answers to each prompt, chooses among them, then lets RAFT make the choice permanent. */
import { worldPrompts } from "webrlhf/data";
import { loadCausalLM } from "webrlhf/nn";
import {
  average,
  bestOfKl,
  modelReward,
  type Response,
  type RewardFunction,
  raft,
  sampleResponses,
  standardDeviation,
  trainRaft,
} from "webrlhf/rlhf";
import { trainJudge } from "../../lib/lesson/judge.ts";
import { lot } from "../../lib/lesson/lot.ts";
import { TRAIN_PROMPTS } from "../../lib/lesson/sizes.ts";
import type { Json, LessonEvent, Program } from "../../lib/lesson/types.ts";
import {
  changes,
  heldOutPrompts,
  kept,
  type Look,
  look,
  Models,
  meanAndError,
  promptsOf,
  RESPONSE_LENGTH,
  readTokenizer,
  trained,
  truth,
} from "../../lib/lesson/work.ts";
import { bestOf } from "./best.ts";
import {
  type BestInput,
  type Chooser,
  type Gains,
  LOOK_EVERY,
  STORED,
  type Stored,
  settingsOf,
  sizesOfN,
} from "./lesson.ts";

/** Prompts whose answers are drawn at once: between two of them there is something to see. */
const AT_ONCE = 16;
/** Prompts whose answers are shown. */
const SHOWN = 2;

export const program: Program<BestInput> = async function* (input, context) {
  const { by, seed, rounds } = input;
  const { start, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const judge = yield* trainJudge(context, models, tokenizer, input);
    if (signal.aborted) return;
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    const reference = models.keep(await loadCausalLM(start.files, start.folder, "reference"));
    const reward = modelReward(judge);
    const chooses = chooser(by, reward, seed);
    const held = heldOutPrompts(tokenizer, seed);

    yield { type: "enter", stage: "draw" };
    const drawn: Drawn[] = [];
    for (let at = 0; at < held.length; at += AT_ONCE) {
      if (signal.aborted) return;
      const part = held.slice(at, at + AT_ONCE);
      const places = part.map((_, i) => at + i);
      const sampling = { maxNewTokens: RESPONSE_LENGTH, samples: STORED, temperature: 1, seed, iteration: 1 };
      const answers = await sampleResponses(policy, tokenizer, part, places, sampling);
      const [scores, choices] = [await reward(answers), await chooses(answers)];
      for (const i of part.keys()) {
        const of = <T>(all: ArrayLike<T>) => Array.from(all).slice(i * STORED, (i + 1) * STORED);
        drawn.push({ scores: of(scores), choices: of(choices), truths: of(answers).map(truth) });
      }
      if (at === 0) yield data("stories", stories(answers.slice(0, SHOWN * STORED), drawn));
      yield data("gains", gained(drawn));
    }
    const scale = {
      reward: standardDeviation(drawn.flatMap(({ scores }) => scores)),
      gold: standardDeviation(drawn.flatMap(({ truths }) => truths)),
    };

    const inputs = { policy, tokenizer, prompts: held, reward, reference };
    yield { type: "enter", stage: "before" };
    const before = await look(inputs, seed);
    yield { type: "samples", stage: "before", step: 0, samples: before.samples.slice(0, 4) };
    yield measured("before", 0, before, before, scale);
    if (signal.aborted) return;

    const prompts = promptsOf(worldPrompts(TRAIN_PROMPTS, seed, "train"), tokenizer);
    const shared = { policy, reference, rewards: chooses, tokenizer, gold: truth };
    const run = trainRaft(shared, prompts, raft(settingsOf(input)), kept(context, "raft"));
    for await (const event of trained("raft", run, signal)) {
      yield event;
      if (signal.aborted || event.type !== "train" || event.event.type !== "step") continue;
      const { step } = event.event;
      if (step % LOOK_EVERY === 0 && step < rounds)
        yield measured("raft", step, before, await look(inputs, seed), scale);
    }
    if (signal.aborted) return;

    yield { type: "enter", stage: "after" };
    const after = await look(inputs, seed);
    yield measured("raft", rounds, before, after, scale);
    yield measured("after", rounds, before, after, scale);
    yield { type: "samples", stage: "after", step: rounds, samples: after.samples.slice(0, 4) };
  } finally {
    models.free();
  }
};

const data = (name: string, data: Gains | Stored[]): LessonEvent => ({
  type: "data",
  name,
  data: data as unknown as Json,
});

/** The stored answers to one prompt: scores of the judge, what is chosen by, and the truth. */
interface Drawn {
  scores: number[];
  choices: number[];
  truths: number[];
}

/** Numbers that the best is chosen by. */
function chooser(by: Chooser, judge: RewardFunction, seed: number): RewardFunction {
  if (by === "judge") return judge;
  if (by === "truth") return (responses) => responses.map(truth);
  return (responses) => responses.map(({ ids }) => lot(ids, seed));
}

const stories = (answers: readonly Response[], drawn: readonly Drawn[]): Stored[] =>
  Array.from({ length: answers.length / STORED }, (_, p) => ({
    prompt: answers[p * STORED].promptText,
    answers: answers.slice(p * STORED, (p + 1) * STORED).map(({ text }, i) => ({
      text,
      judge: drawn[p].scores[i],
      truth: drawn[p].truths[i],
      choice: drawn[p].choices[i],
    })),
  }));

/** Of one answer it is nothing, not the rounding error of two sums. */
const gain = (n: number, by: readonly number[], worth: readonly number[]): number =>
  n === 1 ? 0 : bestOf(n, by, worth) - average(worth);

/** What the best of n gains over one answer, on average over all ways to draw n of the stored ones. */
function gained(drawn: readonly Drawn[]): Gains {
  const [ofJudge, ofTruth] = [drawn.flatMap(({ scores }) => scores), drawn.flatMap(({ truths }) => truths)];
  const [judgeUnit, truthUnit] = [standardDeviation(ofJudge), standardDeviation(ofTruth)];
  const at = sizesOfN.map((n) =>
    drawn.map(({ scores, choices, truths }) => ({
      judge: gain(n, choices, scores) / judgeUnit,
      truth: gain(n, choices, truths) / truthUnit,
      possible: gain(n, truths, truths) / truthUnit,
    })),
  );
  const rows = sizesOfN.map((n, k) => {
    const of = (number: (prompt: (typeof at)[0][0], i: number) => number) => meanAndError(at[k].map(number));
    const [judge, found] = [of((p) => p.judge), of((p) => p.truth)];
    return {
      n,
      kl: bestOfKl(n),
      judge: judge.mean,
      judge_se: judge.error,
      truth: found.mean,
      truth_se: found.error,
      ahead_se: of((p) => p.judge - p.truth).error,
      possible: of((p) => p.possible).mean,
      missed_se: of((p) => p.possible - p.truth).error,
      slower_se: k < 2 ? 0 : of((p, i) => at[1][i].truth - (p.truth - at[k - 1][i].truth)).error,
    };
  });
  return { prompts: drawn.length, rows };
}

/** A look at the held-out prompts, as gains over the one before, in standard deviations of the answers drawn. */
function measured(
  stage: string,
  step: number,
  before: Look,
  after: Look,
  scale: { gold: number; reward: number },
): LessonEvent {
  const change = changes(before.samples, after.samples);
  const values = {
    truth: change.gold_change / scale.gold,
    truth_se: change.gold_change_se / scale.gold,
    judge: change.reward_change / scale.reward,
    judge_se: change.reward_change_se / scale.reward,
    kl: after.values.kl,
    distinct_2: after.values.distinct_2,
  };
  return { type: "measured", stage, step, values };
}
