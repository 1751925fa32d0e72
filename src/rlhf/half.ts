/** Models that compute in half precision for the time of a run. */
import type { Model } from "../nn/models.ts";

/**
 * Turns half precision on for these models, where `fp16` says so; all of a run's are rounded alike then, so that the policy and
 * its reference agree as long as they are the same.
 * @returns what turns it off again for those that were not in half precision before
 */
export function inHalf(fp16: boolean, models: readonly (Model | null | undefined)[]): { destroy(): void } {
  const turned: Model[] = [];
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
