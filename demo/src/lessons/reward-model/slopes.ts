/** What a score rests on, by least squares. */

/** A scored story. */
export interface Scored {
  score: number;
  truth: number;
  words: number;
}

/**
 * score / sd(score) = a + per_truth · truth + per_word · words, with the standard errors of both slopes: what a word more changes
 * in stories of equal truth, and the other way round.
 */
export function slopes(stories: readonly Scored[]) {
  const n = stories.length;
  const mean = (of: (s: Scored) => number) => stories.reduce((sum, s) => sum + of(s), 0) / n;
  const [mt, mw, ms] = [mean(({ truth }) => truth), mean(({ words }) => words), mean(({ score }) => score)];
  const sum = (of: (t: number, w: number, s: number) => number) =>
    stories.reduce((total, { truth, words, score }) => total + of(truth - mt, words - mw, score - ms), 0);
  const [tt, ww, tw] = [sum((t) => t * t), sum((_, w) => w * w), sum((t, w) => t * w)];
  const [ts, ws, ss] = [sum((t, _, s) => t * s), sum((_, w, s) => w * s), sum((_, __, s) => s * s)];
  const determinant = tt * ww - tw * tw;
  const sd = Math.sqrt(ss / n) || 1;
  const perTruth = (ts * ww - ws * tw) / determinant;
  const perWord = (ws * tt - ts * tw) / determinant;
  const left = Math.max(0, ss - perTruth * ts - perWord * ws) / (n - 3);
  return {
    per_truth: perTruth / sd,
    per_truth_se: Math.sqrt((left * ww) / determinant) / sd,
    per_word: perWord / sd,
    per_word_se: Math.sqrt((left * tt) / determinant) / sd,
  };
}
