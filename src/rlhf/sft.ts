/**
 * Supervised fine-tuning: next-token cross entropy on the responses. Left out on purpose: dropout (except in adapters),
 * label smoothing and packing across examples (sequences are packed into one batch, but never attend to each other).
 */
import { type DropoutStep, withDropout } from "../nn/ambient.ts";
import type { CausalLM } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { backward, noGrad, scope, type Tensor } from "../tensor/core.ts";
import { concat } from "../tensor/ops/shape.ts";
import { pack, predictedTokens, predictions, type Sequence, scoringParts } from "./batch.ts";
import type { TrainEvent } from "./events.ts";
import { nllLoss } from "./losses/nll.ts";
import { controlMetrics, type SupervisedOptions, trainOnExamples } from "./supervised.ts";

/** The loss is on everything after a sequence's `promptLength` (0: on everything). */
export type SftOptions = SupervisedOptions<Sequence>;

/** Trains `model` in place. Throws `UserError` when there is nothing to learn from or the loss is not finite. */
export function trainSft(model: CausalLM, options: SftOptions): AsyncGenerator<TrainEvent> {
  const train = options.train.filter((sequence) => predictedTokens(sequence) > 0);
  return trainOnExamples(
    model,
    { ...options, train },
    {
      stage: "sft",
      step(optimizer, batches, lr, dropout) {
        const { watch, tokens } = scope(() => sftStep(model, optimizer, batches, lr, dropout));
        return { metrics: readMetrics(watch, optimizer.control.size), tokens };
      },
      evaluate: (examples) => evaluateSft(model, examples),
    },
  );
}

/**
 * One optimizer step over micro-batches; the loss is the mean over all their response tokens.
 * @param dropout the key of the step's masks, for adapters that drop out; without it they do not
 */
export function sftStep(
  model: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly Sequence[])[],
  lr: number,
  dropout: DropoutStep | null = null,
): { watch: Tensor; tokens: number } {
  let predicted = 0;
  let tokens = 0;
  for (const sequence of batches.flat()) {
    predicted += predictedTokens(sequence);
    tokens += sequence.ids.length;
  }
  const losses = batches.map((sequences, pass) => {
    const { ids, packing, starts } = pack(sequences);
    const { rows, targets } = predictions(sequences, starts);
    const { logProbs, entropy } = withDropout(dropout && { ...dropout, pass }, () =>
      model.logProbs(ids, packing, rows, targets),
    );
    const loss = nllLoss(logProbs, 1 / predicted);
    const shown = noGrad(() => concat([loss, nllLoss(entropy, -1 / predicted)]));
    backward(loss, optimizer.lossSeed());
    return shown;
  });
  optimizer.step(lr);
  return { watch: concat([optimizer.control, ...losses]), tokens };
}

async function readMetrics(watch: Tensor, controlSize: number): Promise<Record<string, number>> {
  const values = await watch.read();
  watch.free("the metrics reader");
  const control = controlMetrics(values, controlSize);
  let loss = 0;
  let entropy = 0;
  for (let i = controlSize; i < values.length; i += 2) {
    loss += values[i];
    entropy += values[i + 1];
  }
  return { loss, entropy, ...control };
}

/** Mean loss per response token, perplexity and mean entropy on held-out sequences. */
export async function evaluateSft(model: CausalLM, sequences: readonly Sequence[]): Promise<Record<string, number>> {
  let nll = 0;
  let entropyTotal = 0;
  let count = 0;
  for (const [first, last] of scoringParts(sequences, model)) {
    const part = sequences.slice(first, last);
    const sums = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        const { rows, targets } = predictions(part, starts);
        count += rows.length;
        const { logProbs, entropy } = model.logProbs(ids, packing, rows, targets);
        return concat([nllLoss(logProbs, 1), nllLoss(entropy, -1)]);
      }),
    );
    const [a, b] = await sums.read();
    sums.free("evaluation");
    nll += a;
    entropyTotal += b;
  }
  if (count === 0) throw new UserError("the evaluation set has no response tokens");
  return { eval_loss: nll / count, eval_perplexity: Math.exp(nll / count), eval_entropy: entropyTotal / count };
}
