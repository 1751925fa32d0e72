/** Models that keep keys and values in another format for the time of a run. */
import type { KvCacheFormat } from "../nn/cache.ts";
import type { CausalLM } from "../nn/models.ts";

/**
 * Has these models sample with a cache of that format; "auto" leaves them as they are. What a trainer learns from it measures
 * itself, by whole sequences, so that a cache in fewer bits changes what is sampled and not what it is taken for.
 * @returns what gives them the formats back that they had
 */
export function cachedAs(format: KvCacheFormat, models: readonly (CausalLM | null | undefined)[]): { destroy(): void } {
  const before = models.flatMap((model) => (model && format !== "auto" ? [{ model, was: model.kvCache }] : []));
  for (const { model } of before) model.kvCache = format;
  return {
    destroy() {
      for (const { model, was } of before.splice(0).reverse()) model.kvCache = was;
    },
  };
}
