/**
 * Kahneman-Tversky optimisation: a policy learns from single answers that were found good or bad. How far the policy has
 * moved in all is estimated on the same answers behind other prompts: answer i follows prompt i + 1 of its batch.
 */
import { type DropoutStep, withDropout } from "../../nn/ambient.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { AdamW } from "../../nn/optimizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../../tensor/core.ts";
import { scale, sub } from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";
import { segmentSums } from "../../tensor/ops/segments.ts";
import { concat } from "../../tensor/ops/shape.ts";
import { pack, predictions, type Sequence } from "../batch.ts";
import type { TrainEvent } from "../events.ts";
import { type KtoLossOptions, ktoBaseline, ktoLoss, ktoLossDefaults } from "../losses/kto.ts";
import { controlMetrics, type Recipe, type SupervisedOptions, trainOnExamples } from "../supervised.ts";
import { trainingDefaults } from "../training.ts";
import { type Reference, referenceModel, referenceSync, type SyncOptions, syncDefaults } from "./reference.ts";

/** An answer behind its prompt, and whether it is good. */
export interface LabelledSequence extends Sequence {
  label: boolean;
}

/** `batchSize` counts answers. */
export interface KtoOptions extends SupervisedOptions<LabelledSequence>, KtoLossOptions, SyncOptions {
  /** Answers behind other prompts are cut to this many tokens in all. Default: the model's context. */
  maxLength?: number;
  /** Adapters do not drop out, as in TRL. Default true. */
  disableDropout?: boolean;
}

/** TRL's settings. */
export const ktoDefaults = {
  ...trainingDefaults,
  ...ktoLossDefaults,
  ...syncDefaults,
  learningRate: 1e-6,
  disableDropout: true,
};

export interface KtoInputs {
  /** Trained in place. */
  policy: CausalLM;
  /** Not precomputed: which answers meet which prompts changes with every epoch. */
  reference: Exclude<Reference, "precomputed">;
}

interface Models {
  policy: CausalLM;
  reference: CausalLM;
}

/** Trains the policy in place. Throws `UserError` when there is nothing to learn from or the loss is not finite. */
export async function* trainKto(inputs: KtoInputs, options: KtoOptions): AsyncGenerator<TrainEvent> {
  const { policy } = inputs;
  const models = { policy, reference: referenceModel(policy, inputs.reference) as CausalLM };
  if ((options.lossType ?? "kto") === "kto" && options.batchSize < 2) {
    throw new UserError("KTO compares answers within a batch: per_device_train_batch_size must be at least 2");
  }
  const own = { ...options, maxLength: options.maxLength ?? policy.config.maxPositions };
  const recipe: Recipe<LabelledSequence> = {
    stage: "kto",
    step(optimizer, batches, lr, dropout) {
      const drops = options.disableDropout === false ? dropout : null;
      const { watch, tokens } = scope(() => ktoStep(models, optimizer, batches, lr, own, drops));
      const metrics = async () => {
        const values = await watch.read();
        watch.free("the metrics reader");
        const { size } = optimizer.control;
        return { ...readBatches(values.subarray(size), batches), ...controlMetrics(values, size) };
      };
      return { metrics: metrics(), tokens };
    },
    ...referenceSync(policy, models.reference, options),
    evaluate: (examples) => evaluateKto(models, examples, own),
  };
  models.reference.half = options.fp16 === true; // rounded as the policy is, so that both start alike
  try {
    yield* trainOnExamples(policy, options, recipe);
  } finally {
    models.reference.half = false;
  }
}

/** One optimizer step; the loss is the mean over all answers of all micro-batches. */
function ktoStep(
  models: Models,
  optimizer: AdamW,
  batches: readonly (readonly LabelledSequence[])[],
  lr: number,
  options: KtoLossOptions & { maxLength: number },
  dropout: DropoutStep | null = null,
): { watch: Tensor; tokens: number } {
  const total = batches.reduce((n, b) => n + b.length, 0);
  let tokens = 0;
  const shown = batches.map((batch, pass) => {
    for (const { ids } of batch) tokens += ids.length;
    const { loss, values } = ktoBatch(models, batch, options, dropout && { ...dropout, pass });
    backward(loss, optimizer.lossSeed(batch.length / total));
    return values;
  });
  optimizer.step(lr);
  return { watch: concat([optimizer.control, ...shown]), tokens };
}

