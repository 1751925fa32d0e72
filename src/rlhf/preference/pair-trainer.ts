/** The loop of trainers that learn from pairs of answers; what they do with a pair is their objective. */
import { type DropoutStep, withDropout } from "../../nn/ambient.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { AdamW } from "../../nn/optimizer.ts";
import { backward, noGrad, scope, type Tensor } from "../../tensor/core.ts";
import { scale } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { type Segment, segmentSums } from "../../tensor/ops/segments.ts";
import { concat } from "../../tensor/ops/shape.ts";
import { controlMetrics, type Recipe, type SupervisedOptions } from "../supervised.ts";
import { type AnswerOptions, type Answers, answersOf, type PairExample } from "./pair-scores.ts";

/** `batchSize` counts pairs. */
export interface PairTrainingOptions extends SupervisedOptions<PairExample> {
  /** Adapters do not drop out, as in TRL. Default true. */
  disableDropout?: boolean;
}

/** What an objective makes of a batch. Vectors are [pairs]. */
export interface PairLoss {
  /** [1], a mean over the batch's pairs. */
  loss: Tensor;
  /** How good the policy holds each answer to be, times beta. */
  rewards: { chosen: Tensor; rejected: Tensor };
  /** log p of each answer, as the objective counts it. */
  logps: { chosen: Tensor; rejected: Tensor };
  /** More metrics: their means over all values are reported. */
  more?: Record<string, Tensor>;
}

export interface PairObjective {
  answers: AnswerOptions;
  /** @param training false in evaluations, which leave running statistics alone */
  loss(answers: Answers, pairs: readonly PairExample[], training: boolean): PairLoss;
}

/** How each batch's numbers lie in the vector that is read back. */
interface Shown {
  pairs: number;
  tokens: number;
  sizes: [name: string, size: number][];
}

/** Everything a trainer of pairs is made of, but its stage and its state. */
export function pairRecipe(
  policy: CausalLM,
  options: PairTrainingOptions,
  objective: PairObjective,
): Pick<Recipe<PairExample>, "step" | "evaluate"> {
  return {
    step(optimizer, batches, lr, dropout) {
      const drops = options.disableDropout === false ? dropout : null;
      const { watch, shown, tokens } = scope(() => pairStep(policy, optimizer, batches, lr, objective, drops));
      const metrics = async () => {
        const values = await watch.read();
        watch.free("the metrics reader");
        const control = controlMetrics(values, optimizer.control.size);
        return { ...readShown(values, optimizer.control.size, shown), ...control };
      };
      return { metrics: metrics(), tokens };
    },
    evaluate: (examples) => evaluatePairs(policy, examples, objective, options.batchSize),
  };
}

/** One optimizer step; the loss is the mean over all pairs of all micro-batches. */
function pairStep(
  policy: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly PairExample[])[],
  lr: number,
  objective: PairObjective,
  dropout: DropoutStep | null = null,
): { watch: Tensor; shown: Shown[]; tokens: number } {
  const total = batches.reduce((n, b) => n + b.length, 0);
  let tokens = 0;
  const shown: Shown[] = [];
  const parts = batches.map((pairs, pass) => {
    const answers = withDropout(dropout && { ...dropout, pass }, () => answersOf(policy, pairs, objective.answers));
    const found = objective.loss(answers, pairs, true);
    tokens += answers.tokens;
    const { values, ...layout } = show(answers, pairs.length, found);
    shown.push(layout);
    backward(found.loss, optimizer.lossSeed(pairs.length / total));
    return values;
  });
  optimizer.step(lr);
  return { watch: concat([optimizer.control, ...parts]), shown, tokens };
}

/** A batch's numbers in one vector. */
function show({ entropy, meanLogits, chosen, rejected }: Answers, pairs: number, found: PairLoss) {
  const answers = [...chosen, ...rejected];
  const tokens = answers.reduce((n, { length }) => n + length, 0);
  return noGrad(() => {
    const named: [string, Tensor][] = [
      ["loss", found.loss],
      ["entropy", scale(sum(segmentSums(entropy, answers)), 1 / Math.max(1, tokens))],
      ["rewards/chosen", found.rewards.chosen],
      ["rewards/rejected", found.rewards.rejected],
      ["logps/chosen", found.logps.chosen],
      ["logps/rejected", found.logps.rejected],
      ...logits(meanLogits, { chosen, rejected }),
      ...Object.entries(found.more ?? {}),
    ];
    const sizes = named.map(([name, { size }]): [string, number] => [name, size]);
    return { values: concat(named.map(([, t]) => t)), pairs, tokens, sizes };
  });
}

/** Means over the tokens of all chosen, and of all rejected answers of a batch. */
function logits(means: Tensor | null, answers: Record<string, Segment[]>): [string, Tensor][] {
  if (!means) return [];
  return Object.entries(answers).map(([name, segments]) => {
    const tokens = segments.reduce((n, { length }) => n + length, 0);
    return [`logits/${name}`, scale(sum(segmentSums(means, segments)), 1 / Math.max(1, tokens))];
  });
}

/** Means over all pairs (of entropy: over all tokens), by TRL's names. A tie counts as wrong. */
function readShown(values: Float32Array, offset: number, shown: readonly Shown[]): Record<string, number> {
  const totals: Record<string, number> = {};
  const weights: Record<string, number> = {};
  const add = (name: string, value: number, weight: number) => {
    totals[name] = (totals[name] ?? 0) + value * weight;
    weights[name] = (weights[name] ?? 0) + weight;
  };
  let at = offset;
  for (const { pairs, tokens, sizes } of shown) {
    const rewards: Record<string, Float32Array> = {};
    for (const [name, size] of sizes) {
      const part = values.subarray(at, at + size);
      at += size;
      const mean = part.reduce((a, b) => a + b, 0) / size;
      add(name, mean, name === "entropy" ? tokens : pairs);
      rewards[name] = part;
    }
    const [won, lost] = [rewards["rewards/chosen"], rewards["rewards/rejected"]];
    for (let i = 0; i < pairs; i++) {
      add("rewards/accuracies", Number(won[i] > lost[i]), 1);
      add("rewards/margins", won[i] - lost[i], 1);
    }
  }
  return Object.fromEntries(Object.entries(totals).map(([name, total]) => [name, total / weights[name]]));
}

/** The training metrics on held-out pairs, as eval_loss, eval_rewards/chosen and so on. */
export async function evaluatePairs(
  policy: CausalLM,
  pairs: readonly PairExample[],
  objective: PairObjective,
  batchSize: number,
): Promise<Record<string, number>> {
  const parts: Float32Array[] = [];
  const shown: Shown[] = [];
  for (let at = 0; at < pairs.length; at += batchSize) {
    const part = pairs.slice(at, at + batchSize);
    const numbers = scope(() =>
      noGrad(() => {
        const answers = answersOf(policy, part, objective.answers);
        const { values, ...layout } = show(answers, part.length, objective.loss(answers, part, false));
        shown.push(layout);
        return values;
      }),
    );
    parts.push(await numbers.read());
    numbers.free("evaluation");
  }
  const all = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  const metrics = readShown(all, 0, shown);
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));
}
