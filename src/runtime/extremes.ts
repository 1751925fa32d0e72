/** The smallest and the largest of any count of numbers: as arguments of `Math.min` and `Math.max`, many of them overflow the stack. */

/** The smallest number; infinity where there is none, and NaN where one is. */
export const minOf = (numbers: Iterable<number>): number => {
  let least = Number.POSITIVE_INFINITY;
  for (const one of numbers) least = Math.min(least, one);
  return least;
};

/** The largest number; minus infinity where there is none, and NaN where one is. */
export const maxOf = (numbers: Iterable<number>): number => {
  let most = Number.NEGATIVE_INFINITY;
  for (const one of numbers) most = Math.max(most, one);
  return most;
};
