/** The best of n of stored answers, without drawing anew. */

/** How often the best of n, drawn without putting back, has each place in an order of so many; the first place is the best. */
export function placesOfBest(count: number, n: number): number[] {
  // C(count - place - 1, n - 1) / C(count, n), step by step, so that no large numbers appear.
  const chances: number[] = [];
  let left = 1;
  for (let place = 0; place < count; place++) {
    const chance = Math.min(1, n / (count - place));
    chances.push(left * chance);
    left *= 1 - chance;
    if (place > count - n) left = 0;
  }
  return chances;
}

/** What the best of n is worth on average over all ways to draw n of them. @param by what the best is found by; ties share */
export function bestOf(n: number, by: readonly number[], worth: readonly number[]): number {
  const order = by.map((_, i) => i).sort((a, b) => by[b] - by[a]);
  const chances = placesOfBest(by.length, n);
  return order.reduce((sum, i, place) => sum + chances[place] * worth[i], 0);
}
