/**
 * DoRA (Liu et al. 2024, arXiv 2402.09353): the rows of an adapted weight W + s B A have lengths of their own, which are trained: row i
 * is m_i (W + s B A)_i / |(W + s B A)_i|. The length in the denominator counts as a constant, as in the paper's section 4.3.
 */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { UserError } from "../../runtime/errors.ts";
import { DORA_NORMS, DORA_SCALE } from "../../shaders/dora.wgsl.ts";
import { empty, noGrad, type Tensor } from "../core.ts";
import type { Weight } from "../quantized.ts";
import { full } from "../tensor.ts";
import { div } from "./elementwise.ts";
import { addLowRank, type LoraPart } from "./lora.ts";
import { isLarge } from "./row-blocks.ts";
import { rowKernel, rowPlan, runRows } from "./rows.ts";
import { concat } from "./shape.ts";

const norms = rowKernel({
  name: "dora_norms",
  code: DORA_NORMS,
  bindings: { w: "read F", a: "read F", b: "read f32", norms: "write f32" },
  scalars: { rows: "u32", n: "u32", first: "u32", low: "u32", scale: "f32" },
});
const scaleRows = kernel({
  name: "dora_scale",
  code: DORA_SCALE,
  bindings: { w: "write f32", factors: "read f32" },
  scalars: { rows: "u32", n: "u32", first: "u32" },
});

const WG = 64;

/** An adapter's part with the lengths of its rows, [columns]. */
export interface DoraPart extends LoraPart {
  magnitude: Tensor;
}

/** The weight as DoRA takes it. Throws `UserError` where it is quantized, or larger than a binding. */
export function doraWeight(weight: Weight): Tensor {
  if ("format" in weight) {
    throw new UserError(
      `use_dora needs a base in float32, whose rows it measures, and this one is kept as ${weight.format}`,
    );
  }
  if (isLarge(weight)) throw new UserError("use_dora: a weight of the base is larger than one binding of this adapter");
  return weight;
}

/** The length of each row of a part of the adapted weight, [columns]; a constant. */
export function rowLengths(weight: Tensor, a: Tensor, { b, rankOffset, first, scale }: LoraPart): Tensor {
  const [rows, RANK] = b.shape;
  const plan = rowPlan(weight.shape[1]);
  const out = empty([rows], "f32", "dora");
  const scalars = [rows, weight.shape[1] / plan.width, first, rankOffset, scale];
  runRows(norms, plan, { RANK }, [weight.view, a.view, b.view, out.view], scalars, rows);
  return out;
}

/** What each output column of the layer is multiplied by, [out]: magnitude / length where a part is, else 1. */
export function doraFactors(weight: Tensor, a: Tensor, parts: readonly DoraPart[]): Tensor {
  const out = weight.shape[0];
  const pieces: Tensor[] = [];
  let at = 0;
  const plain = (to: number) => {
    if (to > at) pieces.push(full([to - at], 1));
  };
  for (const part of [...parts].sort((one, other) => one.first - other.first)) {
    plain(part.first);
    pieces.push(
      div(
        part.magnitude,
        noGrad(() => rowLengths(weight, a, part)),
      ),
    );
    at = part.first + part.b.shape[0];
  }
  plain(out);
  return pieces.length === 1 ? pieces[0] : concat(pieces);
}

/** Puts a part into the weight, in place. Not recorded. */
export function mergeDora(weight: Tensor, a: Tensor, part: DoraPart): void {
  const factors = noGrad(() => div(part.magnitude, rowLengths(weight, a, part)));
  addLowRank(weight, a, part);
  const [rows, n] = [part.b.shape[0], weight.shape[1]];
  run(scaleRows, { WG }, [weight.view, factors.view], [rows, n, part.first], Math.ceil((rows * n) / WG));
}
