/**
 * Low-rank adapters of linear layers (Hu et al. 2021): y = x W^T + s (drop(x) A^T) B^T, where each B may act on some of the
 * output columns only, because projections that read the same input are one matrix here. The update of the weight is never
 * formed: the extra work and memory are those of [N, rank] matrices. How the weight itself is stored is of no concern here.
 */
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { DROPOUT, loraUp } from "../../shaders/lora.wgsl.ts";
import { empty, record, type Sink, type Tensor, willRecord } from "../core.ts";
import { mayBeLate } from "../late-sums.ts";
import { WG } from "../raw.ts";
import { gemm, type Strided } from "./gemm.ts";
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
 * @param y [N, out], which nobody else reads; f32 or f16, as each of the others
 * @param x [N, in], the layer's input; x A^T has its type
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

  // Few rows are bound by dispatches, and no copy of x A^T is wanted there that carries the scales.
  const few = rows <= FEW_ROWS && parts.length <= MOST_PARTS;
  const visible = seen();
  const low = few
    ? gemm(visible, a, "NT", [rows, rank, inSize], { type: x.dtype })
    : scaledLow(visible, a, parts, rows);
  if (visible !== x) visible.free("lora");
  if (few) addParts(y, low, parts, rows);
  else for (const part of parts) addPart(y, low, part, rows);

  const inputs = [y, x, a, ...parts.map((p) => p.b)];
  if (!willRecord(inputs)) return y;
  return record(
    "lora",
    inputs,
    y.alias(y.shape, "lora"),
    (dy, [, sx, sa, ...sbs]) => {
      const scaled = few ? scaledLow(seen(), a, parts, rows) : low;
      const dLow = empty([rows, rank], x.dtype, "lora_grad");
      const db = parts.map((part, i) => {
        const [columns, r] = part.b.shape;
        const dPart = { of: dy, stride: outSize, first: part.first };
        const own = into(sbs[i], part.b, (o) => gemm(dPart, lowPart(scaled, part, rank), "TN", [columns, r, rows], o));
        gemm(dPart, part.b, "NN", [rows, r, columns], { out: lowPart(dLow, part, rank), scale: part.scale });
        return own;
      });
      const da = into(sa, a, (o) => gemm(dLow, seen(), "TN", [rank, inSize, rows], o));
      const dx = into(sx, x, (o) => {
        if (!drop) return gemm(dLow, a, "NN", [rows, inSize, rank], o);
        return applyDropout(gemm(dLow, a, "NN", [rows, inSize, rank], { shape: x.shape, type: x.dtype }), drop, o.out);
      });
      return [dy, dx, da, ...db];
    },
    few ? [] : [low],
  );
}

/** x A^T, each part's columns times its scale; parts of one scale, which all of them mostly are, are one product. */
function scaledLow(x: Tensor, a: Tensor, parts: readonly LoraPart[], rows: number): Tensor {
  const [rank, inSize] = a.shape;
  const low = empty([rows, rank], x.dtype, "lora");
  const inOrder = [...parts].sort((one, other) => one.rankOffset - other.rankOffset);
  for (let i = 0; i < inOrder.length; ) {
    const { rankOffset: first, scale } = inOrder[i];
    let end = first;
    for (; inOrder[i]?.scale === scale; i++) end = inOrder[i].rankOffset + inOrder[i].b.shape[1];
    const own = { of: a, stride: inSize, first: first * inSize };
    const out = { of: low, stride: rank, first };
    gemm(x, own, "NT", [rows, end - first, inSize], { out, scale });
  }
  return low;
}

/** y's columns of one part += its B times its columns of x A^T. */
function addPart(y: Tensor, low: Tensor, part: LoraPart, rows: number): void {
  const [columns, r] = part.b.shape;
  const out = { of: y, stride: y.size / rows, first: part.first };
  gemm(lowPart(low, part, low.size / rows), part.b, "NT", [rows, columns, r], { out, accumulate: true });
}

/** A part's columns of a matrix of `rank` columns. */
const lowPart = (low: Tensor, { rankOffset }: LoraPart, rank: number): Strided => ({
  of: low,
  stride: rank,
  first: rankOffset,
});

/** Up to so many rows (decoding), three dispatches per part cost more than a plain kernel for all parts loses. */
const FEW_ROWS = 32;
/** With y and x A^T these are as many bindings as every adapter has. */
const MOST_PARTS = 6;

const upKernels = new Map<number, Kernel>();

/** The same for all parts in one dispatch. */
function addParts(y: Tensor, low: Tensor, parts: readonly LoraPart[], rows: number): void {
  let up = upKernels.get(parts.length);
  if (!up) {
    const bs = Object.fromEntries(parts.map((_, p) => [`b${p}`, "read TB"]));
    const bindings = { low: "read T", ...bs, y: "write OUT" };
    up = kernel({ name: `lora_up_${parts.length}`, code: loraUp(parts.length), bindings, scalars: { n: "u32" } });
    upKernels.set(parts.length, up);
  }
  const types = { T: low.dtype, TB: parts[0].b.dtype, OUT: y.dtype };
  const consts: Record<string, number | string> = { ...types, WG, LOW: low.size / rows, WIDTH: y.size / rows };
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
  const own = { of: a, stride: width, first: rankOffset * width }; // its rows of A
  for (const block of rowBlocks(weight)) {
    const from = Math.max(first, block.first);
    const count = Math.min(first + columns, block.first + block.count) - from;
    if (count <= 0) continue;
    const rowsOfB = { of: b, stride: r, first: (from - first) * r };
    const out = { of: block.view, stride: width, first: (from - block.first) * width };
    gemm(rowsOfB, own, "NN", [count, width, r], { out, scale: sign * scale, accumulate: true });
  }
}

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
  compute: (o: {
    out?: Tensor;
    accumulate?: boolean;
    late?: boolean;
    shape?: readonly number[];
    type?: Tensor["dtype"];
  }) => Tensor,
): Tensor | null {
  if (sink === false) return null;
  if (sink === true) return compute({ shape: like.shape, type: like.dtype });
  compute({ out: sink, accumulate: true, late: mayBeLate(like, sink) });
  return sink;
}
