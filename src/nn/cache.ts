import { caps } from "../gpu/device.ts";
import { UserError } from "../runtime/errors.ts";
import { empty, type Tensor } from "../tensor/core.ts";
import { cacheWidth } from "../tensor/ops/kvcache.ts";
import type { DecoderConfig } from "./config.ts";

/**
 * How keys and values of past tokens are kept: as numbers, or in 8 bits with a scale for each head of each token. "auto": as the
 * model computes, so float16 in half precision, else float32.
 */
export type KvCacheFormat = (typeof kvCacheFormats)[number];
/** Formats of caches by name. */
export const kvCacheFormats = ["auto", "float32", "float16", "int8"] as const;

const types = { float32: "f32", float16: "f16", int8: "u32" } as const;

/** Refuses what this GPU cannot keep. */
export function checkKvCache(format: KvCacheFormat): void {
  const { f16, name } = caps();
  if (format !== "float16" || f16) return;
  throw new UserError(
    `a cache of keys and values in float16 needs the feature shader-f16, which ${name} does not have: take int8, or leave it out`,
  );
}

/** Keys and values of past tokens, per layer: [slots, capacity, kvHeads * headDim], or codes in 8 bits with their scales. */
export class KvCache {
  readonly slots: number;
  /** Tokens a slot can hold. */
  readonly capacity: number;
  /** Type of attention's and the MLP's inputs where tokens go through it. */
  readonly type: "f32" | "f16";
  private readonly layers: { keys: Tensor; values: Tensor }[];

  /** @param model computes as it does now, and says how the cache is kept */
  constructor(
    model: { config: DecoderConfig; half: boolean; kvCache: KvCacheFormat },
    slots: number,
    capacity: number,
  ) {
    const { config, half, kvCache } = model;
    this.slots = slots;
    this.capacity = capacity;
    this.type = half ? "f16" : "f32";
    const kept = kvCache === "auto" ? this.type : types[kvCache];
    const shape = [slots, capacity, cacheWidth(kept, config)];
    this.layers = Array.from({ length: config.layers }, () => ({
      keys: empty(shape, kept, "key cache"),
      values: empty(shape, kept, "value cache"),
    }));
  }

  layer(i: number): { keys: Tensor; values: Tensor } {
    return this.layers[i];
  }

  get all(): readonly { keys: Tensor; values: Tensor }[] {
    return this.layers;
  }

  free(): void {
    for (const { keys, values } of this.layers) {
      keys.free("the end of generation");
      values.free("the end of generation");
    }
  }
}
