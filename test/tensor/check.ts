/**
 * Holds an op and its gradient against a float64 reference written in the test: outputs directly, gradients against
 * central differences of the reference. Leaves collect into gradients that already hold something, so accumulation is
 * part of what is tested.
 */

import { backward, type DType, scope, type Tensor, tensor } from "webrlhf";
import { f16ToF32, f32ToF16 } from "../../src/runtime/half.ts";
import { empty, record, recordMany } from "../../src/tensor/core.ts";
import { expectClose } from "../helpers.ts";

export interface Input {
  shape: number[];
  data: Float32Array;
  /** Default f32; f16 data are rounded first, so that the reference sees the same numbers. */
  dtype?: DType;
}

/** The nearest f16 values. */
export const halves = (data: Float32Array): Float32Array => data.map((v) => f16ToF32(f32ToF16(v)));

/** Deterministic values in [-scale, scale). */
export function values(size: number, seed: number, scale = 1): Float32Array {
  const out = new Float32Array(size);
  let s = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < size; i++) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    let h = s ^ (s >>> 15);
    h = Math.imul(h, 0x2c1b3c6d) >>> 0;
    h ^= h >>> 12;
    out[i] = ((h >>> 8) / 2 ** 24 - 0.5) * 2 * scale;
  }
  return out;
}

export const input = (shape: number[], seed: number, scale = 1): Input => ({
  shape,
  data: values(
    shape.reduce((a, b) => a * b, 1),
    seed,
    scale,
  ),
});

export interface CheckOptions {
  rtol?: number;
  gradRtol?: number;
  /** Inputs to differentiate (default all). */
  wrt?: number[];
  /** Also run with the inputs as intermediate results, whose gradients are new tensors. */
  inner?: boolean;
}

type Reference = (inputs: Float64Array[]) => Float64Array | Float64Array[];

export async function checkOp(
  op: (inputs: Tensor[]) => Tensor | Tensor[],
  inputs: Input[],
  reference: Reference,
  options: CheckOptions = {},
): Promise<void> {
  const { rtol = 2e-6, gradRtol = 2e-5, wrt = inputs.map((_, i) => i) } = options;
  inputs = inputs.map((x) => (x.dtype === "f16" ? { ...x, data: halves(x.data) } : x));
  const exact = inputs.map(({ data }) => Float64Array.from(data));
  const many = (v: Float64Array | Float64Array[]) => (Array.isArray(v) ? v : [v]);
  const expected = many(reference(exact));
  const dys = expected.map((e, i) => halves(values(e.length, 991 + i)));
  const loss = (args: Float64Array[]) =>
    many(reference(args)).reduce((sum, o, k) => sum + o.reduce((s, v, i) => s + v * dys[k][i], 0), 0);

  for (const inner of options.inner === false ? [false] : [false, true]) {
    const label = inner ? "inner" : "leaf";
    const { outputs, grads, before } = runOnce(op, inputs, dys, wrt, inner);
    for (const [k, out] of outputs.entries()) {
      expectClose(await out.read(), expected[k], rtol, rtol, `${label} output ${k}`);
      out.free("test");
    }
    for (const [k, i] of wrt.entries()) {
      const got = (await grads[k].read()).map((v, j) => v - before[k][j]);
      grads[k].free("test");
      expectClose(got, differences(loss, exact, i), gradRtol, gradRtol, `${label} gradient ${i}`);
    }
  }
}

function runOnce(
  op: (inputs: Tensor[]) => Tensor | Tensor[],
  inputs: Input[],
  dys: Float32Array[],
  wrt: number[],
  inner: boolean,
) {
  const before = wrt.map((i, k) => halves(values(inputs[i].data.length, 77 + k)));
  const result = scope(() => {
    const leaves = inputs.map(({ data, shape, dtype }) => tensor(data, shape, dtype));
    const grads = wrt.map((i, k) => {
      leaves[i].requiresGrad = true;
      leaves[i].grad = tensor(before[k], inputs[i].shape, inputs[i].dtype);
      return leaves[i].grad;
    });
    const args = inner ? leaves.map((t) => record("probe", [t], t.alias(t.shape, "probe"), (dy) => [dy])) : leaves;
    const made = op(args);
    const outputs = Array.isArray(made) ? made : [made];
    const copies = outputs.map((t) => t.alias(t.shape, "copy")); // backward() frees the originals
    const loss = empty([1]);
    recordMany("loss", outputs, [loss], () => outputs.map((t, k) => tensor(dys[k], t.shape, t.dtype)));
    backward(loss);
    return { outputs: copies, grads };
  });
  return { ...result, before };
}

/** d(loss)/d(inputs[which]) by central differences in float64. */
function differences(loss: (args: Float64Array[]) => number, inputs: Float64Array[], which: number): Float64Array {
  const h = 1e-4;
  const args = inputs.map((a) => a.slice());
  return inputs[which].map((v, j) => {
    args[which][j] = v + h;
    const up = loss(args);
    args[which][j] = v - h;
    const down = loss(args);
    args[which][j] = v;
    return (up - down) / (2 * h);
  });
}

/** Applies fn to each row of a [rows, cols] matrix and concatenates the results. */
export function byRow(
  x: Float64Array,
  cols: number,
  fn: (row: Float64Array, r: number) => ArrayLike<number>,
): Float64Array {
  const rows = x.length / cols;
  const parts: number[] = [];
  for (let r = 0; r < rows; r++) {
    const part = fn(x.subarray(r * cols, (r + 1) * cols), r);
    for (let i = 0; i < part.length; i++) parts.push(part[i]);
  }
  return Float64Array.from(parts);
}

/** Sizes that meet vector widths, subgroup sizes and their neighbours. */
export const awkward = [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 32, 33, 36, 63, 64, 65, 100, 128, 132];
