/**
 * Low-rank adapters of linear layers (Hu et al. 2021): y = x W^T + s (drop(x) A^T) B^T, where each B may act on some of the
 * output columns only, because projections that read the same input are one matrix here. The update of the weight is never
 * formed: the extra work and memory are those of [N, rank] matrices, plus one [N, columns] product for a B that does not
 * span the output. How the weight itself is stored is of no concern here.
 */
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import type { BufferView } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import { COLUMNS, DROPOUT, loraUp } from "../../shaders/lora.wgsl.ts";
import { type DType, empty, record, type Sink, scope, type Tensor, willRecord } from "../core.ts";
import { PER, WG } from "../raw.ts";
import { gemm } from "./gemm.ts";
import { rowBlocks } from "./row-blocks.ts";

/** One adapter's update of some output columns. */
export interface LoraPart {
  /** [columns, rank]. */
  b: Tensor;
  /** First row of the layer's A that belongs to this part; it has as many as B has columns. */
  rankOffset: number;
  /** First output column. */
  first: number;
  /** alpha / rank, or alpha / sqrt(rank). */
  scale: number;
}

/** Identity of a dropout mask: one key gives one mask, in the backward pass and in every runtime. */
export interface DropoutKey {
  seed: number;
  /** Optimizer step, micro-batch of the step, and layer: u32 each. */
  step: number;
  pass: number;
  layer: number;
  /** Part of the elements that is dropped, in [0, 1). */
  rate: number;
}

/**
 * Adds the adapters' part to the output of a linear layer, in place; returns it.
 * @param y [N, out], which nobody else reads
 * @param x [N, in], the layer's input; f32 or f16, as everything else then
 * @param a [R, in]: the A matrices of all parts, one below the other
 * @param parts disjoint ranges of rows of `a` and of output columns
 * @param dropout on what the adapters see of x; the parts share one mask
 */
export function addLora(
  y: Tensor,
  x: Tensor,
  a: Tensor,
  parts: readonly LoraPart[],
  dropout: DropoutKey | null = null,
): Tensor {
  const [rank, inSize] = a.shape;
  const outSize = y.shape[y.shape.length - 1];
  const rows = x.size / inSize;
  if (x.shape[x.shape.length - 1] !== inSize || y.size !== rows * outSize) {
    throw new Error(`lora: rows of [${x.shape}] and [${y.shape}] do not fit A [${a.shape}] = [rank, in]`);
  }
  for (const { b, rankOffset, first } of parts) {
    if (rankOffset + b.shape[1] <= rank && first + b.shape[0] <= outSize) continue;
    throw new Error(
      `lora: B [${b.shape}] at rank ${rankOffset}, column ${first} passes A [${a.shape}] or y [${outSize}]`,
    );
  }
  const drop = dropout && dropout.rate > 0 ? dropout : null;
  const seen = () => (drop ? applyDropout(x, drop) : x);

  const visible = seen();
  const low = gemm(visible, a, "NT", [rows, rank, inSize]);
  if (visible !== x) visible.free("lora");
  if (rows <= FEW_ROWS && parts.length <= MOST_PARTS) addParts(y, low, parts, rows);
  else for (const part of parts) addPart(y, low, part, rows);

  const inputs = [y, x, a, ...parts.map((p) => p.b)];
  if (!willRecord(inputs)) return y;
  return record(
    "lora",
    inputs,
    y.alias(y.shape, "lora"),
    (dy, [, sx, sa, ...sbs]) => {
      const dLow = empty([rows, rank], y.dtype, "lora_grad");
      const db = parts.map((part, i) => {
        const [columns, r] = part.b.shape;
        const dPart = columns === outSize ? dy : takeColumns(dy, rows, part.first, columns, 1);
        const own = into(sbs[i], part.b, (o) => gemm(dPart, lowPart(low, part, rows), "TN", [columns, r, rows], o));
        const back = gemm(dPart, part.b, "NN", [rows, r, columns]);
        putColumns(dLow.view, back, rows, [rank, part.rankOffset], part.scale, false);
        return own;
      });
      const da = into(sa, a, (o) => gemm(dLow, seen(), "TN", [rank, inSize, rows], o));
      const dx = into(sx, x, (o) => {
        if (!drop) return gemm(dLow, a, "NN", [rows, inSize, rank], o);
        return applyDropout(gemm(dLow, a, "NN", [rows, inSize, rank], { shape: x.shape }), drop, o.out);
      });
      return [dy, dx, da, ...db];
    },
    [low],
  );
}

/** y's columns of one part += its B times its columns of x A^T, by matrix products. */
function addPart(y: Tensor, low: Tensor, part: LoraPart, rows: number): void {
  const scaled = lowPart(low, part, rows);
  const [columns, rank] = part.b.shape;
  const width = y.size / rows;
  const whole = columns === width;
  const delta = gemm(scaled, part.b, "NT", [rows, columns, rank], whole ? { out: y, accumulate: true } : {});
  if (!whole) {
    putColumns(y.view, delta, rows, [width, part.first], 1, true);
    delta.free("lora");
  }
  scaled.free("lora");
}

/** Up to so many rows (decoding), three dispatches per part cost more than a plain kernel for all parts loses. */
const FEW_ROWS = 32;
/** With y and x A^T these are as many bindings as every adapter has. */
const MOST_PARTS = 6;

const upKernels = new Map<number, Kernel>();

