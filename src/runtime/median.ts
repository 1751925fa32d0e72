/**
 * The middle one of some numbers, the higher one of two.
 * @param none what it is where there are none. Default NaN
 */
export const median = (numbers: readonly number[], none = Number.NaN): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? none;
