/** Copies of f32 weights in f16 for passes in half precision: a cast of each whole buffer, made again when that was written. */
import { caps } from "../gpu/device.ts";
import { type BufferView, createBuffer, markWrites, subview, type WriteMark } from "../gpu/pool.ts";
import { destroyBuffers } from "../gpu/stream.ts";
import { borrow, Tensor } from "./core.ts";
import { castInto } from "./ops/cast.ts";
import type { Weight } from "./quantized.ts";

const ALIGN = 128; // halves: bindings start at multiples of 256 bytes

/** A weight in a flat buffer, and where in it, in elements. */
export interface Placed {
  readonly value: Tensor;
  readonly buffer: BufferView;
  readonly offset: number;
}

/** The f16 copies of a store's buffers. They are there from the first use to `free`. */
export class HalfCopies {
  private readonly buffers: readonly BufferView[];
  private readonly label: string;
  private readonly mark: WriteMark = { written: true };
  private copies: Map<BufferView, BufferView> | null = null;
  private readonly tensors = new Map<Tensor, Tensor>();

  /** @param buffers whole ones, of f32 */
  constructor(buffers: readonly BufferView[], label: string) {
    this.buffers = buffers;
    this.label = label;
  }

  /** From now on `halfOf` finds the copy of this weight, if a binding can start where it would. */
  add(placed: Placed): void {
    if (placed.offset % ALIGN === 0) homes.set(placed.value, () => this.copyOf(placed));
  }

  /** The weight's copy, as it is now. Gradients of it are the weight's, and in f32. */
  private copyOf({ value, buffer, offset }: Placed): Tensor {
    const copies = this.upToDate();
    let copy = this.tensors.get(value);
    if (!copy) {
      const bytes = Math.ceil(value.size / 2) * 4;
      const view = subview(copies.get(buffer) as BufferView, offset * 2, bytes);
      copy = borrow(view, value.shape, "f16", value.madeBy);
      this.tensors.set(value, copy);
    }
    copy.requiresGrad = value.requiresGrad;
    copy.grad = value.grad;
    return copy;
  }

  private upToDate(): Map<BufferView, BufferView> {
    this.copies ??= new Map(
      this.buffers.map((buffer) => {
        markWrites(buffer, this.mark);
        this.mark.written = true;
        return [buffer, createBuffer(buffer.size / 2, `${this.label} in f16`, { inParts: true })];
      }),
    );
    if (!this.mark.written) return this.copies;
    this.mark.written = false;
    const most = Math.floor(caps().maxBinding / 4 / ALIGN) * ALIGN;
    for (const [from, to] of this.copies) {
      for (let at = 0, all = from.size / 4; at < all; at += most) {
        const size = Math.min(most, all - at);
        castInto(
          { view: subview(from, at * 4, size * 4), size, dtype: "f32" },
          { view: subview(to, at * 2, size * 2), size, dtype: "f16" },
        );
      }
    }
    return this.copies;
  }

  /** Gives the memory back; the next use makes the copies again. */
  free(): void {
    if (!this.copies) return;
    destroyBuffers([...this.copies.values()]);
    this.copies = null;
    this.tensors.clear();
  }
}

const homes = new WeakMap<Tensor, () => Tensor>();

/** A weight as products in half precision read it: its copy in f16, or itself where it has none. */
export function halfOf(weight: Weight): Weight {
  return (weight instanceof Tensor && homes.get(weight)?.()) || weight;
}