/** The same for all parts in one dispatch. */
function addParts(y: Tensor, low: Tensor, parts: readonly LoraPart[], rows: number): void {
  let up = upKernels.get(parts.length);
  if (!up) {
    const bs = Object.fromEntries(parts.map((_, p) => [`b${p}`, "read T"]));
    const bindings = { low: "read T", ...bs, y: "write T" };
    up = kernel({ name: `lora_up_${parts.length}`, code: loraUp(parts.length), bindings, scalars: { n: "u32" } });
    upKernels.set(parts.length, up);
  }
  const consts: Record<string, number | string> = { T: y.dtype, WG, LOW: low.size / rows, WIDTH: y.size / rows };
  let total = 0;
  for (const [p, { b, rankOffset, first, scale }] of parts.entries()) {
    Object.assign(consts, { [`COLS${p}`]: b.shape[0], [`RANK${p}`]: b.shape[1], [`OFFSET${p}`]: rankOffset });
    Object.assign(consts, { [`FIRST${p}`]: first, [`SCALE${p}`]: scale });
    total += b.shape[0];
  }
  const n = rows * total;
  const views = [low.view, ...parts.map(({ b }) => b.view), y.view];
  run(up, { ...consts, TOTAL: total }, views, [n], Math.ceil(n / WG));
}

/** weight rows [first, first + rows of b) += sign * scale * B A, in place. */
export function addLowRank(weight: Tensor, a: Tensor, { b, rankOffset, first, scale }: LoraPart, sign = 1): void {
  const [columns, r] = b.shape;
  const width = weight.shape[1];
  scope(() => {
    const own = takeColumns(a, 1, rankOffset * width, r * width, 1); // its rows of A
    for (const block of rowBlocks(weight)) {
      const from = Math.max(first, block.first);
      const count = Math.min(first + columns, block.first + block.count) - from;
      if (count <= 0) continue;
      const rowsOfB = count === columns ? b : takeColumns(b, 1, (from - first) * r, count * r, 1);
      const delta = gemm(rowsOfB, own, "NN", [count, width, r]);
      putColumns(block.view, delta, 1, [block.count * width, (from - block.first) * width], sign * scale, true);
    }
  });
}

const columnsKernel = kernel({
  name: "lora_columns",
  code: COLUMNS,
  bindings: { x: "read S", y: "write S" },
  scalars: { n: "u32", width: "u32", columns: "u32", first: "u32", factor: "f32" },
});

function copyColumns(
  from: BufferView,
  to: BufferView,
  rows: number,
  [width, columns, first]: [number, number, number],
  factor: number,
  { type, ...consts }: { type: DType; INTO: boolean; ACC: boolean },
): void {
  const step = width % 4 === 0 && columns % 4 === 0 && first % 4 === 0 ? 4 : 1;
  const n = (rows * columns) / step;
  const [S, V] = step === 4 ? [`vec4<${type}>`, "vec4<f32>"] : [type, "f32"];
  const scalars = [n, width / step, columns / step, first / step, factor];
  run(columnsKernel, { S, V, WG, PER, ...consts }, [from, to], scalars, Math.ceil(n / (WG * PER)));
}

/** factor * columns [first, first + columns) of a matrix of `rows` rows, as a matrix of their own. */
function takeColumns(x: Tensor, rows: number, first: number, columns: number, factor: number): Tensor {
  const out = empty([rows, columns], x.dtype, "lora");
  const consts = { type: x.dtype, INTO: false, ACC: false };
  copyColumns(x.view, out.view, rows, [x.size / rows, columns, first], factor, consts);
  return out;
}

/** Writes factor * x into columns of a matrix of rows of `width`, from `first` on, or adds it to them. */
function putColumns(
  to: BufferView,
  x: Tensor,
  rows: number,
  [width, first]: [number, number],
  factor: number,
  add: boolean,
): void {
  copyColumns(x.view, to, rows, [width, x.size / rows, first], factor, { type: x.dtype, INTO: true, ACC: add });
}

/** A part's columns of x A^T, scaled. */
const lowPart = (low: Tensor, { rankOffset, b, scale }: LoraPart, rows: number): Tensor =>
  takeColumns(low, rows, rankOffset, b.shape[1], scale);

const dropoutKernel = kernel({
  name: "dropout",
  code: DROPOUT,
  bindings: { x: "read T", y: "write T" },
  scalars: {
    n: "u32",
    seed0: "u32",
    seed1: "u32",
    layer: "u32",
    step: "u32",
    pass_: "u32",
    least: "u32",
    factor: "f32",
  },
});

/** x with elements dropped and the rest scaled up, as a new tensor or added into `into`. Not recorded. */
export function applyDropout(x: Tensor, { seed, step, pass, layer, rate }: DropoutKey, into?: Tensor): Tensor {
  const y = into ?? empty(x.shape, x.dtype, "dropout");
  const least = Math.min(2 ** 32 - 1, Math.round(rate * 2 ** 32));
  const scalars = [x.size, seed >>> 0, Math.floor(seed / 2 ** 32), layer, step, pass, least, 1 / (1 - rate)];
  run(
    dropoutKernel,
    { T: x.dtype, WG, ACC: into !== undefined },
    [x.view, y.view],
    scalars,
    Math.ceil(x.size / 4 / WG),
  );
  return y;
}

/** A gradient written where the sink says. */
function into(
  sink: Sink,
  like: Tensor,
  compute: (o: { out?: Tensor; accumulate?: boolean; shape?: readonly number[] }) => Tensor,
): Tensor | null {
  if (sink === false) return null;
  if (sink === true) return compute({ shape: like.shape });
  compute({ out: sink, accumulate: true });
  return sink;
}
