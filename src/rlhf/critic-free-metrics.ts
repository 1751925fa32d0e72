/** What the methods without a critic measure of their rollouts and updates. */
import { withoutSpread } from "./advantages.ts";
import { predictedTokens } from "./batch.ts";
import { type RatioLossOptions, ratiosOf } from "./losses/ratio.ts";
import type { Rollout } from "./rollout.ts";
import { average, standardDeviation } from "./stats.ts";
import type { WatchedNumbers } from "./watch.ts";

/** How the rewards of a rollout differ, and how long the responses are that end by themselves. */
export function spreadMetrics(
  { responses, scores }: Pick<Rollout, "responses" | "scores">,
  size: number,
): Record<string, number> {
  const ended = responses.filter((r) => r.ended);
  return {
    reward_std: standardDeviation(scores),
    ...(size > 1 && { frac_reward_zero_std: average(withoutSpread(scores, size).map(Number)) }),
    mean_terminated_length: average(ended.map(predictedTokens)),
  };
}

interface RatioTerm {
  ratio: number;
  advantage: number;
}

/** What metrics need of a response that was learned from; arrays by response token. */
interface Learned {
  logProbs: Float32Array;
  advantages: ArrayLike<number>;
}

/** The probability ratios of a pass: of each token, or of each sequence. */
export function ratioTerms(
  { logProbs }: WatchedNumbers<"loss" | "logProbs">,
  part: readonly Learned[],
  options: RatioLossOptions,
): RatioTerm[] {
  let at = 0;
  return part.flatMap(({ logProbs: before, advantages }): RatioTerm[] => {
    const ratios = ratiosOf(
      Array.from(before, (old) => logProbs[at++] - old),
      options,
    );
    if (options.level === "token") return ratios.map((ratio, t) => ({ ratio, advantage: advantages[t] }));
    return [{ ratio: ratios[0] ?? 1, advantage: advantages[0] ?? 0 }];
  });
}

/** Whether the loss of a token is constant in its ratio. */
export const lossBound =
  ({ epsilon, epsilonHigh, delta, cispo, sapo }: RatioLossOptions) =>
  (ratio: number, advantage: number): boolean => {
    if (cispo) return ratio > epsilonHigh; // a weight of log p, whose gradient stays
    if (sapo) return false; // its gate never closes all the way
    if (advantage > 0) return ratio > 1 + epsilonHigh;
    return advantage < 0 && (ratio < 1 - epsilon || (delta !== null && ratio > delta));
  };

/** How often the clip took the gradient away, by TRL's names. */
export function clipMetrics(terms: readonly RatioTerm[], options: RatioLossOptions): Record<string, number> {
  const share = (test: (t: RatioTerm) => boolean) => average(terms.map((t) => Number(test(t))));
  const { epsilon, epsilonHigh, cispo, sapo } = options;
  if (sapo) return {};
  if (cispo) return { cispo_clip_ratio: share((t) => t.ratio > epsilonHigh && t.advantage > 0) };
  const low = share((t) => t.ratio < 1 - epsilon && t.advantage < 0);
  const high = share((t) => t.ratio > 1 + epsilonHigh && t.advantage > 0);
  return { "clip_ratio/low_mean": low, "clip_ratio/high_mean": high, "clip_ratio/region_mean": low + high };
}
