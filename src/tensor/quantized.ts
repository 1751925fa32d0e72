/**
 * Frozen weights in fewer bits (see quantize.ts for the formats). They have no f32 memory: matrix products take one as their
 * second operand and `embedding` as its table, and unpack it as they read. It needs no feature of the adapter.
 */
import { type Kernel, kernel } from "../gpu/kernel.ts";
import { type BufferView, createBuffer, subview } from "../gpu/pool.ts";
import { copy, download, run, upload } from "../gpu/stream.ts";
import { quantizedAccess, unpackRowsCode } from "../shaders/quantized.wgsl.ts";
import { empty, type Shape, Tensor } from "./core.ts";
import { rowsPerBinding, walkPlan } from "./ops/rows.ts";
import { layouts, packRows, type QuantizedFormat } from "./quantize.ts";

const BLOCK = 1 << 20; // values that are converted at a time

/** A matrix that a layer multiplies by or looks up in: a tensor, or a frozen weight in fewer bits. */
export type Weight = Tensor | QuantizedWeight;

/** The part of a weight that gradients can reach, for an op's list of inputs: the tensor, or nothing. */
export const trainable = (weight: Weight): Tensor[] => (weight instanceof Tensor ? [weight] : []);

/** The memory of a weight's rows. */
interface Memory {
  readonly data: BufferView;
  readonly scales: BufferView | null;
}

/** A frozen matrix [rows, cols] in fewer bits than f32. It is written and read as f32 values. */
export class QuantizedWeight {
  readonly shape: Shape;
  readonly size: number;
  readonly format: QuantizedFormat;
  /** For errors. */
  readonly name: string;
  /** Values from one row to the next: the row length, padded to whole groups. */
  readonly stride: number;
  /** @internal */
  readonly memory: Memory;

  private constructor(shape: Shape, format: QuantizedFormat, memory: Memory, name: string) {
    const { group } = layouts[format];
    this.shape = shape;
    this.size = shape[0] * shape[1];
    this.format = format;
    this.stride = Math.ceil(shape[1] / group) * group;
    this.memory = memory;
    this.name = name;
  }

  /** Allocates a weight [rows, cols]; its contents are undefined until they are written. */
  static allocate([rows, cols]: Shape, format: QuantizedFormat, name: string): QuantizedWeight {
    const { group, words, scaled } = layouts[format];
    const groups = rows * Math.ceil(cols / group);
    const memory = {
      data: createBuffer(groups * words * 4, name, { inParts: true }),
      scales: scaled ? createBuffer(groups * 4, `${name} scales`) : null,
    };
    return new QuantizedWeight([rows, cols], format, memory, name);
  }

  /**
   * The buffers to free.
   * @internal
   */
  get buffers(): BufferView[] {
    const { data, scales } = this.memory;
    return scales ? [data, scales] : [data];
  }

  /** Bytes on the GPU. */
  get bytes(): number {
    return this.buffers.reduce((sum, b) => sum + b.size, 0);
  }

  /** Rows first .. first + count - 1, in the same memory; `first` must be a multiple of 64. */
  rows(first: number, count: number): QuantizedWeight {
    if (first === 0 && count === this.shape[0]) return this;
    const part = (view: BufferView) => {
      const row = view.size / this.shape[0];
      return subview(view, first * row, count * row);
    };
    const { data, scales } = this.memory;
    const memory = { data: part(data), scales: scales && part(scales) };
    return new QuantizedWeight([count, this.shape[1]], this.format, memory, this.name);
  }

