import { empty, type Tensor } from "../tensor/core.ts";
import type { DecoderConfig } from "./config.ts";

/** Keys and values of past tokens, per layer: [slots, capacity, kvHeads * headDim]. */
export class KvCache {
  readonly slots: number;
  /** Tokens a slot can hold. */
  readonly capacity: number;
  private readonly layers: { keys: Tensor; values: Tensor }[];

  constructor({ layers, kvHeads, headDim }: DecoderConfig, slots: number, capacity: number) {
    this.slots = slots;
    this.capacity = capacity;
    const shape = [slots, capacity, kvHeads * headDim];
    this.layers = Array.from({ length: layers }, () => ({
      keys: empty(shape, "f32", "key cache"),
      values: empty(shape, "f32", "value cache"),
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
