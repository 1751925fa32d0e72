/** The second half of a RAFT iteration: supervised fine-tuning on what was kept. */

import type { CausalLM } from "../../nn/models.ts";
import type { AdamW } from "../../nn/optimizer.ts";
import { permutation, uint32 } from "../../runtime/rng.ts";
import { scope } from "../../tensor/core.ts";
import { predictedTokens, type Sequence } from "../batch.ts";
import type { Response } from "../sampler.ts";
import type { OptimiserSettings } from "../settings.ts";
import { sftMetrics, sftStep } from "../sft.ts";
import { average } from "../stats.ts";
import { rateAt } from "../training.ts";
import type { Watched } from "../watch.ts";

/** The settings of RAFT that its fine-tuning follows. */
export interface LearnOptions
  extends Pick<
    OptimiserSettings,
    "learningRate" | "warmupSteps" | "perDeviceTrainBatchSize" | "gradientAccumulationSteps"
  > {
  lrSchedulerType: "constant" | "linear" | "cosine" | "linear-per-iteration";
  maxSteps: number;
  numTrainEpochs: number;
  raftBatchSize: number;
  blockSize: number | null;
  disableGroupTexts: boolean;
  seed: number;
}

/**
 * What is learned of a kept response: the prompt as well, or not, and the end token, or not. Of an episode it is what the policy wrote,
 * and where it ended its turns.
 */
export function toLearn(
  { ids, promptLength, ended, learned }: Response,
  { config }: CausalLM,
  { appendEos, maskPrompt }: { appendEos: boolean; maskPrompt: boolean },
): Sequence {
  if (learned) return { ids, promptLength, learned };
  const drop = !appendEos && ended && config.eosIds.includes(ids[ids.length - 1]);
  return { ids: drop ? ids.subarray(0, -1) : ids, promptLength: maskPrompt ? promptLength : 0 };
}

/** LMFlow's longest block for models with a context above 1024. */
const LONG_BLOCK = 512;

/** Texts that stand in a row before it is cut: the batch in which LMFlow groups them. */
const IN_A_ROW = 1000;

/** The block size that the options mean for a model. */
export const blockSizeOf = ({ blockSize }: Pick<LearnOptions, "blockSize">, context: number): number =>
  blockSize === null ? (context > 1024 ? LONG_BLOCK : context) : Math.min(blockSize, context);

/**
 * Sequences as they are learned: each by itself, or a thousand in a row; cut into blocks where that is longer than one. The
 * rest that fills no block is dropped; what is shorter than a block is learned whole.
 */
export function blocksOf(sequences: readonly Sequence[], size: number, group: boolean): Sequence[] {
  const rows = Array.from({ length: Math.ceil(sequences.length / IN_A_ROW) }, (_, i) =>
    joined(sequences.slice(i * IN_A_ROW, (i + 1) * IN_A_ROW)),
  );
  return (group ? rows : sequences).flatMap((s) => (s.ids.length <= size ? [s] : cut(s, size)));
}

function joined(sequences: readonly Sequence[]): Sequence {
  const ids = Uint32Array.from(sequences.flatMap((s) => [...s.ids]));
  const learned = new Uint8Array(ids.length);
  let at = 0;
  for (const { ids, promptLength, learned: some } of sequences) {
    if (some) learned.set(some.subarray(promptLength), at + promptLength);
    else learned.fill(1, at + promptLength, at + ids.length);
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
function rate(o: LearnOptions, iteration: number, done: number, steps: number): number {
  const { learningRate, warmupSteps, lrSchedulerType } = o;
  if (lrSchedulerType === "linear-per-iteration") {
    return rateAt({ learningRate, warmupSteps, lrSchedulerType: "linear" }, steps, done);
  }
  // Discards make iterations shorter; the schedule goes by what they would have without.
  const perStep = o.perDeviceTrainBatchSize * o.gradientAccumulationSteps;
  const planned = o.numTrainEpochs * Math.ceil(o.raftBatchSize / perStep);
  const at = (iteration + done / steps) * planned;
  return rateAt({ learningRate, warmupSteps, lrSchedulerType }, o.maxSteps * planned, at);
}

/** Learns the kept sequences. Returns the metrics of the iteration's optimizer steps; none when there is nothing to learn. */
export async function fineTune(
  model: CausalLM,
  optimizer: AdamW,
  kept: readonly Sequence[],
  iteration: number,
  options: LearnOptions,
): Promise<{ metrics: Record<string, number>; tokens: number; idle?: string }> {
  const {
    perDeviceTrainBatchSize: batchSize,
    gradientAccumulationSteps: accumulation,
    numTrainEpochs: epochs,
    seed,
  } = options;
  const blocks = blocksOf(kept, blockSizeOf(options, model.config.maxPositions), !options.disableGroupTexts);
  const learnable = blocks.filter((s) => predictedTokens(s) > 0);
  const perStep = batchSize * accumulation;
  const perEpoch = Math.ceil(learnable.length / perStep);
  const watched: Watched[] = [];
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
      watched.push(step.watched);
      tokens += step.tokens;
    }
  }
  const reads = await Promise.all(watched.map(sftMetrics));
  if (reads.length === 0) return { metrics: {}, tokens, idle: "the kept responses have no token to learn" };
  const { loss: _, entropy: __, ...control } = reads[reads.length - 1];
  return { metrics: { loss: average(reads.map(({ loss }) => loss)), learning_rate: lr, ...control }, tokens };
}