  /** All rows in as few blocks as bindings can hold. */
  blocks(): { first: number; count: number; rows: QuantizedWeight }[] {
    const rows = this.shape[0];
    const most = rowsPerBinding(this.memory.data.size / rows, rows);
    return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
      const first = i * most;
      const count = Math.min(most, rows - first);
      return { first, count, rows: this.rows(first, count) };
    });
  }

  /** Rounds the values into the format. */
  write(values: Float32Array): void {
    if (values.length !== this.size) throw new Error(`write: ${values.length} values into a weight of ${this.size}`);
    this.writePart(0, values);
  }

  /** Rounds whole rows into the format, from value `first` on; the rows may come in any order. */
  writePart(first: number, values: Float32Array): void {
    const [rows, cols] = this.shape;
    const [row, count] = [first / cols, values.length / cols];
    if (!Number.isInteger(row) || !Number.isInteger(count) || row + count > rows) {
      throw new Error(`writePart: ${values.length} values from ${first} on are no rows of [${this.shape}]`);
    }
    const block = Math.max(1, Math.floor(BLOCK / cols));
    for (let at = 0; at < count; at += block) {
      const part = values.subarray(at * cols, Math.min(at + block, count) * cols);
      const { data, scales } = packRows(part, cols, this.format, this.name);
      const bytesBefore = (view: BufferView) => ((row + at) * view.size) / rows;
      upload(this.memory.data, data, bytesBefore(this.memory.data));
      if (scales && this.memory.scales) upload(this.memory.scales, scales, bytesBefore(this.memory.scales));
    }
  }

  /** The values that are stored, as f32. */
  read(): Promise<Float32Array<ArrayBuffer>> {
    return this.readPart(0, this.size);
  }

  /** `count` of the values that are stored from value `first` on, as f32. */
  async readPart(first: number, count: number): Promise<Float32Array<ArrayBuffer>> {
    const cols = this.shape[1];
    const out = new Float32Array(count);
    for (const part of this.unpacked(Math.floor(first / cols), Math.ceil((first + count) / cols))) {
      const values = new Float32Array(await download(part.rows.view, part.rows.size * 4));
      part.rows.free("readPart()");
      const start = part.first * cols;
      const [from, to] = [Math.max(first, start), Math.min(first + count, start + values.length)];
      out.set(values.subarray(from - start, to - start), from - first);
    }
    return out;
  }

  /** Writes the values that are stored into an f32 tensor. */
  unpackInto(target: Tensor): void {
    const [rows, cols] = this.shape;
    for (const part of this.unpacked(0, rows)) {
      copy(part.rows.view, target.view, part.rows.size * 4, 0, part.first * cols * 4);
      part.rows.free("unpackInto()");
    }
  }

  /** Rows from .. to - 1 as f32, some at a time; the caller frees them. */
  private *unpacked(from: number, to: number): Generator<{ first: number; rows: Tensor }> {
    const [tableRows, cols] = this.shape;
    const block = Math.max(1, Math.floor(BLOCK / cols));
    for (let first = from; first < to; first += block) {
      const count = Math.min(block, to - first);
      const rows = empty([count, cols], "f32", "unpack");
      this.unpack(rows, {}, [], [tableRows, first]);
      yield { first, rows };
    }
  }

  /** Rows ids[0], ids[1], ... as f32, [N, cols]. Not recorded: the weight is frozen. */
  gather(ids: Tensor): Tensor {
    const [tableRows, cols] = this.shape;
    const y = empty([ids.size, cols], "f32", "unpack");
    for (const { first, count, rows } of this.blocks()) {
      rows.unpack(y, { LAST: first + count === tableRows }, [ids.view], [count, first]);
    }
    return y;
  }

  /** Writes rows of this weight to y: those with the given ids, or those from `first` on. */
  private unpack(y: Tensor, consts: { LAST?: boolean }, ids: BufferView[], [tableRows, first]: [number, number]): void {
    const [rows, cols] = y.shape;
    const { WG, LANES, width } = walkPlan(cols);
    const scalars = [rows, cols / width, this.stride / width, tableRows, first];
    const kernel = unpackKernel(this.format, width, ids.length > 0);
    run(kernel, { WG, LANES, ...consts }, [...this.buffers, ...ids, y.view], scalars, Math.ceil((rows * LANES) / WG));
  }
}

const kernels = new Map<string, Kernel>();

function unpackKernel(format: QuantizedFormat, width: 1 | 4, gather: boolean): Kernel {
  const name = `${gather ? "gather" : "unpack"}_${format}_${width}`;
  let found = kernels.get(name);
  if (!found) {
    const { bindings, code } = quantizedAccess[format];
    found = kernel({
      name,
      code: code + unpackRowsCode(width, gather),
      bindings: { ...bindings, ...(gather && { ids: "read u32" }), y: `write ${width === 4 ? "vec4<f32>" : "f32"}` },
      scalars: { rows: "u32", n: "u32", stride: "u32", tableRows: "u32", first: "u32" },
    });
    kernels.set(name, found);
  }
  return found;
}
