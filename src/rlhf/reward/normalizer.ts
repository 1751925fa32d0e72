/** Score statistics in training: kept on the GPU, so that no step waits for its scores. */
import type { NormalizerState, Scoring } from "../../nn/scoring.ts";
import { noGrad, type Tensor, tensor } from "../../tensor/core.ts";
import { add, addScalar, div, scale, sqrt, square, sub } from "../../tensor/ops/elementwise.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { place } from "../../tensor/raw.ts";
import { type MergeRule, mergeWeights, NORMALIZER_EPS } from "../stats.ts";

/** Mean and variance of the scores of a run. */
export class ScoreStatistics {
  private readonly rule: MergeRule;
  private readonly type: Scoring["type"];
  /** [1] each. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  count: number;

  constructor(rule: MergeRule, type: Scoring["type"], state: NormalizerState) {
    this.rule = rule;
    this.type = type;
    this.mean = tensor([state.mean]);
    this.variance = tensor([state.variance]);
    this.count = state.count;
  }

  /** Takes in a batch of scores. Throws `UserError` for a batch of one. */
  update(scores: Tensor): void {
    noGrad(() => {
      const n = scores.size;
      const { toMean, keep, take, spread } = mergeWeights(this.rule, this.count, n);
      const own = mean(scores);
      const variance = scale(mean(square(sub(scores, own))), n / (n - 1));
      const d = sub(own, this.mean);
      const merged = add(scale(this.variance, keep), add(scale(variance, take), scale(square(d), spread)));
      place(this.mean, add(this.mean, scale(d, toMean)), 0);
      place(this.variance, merged, 0);
      this.count += n;
    });
  }

  /** Normalised scores; the statistics are constants to the gradient. */
  apply(scores: Tensor): Tensor {
    if (this.type === "critic") return scores;
    const deviation = noGrad(() => addScalar(sqrt(this.variance), NORMALIZER_EPS));
    return div(this.type === "reward" ? sub(scores, this.mean) : scores, deviation);
  }

  load(state: NormalizerState): void {
    this.mean.write(Float32Array.of(state.mean));
    this.variance.write(Float32Array.of(state.variance));
    this.count = state.count;
  }

  destroy(): void {
    this.mean.free("the trainer");
    this.variance.free("the trainer");
  }
}