/** Loss [1] of a batch, and its numbers: loss, z0, entropy, then the answers' rewards, then their log-probabilities. */
function ktoBatch(
  { policy, reference }: Models,
  batch: readonly LabelledSequence[],
  options: KtoLossOptions & { maxLength: number },
  dropout: (DropoutStep & { pass: number }) | null,
): { loss: Tensor; values: Tensor } {
  const z0 =
    (options.lossType ?? "kto") === "kto"
      ? noGrad(() => scope(() => ktoBaseline(sumsOf(policy, reference, mismatched(batch, options.maxLength)).ratios)))
      : tensor([0]);
  const { ratios, logps, entropy } = withDropout(dropout, () => sumsOf(policy, reference, batch));
  const labels = batch.map(({ label }) => label);
  const loss = mean(ktoLoss(ratios, labels, z0, options));
  const values = noGrad(() => concat([loss, z0, entropy, scale(ratios, options.beta ?? ktoLossDefaults.beta), logps]));
  return { loss, values };
}

/** Log-ratios and log-probabilities of whole answers, and the mean entropy per token. */
function sumsOf(policy: CausalLM, reference: CausalLM, sequences: readonly Sequence[]) {
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets, lengths } = predictions(sequences, starts);
  const { logProbs, entropy } = policy.logProbs(ids, packing, rows, targets);
  const under = noGrad(() => reference.logProbs(ids, packing, rows, targets).logProbs);
  let at = 0;
  const segments = lengths.map((length) => {
    at += length;
    return { first: at - length, length };
  });
  return {
    ratios: segmentSums(sub(logProbs, under), segments),
    logps: noGrad(() => segmentSums(logProbs, segments)),
    entropy: noGrad(() => scale(sum(entropy), 1 / Math.max(1, rows.length))),
  };
}

/** Each prompt of a batch with the answer before its own, the first with the last one's. */
export function mismatched(batch: readonly Sequence[], maxLength: number): Sequence[] {
  return batch.map(({ ids, promptLength }, i) => {
    const other = batch[(i + batch.length - 1) % batch.length];
    const answer = other.ids.subarray(other.promptLength, other.promptLength + Math.max(0, maxLength - promptLength));
    const joined = new Uint32Array(promptLength + answer.length);
    joined.set(ids.subarray(0, promptLength));
    joined.set(answer, promptLength);
    return { ids: joined, promptLength };
  });
}

/** Means over answers by TRL's names; those of a label that does not occur are left out. */
function readBatches(values: Float32Array, batches: readonly (readonly LabelledSequence[])[]): Record<string, number> {
  const total = batches.reduce((n, b) => n + b.length, 0);
  const metrics: Record<string, number> = { loss: 0, kl: 0, entropy: 0 };
  const sums = { chosen: { rewards: 0, logps: 0, n: 0 }, rejected: { rewards: 0, logps: 0, n: 0 } };
  let at = 0;
  for (const batch of batches) {
    const share = batch.length / total;
    ["loss", "kl", "entropy"].forEach((name, i) => {
      metrics[name] += share * values[at + i];
    });
    batch.forEach(({ label }, i) => {
      const side = sums[label ? "chosen" : "rejected"];
      side.rewards += values[at + 3 + i];
      side.logps += values[at + 3 + batch.length + i];
      side.n += 1;
    });
    at += 3 + 2 * batch.length;
  }
  for (const [name, { rewards, logps, n }] of Object.entries(sums)) {
    if (n === 0) continue;
    metrics[`rewards/${name}`] = rewards / n;
    metrics[`logps/${name}`] = logps / n;
  }
  if (sums.chosen.n > 0 && sums.rejected.n > 0) {
    metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"];
  }
  return metrics;
}

/** The training metrics on held-out answers, with eval_ before their names. */
async function evaluateKto(
  models: Models,
  examples: readonly LabelledSequence[],
  options: KtoLossOptions & { maxLength: number; batchSize: number },
): Promise<Record<string, number>> {
  const batches: LabelledSequence[][] = [];
  const parts: number[] = [];
  for (let at = 0; at < examples.length; at += options.batchSize) {
    const batch = examples.slice(at, at + options.batchSize);
    const values = scope(() => noGrad(() => ktoBatch(models, batch, options, null).values));
    batches.push(batch);
    parts.push(...(await values.read()));
    values.free("evaluation");
  }
  const metrics = readBatches(Float32Array.from(parts), batches);
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));
}
