/**
 * Training of a pair-preference model: next-token cross entropy on the letter of the better response, as supervised
 * fine-tuning with one target token. Which response is A is random by seed; pairs are not doubled by swapping.
 */
import { type DropoutStep, withDropout } from "../../nn/ambient.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { AdamW } from "../../nn/optimizer.ts";
import { streamId, uniform } from "../../runtime/rng.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../../tensor/core.ts";
import { mul } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { concat } from "../../tensor/ops/shape.ts";
import type { Sequence } from "../batch.ts";
import type { TrainEvent } from "../events.ts";
import { average } from "../stats.ts";
import { controlMetrics, type SupervisedOptions, trainOnExamples } from "../supervised.ts";
import { answerLogProbs, bothOrders, correctness, logProbsAtEnds } from "./model.ts";
import type { Answer, PairWriter } from "./template.ts";

/** A pair with the question in both orders: the better response as A, and as B. */
export interface PairExample {
  orders: readonly [Uint32Array, Uint32Array];
  /** The order that is learned. */
  side: 0 | 1;
  /** Neither is better: the answer to learn is "Same". */
  same?: boolean;
}

/** `answers` are the ids of A, B and, where examples need it, Same. */
export type PairwiseOptions = SupervisedOptions<PairExample> & { answers: readonly number[] };

/** Whether the better response of the pair with this number is A (0) or B (1). */
export const sideOf = (seed: number, index: number): 0 | 1 =>
  uniform(seed, index, streamId("pair/side")) < 0.5 ? 0 : 1;

/** @param pair `context` as `PairWriter.context` writes it */
export function pairExample(
  writer: PairWriter,
  pair: { context: string; chosen: string; rejected: string; same?: boolean },
  side: 0 | 1,
): PairExample {
  const { context, chosen, rejected, same } = pair;
  const orders = [writer.question(context, chosen, rejected), writer.question(context, rejected, chosen)] as const;
  return { orders, side, ...(same && { same }) };
}

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or the loss is not finite. */
export function trainPairwise(model: CausalLM, options: PairwiseOptions): AsyncGenerator<TrainEvent> {
  return trainOnExamples(model, options, {
    stage: "pairwise",
    step(optimizer, batches, lr, dropout) {
      const { watch, tokens } = scope(() => pairwiseStep(model, optimizer, batches, lr, options.answers, dropout));
      return { metrics: readMetrics(watch, batches, options.answers.length, optimizer.control.size), tokens };
    },
    evaluate: (examples) => evaluatePairwise(model, examples, options.answers),
  });
}

const answerOf = ({ side, same }: PairExample): Answer => (same ? 2 : side);

/** One optimizer step; the loss is the mean over all pairs of all micro-batches. `dropout` as in `sftStep`. */
function pairwiseStep(
  model: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly PairExample[])[],
  lr: number,
  answers: readonly number[],
  dropout: DropoutStep | null = null,
): { watch: Tensor; tokens: number } {
  const total = batches.reduce((n, b) => n + b.length, 0);
  let tokens = 0;
  const shown = batches.map((pairs, pass) => {
    const sequences = pairs.map(({ orders, side }): Sequence => ({ ids: orders[side], promptLength: 0 }));
    for (const { ids } of sequences) tokens += ids.length;
    const logProbs = withDropout(dropout && { ...dropout, pass }, () => logProbsAtEnds(model, sequences, answers));
    const picked = new Float32Array(logProbs.size);
    for (const [i, pair] of pairs.entries()) picked[answerOf(pair) * pairs.length + i] = -1 / total;
    const loss = sum(mul(logProbs, tensor(picked)));
    const watch = noGrad(() => concat([loss, logProbs]));
    backward(loss, optimizer.lossSeed());
    return watch;
  });
  optimizer.step(lr);
  return { watch: concat([optimizer.control, ...shown]), tokens };
}

async function readMetrics(
  watch: Tensor,
  batches: readonly (readonly PairExample[])[],
  answers: number,
  controlSize: number,
): Promise<Record<string, number>> {
  const values = await watch.read();
  watch.free("the metrics reader");
  let loss = 0;
  const right: number[] = [];
  let offset = controlSize;
  for (const pairs of batches) {
    loss += values[offset];
    const n = pairs.length;
    const logProb = (answer: number, i: number) => values[offset + 1 + answer * n + i];
    for (const [i, { side, same }] of pairs.entries()) {
      if (!same) right.push(correctness(1 / (1 + Math.exp(logProb(1 - side, i) - logProb(side, i)))));
    }
    offset += 1 + answers * n;
  }
  return { loss, accuracy: average(right), ...controlMetrics(values, controlSize) };
}

/** What a model says of pairs: of each order the log-probabilities of A and B, and the chance of A. */
async function askedInBothOrders(
  model: CausalLM,
  pairs: readonly PairExample[],
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
  pairs: readonly PairExample[],
  answers: readonly number[],
  temperature = 1,
): Promise<number[]> => (await askedInBothOrders(model, pairs, answers, temperature)).chances;

/**
 * Held-out pairs, asked in both orders: the loss of the letters, the mean chance of the better response, the accuracy (1,
 * 1/2, 0), how often both orders agree, and how much likelier A is than B whatever they stand for.
 */
export async function evaluatePairwise(
  model: CausalLM,
  examples: readonly PairExample[],
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
