/** Intervals from bootstrap samples (Efron 1979). */
import { randomInt, streamId } from "../runtime/rng.ts";
import { average } from "./stats.ts";

/**
 * The percentile interval that holds 95 % of a statistic's values over bootstrap samples; null where there are none.
 * @param values in any order
 */
export function percentileInterval(values: readonly number[]): { low: number | null; high: number | null } {
  if (values.length === 0) return { low: null, high: null };
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  return { low: at(0.025), high: at(0.975) };
}

const MEAN = streamId("bootstrap mean");

/**
 * The 95 % interval of the mean of values that were drawn independently.
 * @param resamples 0 gives no interval
 */
export function meanInterval(
  values: readonly number[],
  { resamples, seed }: { resamples: number; seed: number },
): { low: number | null; high: number | null } {
  const means = Array.from({ length: resamples }, (_, r) =>
    average(values.map((_, i) => values[randomInt(values.length, seed, i, r, MEAN)])),
  );
  return percentileInterval(means);
}
