/** Whether the truth turned over: told so that looking for the best look does not by itself make it look good. */

/** What was found at a look at the held-out prompts: the true reward of each prompt's answer. */
export interface Marked {
  step: number;
  gold: readonly number[];
}

/** How far the truth fell from its best look to the last. */
export interface Turn {
  /** The step of the look where the mean truth was highest. */
  peakStep: number;
  /** Mean fall from the best look to the last, in the truth's own units; positive: it got worse. */
  drop: number;
  /** Its standard error, paired by prompt. */
  error: number;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * The best of many looks is best by luck, too. So the prompts are halved: each half names its best look, and the fall from there is
 * measured on the other half. The prompts' own difficulty drops out, for each is compared with itself.
 * @param looks at the same prompts, at least two
 */
export function turnOf(looks: readonly Marked[]): Turn {
  const last = looks[looks.length - 1];
  const halves = [0, 1].map((half) => last.gold.flatMap((_, i) => (i % 2 === half ? [i] : [])));
  const bestOn = (places: readonly number[]) =>
    looks.reduce((best, look) => (mean(at(look, places)) > mean(at(best, places)) ? look : best));
  const falls = halves.map((places, half) => {
    const best = bestOn(halves[1 - half]);
    return places.map((i) => best.gold[i] - last.gold[i]);
  });
  const errors = falls.map(
    (own) => own.reduce((sum, x) => sum + (x - mean(own)) ** 2, 0) / (own.length - 1) / own.length,
  );
  const everywhere = last.gold.map((_, i) => i);
  return {
    peakStep: bestOn(everywhere).step,
    drop: mean(falls.map(mean)),
    error: Math.sqrt(errors[0] + errors[1]) / 2,
  };
}

const at = ({ gold }: Marked, places: readonly number[]): number[] => places.map((i) => gold[i]);
