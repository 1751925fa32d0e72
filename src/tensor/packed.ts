/**
 * Frozen weights in fewer bits (see quantize.ts for the formats). A `PackedWeight` is a tensor of f32 values for those who
 * ask its shape, read it or write it, but it has no f32 memory: matrix products take it as their second operand and
 * `embedding` as its table, and every other op refuses it. It needs no feature of the adapter.
 */
import { type BufferView, createBuffer, subview } from "../gpu/pool.ts";
import { copy, download, upload } from "../gpu/stream.ts";
import { type Shape, Tensor } from "./core.ts";
import { unpackRows } from "./ops/packed.ts";
import { layouts, type PackedFormat, packRows } from "./quantize.ts";

const BLOCK = 1 << 20; // values that are converted at a time

/** The memory of a weight's rows. */
interface Memory {
  readonly data: BufferView;
  readonly scales: BufferView | null;
}

export class PackedWeight extends Tensor {
  readonly format: PackedFormat;
  /** Values from one row to the next: the row length, padded to whole groups. */
  readonly stride: number;
  readonly memory: Memory;

  private constructor(shape: Shape, format: PackedFormat, memory: Memory, name: string) {
    super(shape, "f32", { view: memory.data, owners: 1, pooled: false }, name);
    const { group } = layouts[format];
    this.format = format;
    this.stride = Math.ceil(shape[1] / group) * group;
    this.memory = memory;
  }

  /** Allocates a weight [rows, cols]; its contents are undefined until they are written. */
  static allocate([rows, cols]: Shape, format: PackedFormat, name: string): PackedWeight {
    const { group, words, scaled } = layouts[format];
    const groups = rows * Math.ceil(cols / group);
    const memory = {
      data: createBuffer(groups * words * 4, name, { inParts: true }),
      scales: scaled ? createBuffer(groups * 4, `${name} scales`) : null,
    };
    return new PackedWeight([rows, cols], format, memory, name);
  }

  /** There is no f32 memory to bind. */
  override get view(): BufferView {
    throw new Error(`${this.madeBy} is stored as ${this.format}: this op takes f32 tensors only`);
  }

  /** The buffers to free. */
  get buffers(): BufferView[] {
    const { data, scales } = this.memory;
    return scales ? [data, scales] : [data];
  }

  /** Bytes on the GPU. */
  get bytes(): number {
    return this.buffers.reduce((sum, b) => sum + b.size, 0);
  }

  /** Rows first .. first + count - 1, in the same memory; `first` must be a multiple of 64. */
  rows(first: number, count: number): PackedWeight {
    if (first === 0 && count === this.shape[0]) return this;
    const part = (view: BufferView) => {
      const row = view.size / this.shape[0];
      return subview(view, first * row, count * row);
    };
    const { data, scales } = this.memory;
    const memory = { data: part(data), scales: scales && part(scales) };
    return new PackedWeight([count, this.shape[1]], this.format, memory, this.madeBy);
  }

  /** Rounds the values into the format. */
  override write(values: Float32Array): void {
    if (values.length !== this.size) throw new Error(`write: ${values.length} values into a weight of ${this.size}`);
    this.writePart(0, values);
  }

  /** Rounds whole rows into the format, from value `first` on; the rows may come in any order. */
  override writePart(first: number, values: Float32Array): void {
    const [rows, cols] = this.shape;
    const [row, count] = [first / cols, values.length / cols];
    if (!Number.isInteger(row) || !Number.isInteger(count) || row + count > rows) {
      throw new Error(`writePart: ${values.length} values from ${first} on are no rows of [${this.shape}]`);
    }
    const block = Math.max(1, Math.floor(BLOCK / cols));
    for (let at = 0; at < count; at += block) {
      const part = values.subarray(at * cols, Math.min(at + block, count) * cols);
      const { data, scales } = packRows(part, cols, this.format, this.madeBy);
      const bytesBefore = (view: BufferView) => ((row + at) * view.size) / rows;
      upload(this.memory.data, data, bytesBefore(this.memory.data));
      if (scales && this.memory.scales) upload(this.memory.scales, scales, bytesBefore(this.memory.scales));
    }
  }

  /** Writes the values that are stored into an f32 tensor. */
  unpackInto(target: Tensor): void {
    const [rows, cols] = this.shape;
    const block = Math.max(1, Math.floor(BLOCK / cols));
    for (let first = 0; first < rows; first += block) {
      const part = unpackRows(this, { first, count: Math.min(block, rows - first) });
      copy(part.view, target.view, part.size * 4, 0, first * cols * 4);
      part.free("unpackInto()");
    }
  }

  /** The values that are stored, as f32. */
  override read(): Promise<Float32Array<ArrayBuffer>> {
    return this.readPart(0, this.size);
  }

  override async readPart(first: number, count: number): Promise<Float32Array<ArrayBuffer>> {
    const cols = this.shape[1];
    const out = new Float32Array(count);
    const block = Math.max(1, Math.floor(BLOCK / cols));
    const end = Math.ceil((first + count) / cols);
    for (let row = Math.floor(first / cols); row < end; row += block) {
      const part = unpackRows(this, { first: row, count: Math.min(block, end - row) });
      const values = new Float32Array(await download(part.view, part.size * 4));
      part.free("readPart()");
      const [from, to] = [Math.max(first, row * cols), Math.min(first + count, row * cols + values.length)];
      out.set(values.subarray(from - row * cols, to - row * cols), from - first);
    }
    return out;
  }
}
