/**
 * Training of a pair-preference model: next-token cross entropy on the letter of the better response, as supervised
 * fine-tuning with one target token. Which response is A is random by seed; pairs are not doubled by swapping.
 */
import { Dataset } from "../../data/dataset.ts";
import { type DropoutStep, withDropout } from "../../nn/ambient.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { AdamW } from "../../nn/optimizer.ts";
import { type SettingsInput, settings } from "../../settings/index.ts";
import { backward, scope, tensor } from "../../tensor/core.ts";
import { mul } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import type { Sequence } from "../batch.ts";
import type { TrainEvent } from "../events.ts";
import { contextOf, type ExampleData, examplesOf, trainOnExamples } from "../examples.ts";
import type { RunOptions } from "../loop.ts";
import * as shared from "../settings.ts";
import { average } from "../stats.ts";
import { controlMetrics, readWatched, together, type Watched, watch, watchControl } from "../watch.ts";
import { answerLogProbs, bothOrders, correctness, logProbsAtEnds } from "./model.ts";
import { pairQuestions, type QuestionExample } from "./questions.ts";
import type { Answer, PairWriter } from "./template.ts";

/** Settings of pair-preference models. */
export const pairwise = settings("pairwise", {
  maxLength: shared.data.int(null, "Longest question with both answers, in tokens; default: the model's context", {
    min: 2,
  }),
  rrmAugmentation: shared.data.bool(
    false,
    "Add 14 pairs for each one: its answers beat those to other prompts, and of those neither beats another (RRM)",
  ),
  ...shared.duration(1),
  ...shared.optimiser(1e-5, "cosine", 8),
  ...shared.half,
  ...shared.evaluation,
  ...shared.common,
});

/** Settings of pair-preference models, resolved. */
export type PairwiseSettings = ReturnType<typeof pairwise>;

/** The language model that is trained, and how its questions are written. */
export interface PairwiseModels {
  policy: CausalLM;
  writer: Pick<PairWriter, "letters" | "idOf">;
}

/** Questions to learn from, or a dataset whose pairs become questions. */
export type PairwiseData = ExampleData<QuestionExample> | Dataset;

/**
 * Trains a language model in place to name the better of two answers.
 * @throws UserError when there is nothing to learn from, when the loss is not finite, or when a question is too long
 */
export async function* trainPairwise(
  { policy, writer }: PairwiseModels,
  data: PairwiseData,
  chosen: SettingsInput<typeof pairwise.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = pairwise(chosen);
  const questions =
    data instanceof Dataset
      ? await pairQuestions(data, writer as PairWriter, { maxLength: contextOf(policy, o), rrm: o.rrmAugmentation })
      : await examplesOf<"questions", QuestionExample>(data, "questions", { policy }, {});
  const same = questions.train.some((one) => one.same);
  const answers = [...writer.letters, ...(same ? [writer.idOf(2)] : [])];
  const method = {
    stage: "pairwise",
    step(optimizer: AdamW, batches: readonly (readonly QuestionExample[])[], rate: number, dropout: DropoutStep) {
      const { watched, tokens } = scope(() => pairwiseStep(policy, optimizer, batches, rate, answers, dropout));
      return { metrics: pairwiseMetrics(watched, batches), tokens };
    },
    evaluate: (examples: readonly QuestionExample[]) => evaluatePairwise(policy, examples, answers),
  };
  yield* trainOnExamples(policy, questions, o, method, run);
}

const answerOf = ({ side, same }: QuestionExample): Answer => (same ? 2 : side);

/** One optimizer step; the loss is the mean over all pairs of all micro-batches. `dropout` as in `sftStep`. */
function pairwiseStep(
  model: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly QuestionExample[])[],
  rate: number,
  answers: readonly number[],
  dropout: DropoutStep | null = null,
): { watched: Watched; tokens: number } {
  const total = batches.reduce((n, b) => n + b.length, 0);
  let tokens = 0;
  const passes = batches.map((pairs, pass) => {
    const sequences = pairs.map(({ orders, side }): Sequence => ({ ids: orders[side], promptLength: 0 }));
    for (const { ids } of sequences) tokens += ids.length;
    const logProbs = withDropout(dropout && { ...dropout, pass }, () => logProbsAtEnds(model, sequences, answers));
    const picked = new Float32Array(logProbs.size);
    for (const [i, pair] of pairs.entries()) picked[answerOf(pair) * pairs.length + i] = -1 / total;
    const loss = sum(mul(logProbs, tensor(picked)));
    const watched = watch({ loss, logProbs });
    backward(loss, optimizer.lossSeed());
    return watched;
  });
  optimizer.step(rate);
  return { watched: together<string>([watchControl(optimizer), ...passes]), tokens };
}

async function pairwiseMetrics(
  watched: Watched,
  batches: readonly (readonly QuestionExample[])[],
): Promise<Record<string, number>> {
  const [{ control }, ...passes] = await readWatched(watched);
  const right = passes.flatMap(({ logProbs }, pass) => {
    const pairs = batches[pass];
    const logProb = (answer: number, i: number) => logProbs[answer * pairs.length + i];
    return pairs.flatMap(({ side, same }, i) =>
      same ? [] : [correctness(1 / (1 + Math.exp(logProb(1 - side, i) - logProb(side, i))))],
    );
  });
  const loss = passes.reduce((sum, numbers) => sum + numbers.loss[0], 0);
  return { loss, ...(right.length > 0 && { accuracy: average(right) }), ...controlMetrics(control) };
}

/** What a model says of pairs: of each order the log-probabilities of A and B, and the chance of A. */
async function askedInBothOrders(
  model: CausalLM,
  pairs: readonly QuestionExample[],
  answers: readonly number[],
  temperature: number,
) {
  const questions = [...pairs.map(({ orders }) => orders[0]), ...pairs.map(({ orders }) => orders[1])];
  const logProbs = await answerLogProbs(model, questions, answers.slice(0, 2));
  const first = logProbs.map(([a, b]) => 1 / (1 + Math.exp((b - a) / temperature)));
  return { logProbs, first, chances: pairs.map((_, i) => bothOrders(first[i], first[i + pairs.length])) };
}

/** The chance of the better response of every pair, from both orders. */
export const pairChances = async (
  model: CausalLM,
  pairs: readonly QuestionExample[],
  answers: readonly number[],
  temperature = 1,
): Promise<number[]> => (await askedInBothOrders(model, pairs, answers, temperature)).chances;

/**
 * Held-out pairs, asked in both orders: the loss of the letters, the mean chance of the better response, the accuracy (1,
 * 1/2, 0), how often both orders agree, and how much likelier A is than B whatever they stand for.
 */
export async function evaluatePairwise(
  model: CausalLM,
  examples: readonly QuestionExample[],
  answers: readonly number[],
  temperature = 1,
): Promise<Record<string, number>> {
  const pairs = examples.filter(({ same }) => !same);
  const n = pairs.length;
  const { logProbs, first, chances } = await askedInBothOrders(model, pairs, answers, temperature);
  return {
    eval_loss: -average(logProbs.map((both, i) => both[i < n ? 0 : 1])),
    eval_accuracy: average(chances.map(correctness)),
    eval_chosen_probability: average(chances),
    eval_consistency: average(pairs.map((_, i) => Number(first[i] > 0.5 !== first[i + n] > 0.5))),
    eval_position_bias: average(first) - 0.5,
  };
}
