/** Chance in lessons: numbers that an answer has by lot, the same whenever it is asked. */

/** A number in (0, 1) that says nothing of the tokens that it is drawn for (FNV-1a of them). */
export function lot(ids: ArrayLike<number>, seed: number): number {
  let hash = 2166136261 ^ seed;
  for (let i = 0; i < ids.length; i++) hash = Math.imul(hash ^ ids[i], 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822507);
  hash = Math.imul(hash ^ (hash >>> 13), 3266489909);
  return (((hash ^ (hash >>> 16)) >>> 0) + 0.5) / 2 ** 32;
}
