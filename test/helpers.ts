import { type Caps, openDevice } from "webrlhf";

/** Opens the device once for the whole test file; use as `beforeAll(gpuReady)`. */
export function gpuReady(): Promise<Caps> {
  return openDevice();
}

/**
 * Fails unless every |actual - expected| <= rtol * max|expected| + atol, and names the worst element.
 * The tolerance is relative to the largest reference value, since sums that cancel have no better one.
 */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  rtol = 1e-5,
  atol = 1e-7,
  label = "",
): void {
  const where = label ? `${label}: ` : "";
  if (actual.length !== expected.length) {
    throw new Error(`${where}${actual.length} values, expected ${expected.length}`);
  }
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    if (Number.isFinite(expected[i])) largest = Math.max(largest, Math.abs(expected[i]));
  }
  let worst = -1;
  let worstError = rtol * largest + atol;
  const limit = worstError;
  let bad = 0;
  for (let i = 0; i < expected.length; i++) {
    if (Object.is(actual[i], expected[i])) continue;
    const difference = Math.abs(actual[i] - expected[i]);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > limit) bad++;
    if (error > worstError) {
      worst = i;
      worstError = error;
    }
  }
  if (bad === 0) return;
  throw new Error(
    `${where}${bad} of ${expected.length} values are off; worst at ${worst}: got ${actual[worst]}, expected ${expected[worst]} ` +
      `(difference ${worstError.toExponential(2)}, allowed ${limit.toExponential(2)})`,
  );
}
