/**
 * A judge without a GPU: a linear head over features of stories that were recorded earlier, fitted to labels in the page.
 * It stands where the reward model's own head stands, on the frozen language model beneath it.
 */

/** Weight of the penalty on the head's squared weights, and the steps of gradient descent until it changes no more. */
const PENALTY = 0.02;
const STEPS = 300;
const RATE = 0.5;

/**
 * The weights w that make Σ log σ(w · (chosen − rejected)) large: Bradley and Terry's model, as in `trainReward`.
 * @param pairs features of the chosen and of the rejected story of each label, each of the same width
 */
export function fitHead(pairs: readonly { chosen: ArrayLike<number>; rejected: ArrayLike<number> }[]): Float64Array {
  const width = pairs[0]?.chosen.length ?? 0;
  const ahead = pairs.map(({ chosen, rejected }) => Float64Array.from(chosen, (x, k) => x - rejected[k]));
  // One length for all pairs, so that one rate suits every set of features.
  const scale = Math.sqrt(ahead.reduce((sum, d) => sum + dot(d, d), 0) / (ahead.length || 1)) || 1;
  const head = new Float64Array(width);
  for (let step = 0; step < STEPS; step++) {
    const gradient = head.map((w) => -PENALTY * w);
    for (const d of ahead) {
      const wrong = 1 / (1 + Math.exp(dot(head, d) / scale));
      for (let k = 0; k < width; k++) gradient[k] += (wrong * d[k]) / scale / ahead.length;
    }
    for (let k = 0; k < width; k++) head[k] += RATE * gradient[k];
  }
  return head.map((w) => w / scale);
}

/** A story's score. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}
