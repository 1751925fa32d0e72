/** Lesson 4's work: trains judges on the first 5, 10, … labels, then lets the last one choose what a policy imitates. */
import { UserError } from "webrlhf";
import { goldReward, parseWish, worldPrompts } from "webrlhf/data";
import { loadCausalLM, type ScoreModel } from "webrlhf/nn";
import { modelReward, raft, type Sample, trainRaft } from "webrlhf/rlhf";
import { type Label, toJsonLines } from "../../lib/labels.ts";
import { lot } from "../../lib/lesson/lot.ts";
import type { LessonEvent, Program } from "../../lib/lesson/types.ts";
import {
  changes,
  heldOutPrompts,
  kept,
  look,
  Models,
  meanAndError,
  promptsOf,
  readTokenizer,
  trained,
  truth,
} from "../../lib/lesson/work.ts";
import { deckPairs } from "./deck.ts";
import { agrees, freshJudge, heldOutPairs, likens, ruled, teach } from "./judge.ts";
import { EVERY, GIVEN, type LabellerInput, LEAST, PROMPTS, raftSettings } from "./lesson.ts";
import { namesFriend, wordsOf } from "./rules.ts";
import { likeness } from "./taste.ts";

export const program: Program<LabellerInput> = async function* (input, context) {
  const { seed, rounds } = input;
  const { start, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const labels = labelled(input);
    await context.files.writeFile(`${context.folder}/${GIVEN}`, toJsonLines(labels));
    const likes = likeness(labels, goldOf);
    const taste = input.labeller === "own" || input.labeller === "coin" ? likes.nearest : input.labeller;
    yield { type: "data", name: "labels", data: { by: input.labeller, count: labels.length, taste, ...likes } };

    yield { type: "enter", stage: "judge" };
    let judge: ScoreModel | null = null;
    const later = { same: 0, of: 0 };
    for (let count = EVERY; ; count = Math.min(count + EVERY, labels.length)) {
      const last = count >= labels.length;
      judge = await freshJudge(start, seed);
      models.keep(judge);
      const run = last ? kept(context, "judge") : { signal };
      yield* trained("judge", teach(judge, tokenizer, labels.slice(0, count), seed, run), signal);
      if (signal.aborted) return;
      const { values, ends } = await likens(judge, tokenizer, seed);
      const next = labels.slice(count, count + EVERY);
      if (next.length > 0) {
        // Those labels are the judge's test: it has not seen them, and neither had the labeller when it was trained.
        const { same, of } = await agrees(judge, tokenizer, next);
        later.same += same;
        later.of += of;
        Object.assign(values, { later_same: later.same, later_of: later.of });
      }
      if (input.others) values.others = (await agrees(judge, tokenizer, input.others)).share;
      if (input.labeller === "coin") values.coin = (await agrees(judge, tokenizer, tossed(seed, "test"))).share;
      yield { type: "measured", stage: "judge", step: count, values };
      yield { type: "data", name: "ranked", data: ends.map((story) => ({ ...story })) };
      if (last) break;
    }

    yield { type: "enter", stage: "unseen" };
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    const rewards = modelReward(judge);
    const prompts = heldOutPrompts(tokenizer, seed);
    const measure = async function* (
      stage: string,
      step: number,
      before?: Sample[],
    ): AsyncGenerator<LessonEvent, Sample[]> {
      const { values, samples } = await look({ policy, tokenizer, prompts, reward: rewards }, seed);
      const more = { ...values, ...features(samples), ...(before && changesOf(before, samples, seed)) };
      yield { type: "measured", stage, step, values: more };
      yield { type: "samples", stage: before ? "after" : "before", step, samples: samples.slice(0, 4) };
      return samples;
    };
    const before = yield* measure("policy", 0);
    if (signal.aborted || rounds === 0) return;

    const training = promptsOf(worldPrompts(PROMPTS * rounds, seed, "train"), tokenizer);
    const parts = { policy, tokenizer, rewards, gold: truth };
    yield* trained("raft", trainRaft(parts, training, raft(raftSettings(input)), kept(context, "policy")), signal);
    if (signal.aborted) return;
    yield* measure("policy", rounds, before);
  } finally {
    models.free();
  }
};

/** Prompts out of somebody's file may be none of this world. */
const goldOf = (prompt: string, story: string): number | null => (parseWish(prompt) ? goldReward(prompt, story) : null);

/** The labels that the input asks for. */
function labelled({ labeller, labels, count, seed }: LabellerInput): Label[] {
  if (labeller === "coin") return tossed(seed, "train").slice(0, count);
  if (labeller !== "own") return deckPairs(count, seed).map((pair) => ruled(labeller, pair));
  if (!labels || labels.length < LEAST) {
    throw new UserError(
      `This run learns from one's own labels, and there are ${labels?.length ?? 0} here: give at least ${LEAST}. Links never carry labels.`,
    );
  }
  return labels;
}

/** Labels of somebody who does not read: the left story is better, and where a story lies is chance. */
const tossed = (seed: number, split: "train" | "test"): Label[] =>
  (split === "test" ? heldOutPairs(seed) : deckPairs(64, seed)).map(({ prompt, left, right }) => ({
    prompt,
    chosen: left,
    rejected: right,
  }));

/** What the rules look at, over answers: `friend` the share that names one, `words` their mean length. */
function features(samples: readonly Sample[]): Record<string, number> {
  const friend = meanAndError(samples.map(({ response }) => Number(namesFriend(response))));
  const words = meanAndError(samples.map(({ response }) => wordsOf(response)));
  return { friend: friend.mean, friend_se: friend.error, words: words.mean, words_se: words.error };
}

const toss = (story: string, seed: number): number =>
  lot(
    Array.from(story, (character) => character.codePointAt(0) ?? 0),
    seed,
  );

/** Changes on the same prompts. */
function changesOf(before: readonly Sample[], after: readonly Sample[], seed: number): Record<string, number> {
  const change = (of: (response: string) => number) =>
    meanAndError(after.map(({ response }, i) => of(response) - of(before[i].response)));
  const friend = change((response) => Number(namesFriend(response)));
  const words = change(wordsOf);
  // What somebody who does not read says of two stories: one is better, whatever stands in them.
  const tossed = after.map(({ response }, i) => Math.sign(toss(response, seed) - toss(before[i].response, seed)));
  const coin = meanAndError(tossed);
  return {
    ...changes(before, after),
    coin_change: coin.mean,
    coin_change_se: coin.error,
    friend_change: friend.mean,
    friend_change_se: friend.error,
    words_change: words.mean,
    words_change_se: words.error,
  };
}
