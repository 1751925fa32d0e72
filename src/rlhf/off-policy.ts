/**
 * Learning from responses that another policy drew than the one that learns: an older one, a moving average, a server's of another
 * precision. Policy-gradient losses need to know how probable a response was to whom drew it.
 */
import { UserError } from "../runtime/errors.ts";
import { derived, type ResolvedSettings, where } from "../settings/index.ts";
import { type RatioLossOptions, ratiosOf } from "./losses/ratio.ts";
import type { Response } from "./sampler.ts";
import { rollout } from "./settings.ts";
import { average } from "./stats.ts";

/** What of the other settings decides whether responses are the policy's own. */
interface Elsewhere {
  maxStaleness: number;
  loraWire?: string;
  emaBeta?: number | null;
  emaGeneration?: boolean;
}

const correctionOf = ({ maxStaleness, loraWire = "f32", emaBeta = null, emaGeneration = false }: Elsewhere) =>
  maxStaleness > 0 || loraWire !== "f32" || (emaBeta !== null && emaGeneration)
    ? ("behaviour" as const)
    : ("none" as const);

/** How losses of probability ratios take responses that another policy drew. */
export const offPolicySettings = {
  importanceSamplingCorrection: rollout.choice(
    ["behaviour", "truncated", "none"],
    derived(
      (o: Elsewhere) => correctionOf(o),
      "behaviour where an older policy, a rounded one or a moving average draws, else none",
    ),
    "Ratios to the policy that drew (behaviour), or to the current one with truncated importance weights, or as if that had drawn",
  ),
  importanceSamplingCap: rollout.float(3, "Truncate importance weights at this", {
    min: 0,
    exclusiveMin: true,
    effect: where("importanceSamplingCorrection", "truncated"),
  }),
};

/** The settings of responses that another policy drew, resolved. */
export type OffPolicySettings = ResolvedSettings<typeof offPolicySettings>;

/** What losses take of responses, and what is told of them. */
export interface OffPolicy {
  /** What the probability ratios are measured from. */
  oldLogProbs: Float32Array[];
  /** What advantages are multiplied by, token by token; null: nothing. */
  importance: number[][] | null;
  metrics: Record<string, number>;
}

/**
 * How a rollout is learned from.
 * @param own log-probabilities under the policy that learns, before it does
 * @param level what ratios are of: weights are of the same
 * @throws UserError where the responses do not say how probable they were to whom drew them
 */
export function offPolicy(
  responses: readonly Response[],
  own: Float32Array[],
  iteration: number,
  { importanceSamplingCorrection: correction, importanceSamplingCap: cap }: OffPolicySettings,
  level: RatioLossOptions["level"],
): OffPolicy {
  const lag = average(responses.map(({ version = iteration }) => iteration - version));
  if (correction === "none") {
    return { oldLogProbs: own, importance: null, metrics: lag > 0 ? { staleness: lag } : {} };
  }
  const drawn = responses.map(({ logProbs }, i) => {
    if (logProbs?.length === own[i].length) return logProbs;
    throw new UserError(
      "whoever draws the responses does not say their log-probabilities, which learning from another policy's responses needs",
    );
  });
  const changes = own.map((l, i) => Array.from(l, (x, t) => x - drawn[i][t]));
  const distances = changes.map((all) => average(all.map(Math.abs)));
  const tokens = own.map((l) => l.length);
  const perToken = (sums: readonly number[]) =>
    sums.reduce((sum, x, i) => sum + x * tokens[i], 0) /
    Math.max(
      1,
      tokens.reduce((a, b) => a + b, 0),
    );
  const metrics = { staleness: lag, sampling_logp_difference: perToken(distances) };
  if (correction === "behaviour") return { oldLogProbs: drawn, importance: null, metrics };
  const ratios = changes.map((all) => ratiosOf(all, { level }));
  const share = perToken(ratios.map((all) => average(all.map((ratio) => Number(ratio > cap)))));
  return {
    oldLogProbs: own,
    importance: ratios.map((all) => all.map((ratio) => Math.min(ratio, cap))),
    metrics: { ...metrics, frac_truncated: share },
  };
}

/** Advantages by token, times what their tokens count. */
export const weighted = (
  advantages: ArrayLike<number>,
  importance: readonly number[] | undefined,
): ArrayLike<number> => (importance ? Float64Array.from(advantages, (a, t) => a * importance[t]) : advantages);
