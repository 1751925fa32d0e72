import { empty, type Tensor } from "../tensor/core.ts";
import type { DecoderConfig } from "./config.ts";

/** Keys and values of past tokens, per layer: [slots, capacity, kvHeads * headDim]. */
export class KvCache {
  readonly slots: number;
  /** Tokens a slot can hold. */
  readonly capacity: number;
  /** Type of what it holds, and with it of attention's and the MLP's inputs where tokens go through it. */
  readonly type: "f32" | "f16";
  private readonly layers: { keys: Tensor; values: Tensor }[];

  constructor(
    { layers, kvHeads, headDim }: DecoderConfig,
    slots: number,
    capacity: number,
    type: "f32" | "f16" = "f32",
  ) {
    this.slots = slots;
    this.capacity = capacity;
    this.type = type;
    const shape = [slots, capacity, kvHeads * headDim];
    this.layers = Array.from({ length: layers }, () => ({
      keys: empty(shape, type, "key cache"),
      values: empty(shape, type, "value cache"),
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
