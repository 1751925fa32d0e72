/** The second half of a RAFT iteration: supervised fine-tuning on what was kept. */

import type { CausalLM } from "../../nn/models.ts";
import { type AdamW, learningRateAt } from "../../nn/optimizer.ts";
import { permutation, uint32 } from "../../runtime/rng.ts";
import { scope, type Tensor } from "../../tensor/core.ts";
import { predictedTokens, type Sequence } from "../batch.ts";
import { sftStep } from "../sft.ts";
import { average } from "../stats.ts";
import { rateAt } from "../training.ts";
import { controlMetrics } from "../watch.ts";
import type { RaftOptions } from "./options.ts";

/** LMFlow's longest block for models with a context above 1024. */
const LONG_BLOCK = 512;

/** The block size that the options mean for a model. */
export const blockSizeOf = ({ blockSize }: Pick<RaftOptions, "blockSize">, context: number): number =>
  blockSize === null ? (context > 1024 ? LONG_BLOCK : context) : Math.min(blockSize, context);

/**
 * Sequences as they are learned: each by itself (cut into blocks where it is longer than one), or all in a row and then cut.
 * The rest that fills no block is dropped, except that a sequence shorter than a block is learned whole.
 */
export function blocksOf(sequences: readonly Sequence[], size: number, group: boolean): Sequence[] {
  return group ? cut(joined(sequences), size) : sequences.flatMap((s) => (s.ids.length <= size ? [s] : cut(s, size)));
}

function joined(sequences: readonly Sequence[]): Sequence {
  const ids = Uint32Array.from(sequences.flatMap((s) => [...s.ids]));
  const learned = new Uint8Array(ids.length);
  let at = 0;
  for (const { ids, promptLength } of sequences) {
    learned.fill(1, at + promptLength, at + ids.length);
    at += ids.length;
  }
  return { ids, promptLength: 0, learned };
}

function cut({ ids, promptLength, learned }: Sequence, size: number): Sequence[] {
  return Array.from({ length: Math.floor(ids.length / size) }, (_, b) => ({
    ids: ids.slice(b * size, (b + 1) * size),
    promptLength: Math.min(size, Math.max(0, promptLength - b * size)),
    ...(learned && { learned: learned.slice(b * size, (b + 1) * size) }),
  }));
}

/** The learning rate of optimizer step `done` of `steps` in an iteration. */
function rate(options: RaftOptions, iteration: number, done: number, steps: number): number {
  const { learningRate, schedule: name, warmup } = options;
  if (options.schedulePerIteration) {
    return learningRateAt(
      { name, learningRate, total: steps, warmup: warmup < 1 ? Math.ceil(warmup * steps) : warmup },
      done,
    );
  }
  // Discards make iterations shorter; the schedule goes by what they would have without.
  const planned = options.epochs * Math.ceil(options.raftBatchSize / (options.batchSize * options.accumulation));
  return rateAt(options, options.maxSteps * planned, (iteration + done / steps) * planned);
}

/** Learns the kept sequences. Returns the metrics of the iteration's optimizer steps; none when there is nothing to learn. */
export async function fineTune(
  model: CausalLM,
  optimizer: AdamW,
  kept: readonly Sequence[],
  iteration: number,
  options: RaftOptions,
): Promise<{ metrics: Record<string, number>; tokens: number }> {
  const { batchSize, accumulation, epochs, seed } = options;
  const blocks = blocksOf(kept, blockSizeOf(options, model.config.maxPositions), options.groupTexts);
  const learnable = blocks.filter((s) => predictedTokens(s) > 0);
  const perStep = batchSize * accumulation;
  const perEpoch = Math.ceil(learnable.length / perStep);
  const watched: Tensor[] = [];
  let tokens = 0;
  let lr = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = permutation(learnable.length, seed, iteration * epochs + epoch + 1);
    for (let s = 0; s < perEpoch; s++) {
      const batches: Sequence[][] = [];
      for (let b = 0; b < accumulation; b++) {
        const from = s * perStep + b * batchSize;
        const part = [...order.subarray(from, Math.min(from + batchSize, (s + 1) * perStep))].map((i) => learnable[i]);
        if (part.length > 0) batches.push(part);
      }
      lr = rate(options, iteration, epoch * perEpoch + s, epochs * perEpoch);
      const dropout = { seed: uint32(seed, iteration, epoch, s), step: iteration };
      const step = scope(() => sftStep(model, optimizer, batches, lr, dropout));
      watched.push(step.watch);
      tokens += step.tokens;
    }
  }
  const reads = await Promise.all(watched.map((t) => t.read()));
  for (const t of watched) t.free("the metrics reader");
  if (reads.length === 0) return { metrics: {}, tokens };
  const { size } = optimizer.control;
  const losses = reads.map((v) => v.slice(size).reduce((sum, x, i) => sum + (i % 2 === 0 ? x : 0), 0));
  const control = controlMetrics(reads[reads.length - 1], size);
  return { metrics: { loss: average(losses), learning_rate: lr, ...control }, tokens };
}
