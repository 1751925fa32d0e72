/** How sampling parameters change a distribution. */

export interface Shape {
  /** 0 takes the likeliest token. */
  temperature: number;
  /** Keep the fewest likeliest tokens with this much probability; 1 keeps all. */
  topP: number;
  /** Keep so many of the likeliest tokens; 0 keeps all. */
  topK: number;
}

/**
 * The probabilities that tokens are drawn with: divided by the temperature first, then cut by top-k, then by top-p.
 * @param logProbs of all tokens, likeliest first, in nats
 */
export function reshaped(logProbs: readonly number[], { temperature, topP, topK }: Shape): number[] {
  if (temperature === 0) return logProbs.map((_, rank) => (rank === 0 ? 1 : 0));
  const weights = logProbs.map((l, rank) => (topK > 0 && rank >= topK ? 0 : Math.exp((l - logProbs[0]) / temperature)));
  const whole = total(weights);
  let sum = 0;
  const kept = weights.map((weight, rank) => {
    const wanted = topP >= 1 || rank === 0 || sum < topP * whole;
    sum += weight;
    return wanted ? weight : 0;
  });
  const left = total(kept);
  return kept.map((weight) => weight / left);
}

const total = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
