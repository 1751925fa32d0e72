/** Models that compute in half precision for the time of a run. */

/** What can compute in half precision. */
interface Halved {
  half: boolean;
}

/**
 * Turns half precision on for these models, where `fp16` says so; all of a run's are rounded alike then, so that the policy and
 * its reference agree as long as they are the same.
 * @returns what turns it off again for those that were not in half precision before
 */
export function inHalf(fp16: boolean, models: readonly (Halved | null | undefined)[]): { destroy(): void } {
  const turned: Halved[] = [];
  for (const model of fp16 ? models : []) {
    if (!model || model.half) continue;
    model.half = true;
    turned.push(model);
  }
  return {
    destroy() {
      for (const model of turned.splice(0)) model.half = false;
    },
  };
}
