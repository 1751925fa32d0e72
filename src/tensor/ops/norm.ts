/** RMSNorm and LayerNorm over the last axis. */
import { caps } from "../../gpu/device.ts";
import type { BufferView } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import {
  FOLD_CHUNKS,
  LAYERNORM_DWB,
  LAYERNORM_DX,
  LAYERNORM_FWD,
  RMSNORM_DW,
  RMSNORM_DX,
  RMSNORM_FWD,
} from "../../shaders/norm.wgsl.ts";
import { empty, record, type Sink, scope, type Tensor } from "../core.ts";
import { matrixShape, type RowKernel, type RowPlan, rowKernel, rowPlan, runRows, target, vectorWidth } from "./rows.ts";

/** The kernels of an RMSNorm: forwards, and the gradients of its input and of its weights. */
export const rmsKernels = (name: string, code: { fwd: string; dx: string; dw: string }) => ({
  fwd: rowKernel({
    name: `${name}_fwd`,
    code: code.fwd,
    bindings: { x: "read V", w: "read F", y: "write V", rstd: "write f32" },
    scalars: { rows: "u32", n: "u32", d: "f32", eps: "f32" },
  }),
  dx: rowKernel({
    name: `${name}_dx`,
    code: code.dx,
    bindings: { x: "read V", w: "read F", dy: "read V", rstd: "read f32", dx: "write V" },
    scalars: { rows: "u32", n: "u32", d: "f32" },
  }),
  dw: rowKernel({
    name: `${name}_dw`,
    code: code.dw,
    bindings: { x: "read V", dy: "read V", rstd: "read f32", dw: "write F" },
    scalars: { rows: "u32", n: "u32", chunk: "u32" },
    reduces: false,
  }),
});

const rms = rmsKernels("rmsnorm", { fwd: RMSNORM_FWD, dx: RMSNORM_DX, dw: RMSNORM_DW });
const layerFwd = rowKernel({
  name: "layernorm_fwd",
  code: LAYERNORM_FWD,
  bindings: { x: "read V", w: "read F", b: "read F", y: "write V", stats: "write vec2f" },
  scalars: { rows: "u32", n: "u32", d: "f32", eps: "f32" },
});
const layerDx = rowKernel({
  name: "layernorm_dx",
  code: LAYERNORM_DX,
  bindings: { x: "read V", w: "read F", dy: "read V", stats: "read vec2f", dx: "write V" },
  scalars: { rows: "u32", n: "u32", d: "f32" },
});
const layerDwb = rowKernel({
  name: "layernorm_dwb",
  code: LAYERNORM_DWB,
  bindings: { x: "read V", dy: "read V", stats: "read vec2f", dw: "write F", db: "write F" },
  scalars: { rows: "u32", n: "u32", chunk: "u32" },
  reduces: false,
});
const foldChunks = rowKernel({
  name: "fold_chunks",
  code: FOLD_CHUNKS,
  bindings: { partial: "read F", out: "write F" },
  scalars: { n: "u32", chunks: "u32" },
  reduces: false,
});

/**
 * y = x / sqrt(mean(x^2) + eps) * weight, over the last axis.
 * @param x [..., D]
 * @param weight [D], f32
 * @param offset the weights are stored less 1
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps = 1e-6, { offset: OFFSET = false } = {}): Tensor {
  const [rows, cols] = matrixShape(x.shape);
  checkParam("rmsNorm", "weight", weight, cols);
  const plan = rowPlan(cols);
  const T = x.dtype;
  const n = cols / plan.width;
  const y = empty(x.shape, x.dtype);
  const rstd = empty([rows]);
  runRows(rms.fwd, plan, { T, OFFSET }, [x.view, weight.view, y.view, rstd.view], [rows, n, cols, eps], rows);
  return record(
    "rmsNorm",
    [x, weight],
    y,
    (dy, [sinkX, sinkW]) => {
      const dx = target(sinkX, x.shape, x.dtype);
      if (dx) {
        const buffers = [x.view, weight.view, dy.view, rstd.view, dx.view];
        runRows(rms.dx, plan, { T, OFFSET, ACC: sinkX !== true }, buffers, [rows, n, cols], rows);
      }
      const [dw] = paramGradients(rms.dw, [x.view, dy.view, rstd.view], T, rows, cols, ["ACC"], [sinkW]);
      return [dx, dw];
    },
    [rstd],
  );
}

/**
 * y = (x - mean) / sqrt(var + eps) * weight + bias, over the last axis (biased variance).
 * @param x [..., D]
 * @param weight [D], f32
 * @param bias [D], f32
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps = 1e-5): Tensor {
  const [rows, cols] = matrixShape(x.shape);
  checkParam("layerNorm", "weight", weight, cols);
  checkParam("layerNorm", "bias", bias, cols);
  const plan = rowPlan(cols);
  const T = x.dtype;
  const n = cols / plan.width;
  const y = empty(x.shape, x.dtype);
  const stats = empty([rows, 2]);
  const buffers = [x.view, weight.view, bias.view, y.view, stats.view];
  runRows(layerFwd, plan, { T }, buffers, [rows, n, cols, eps], rows);
  return record(
    "layerNorm",
    [x, weight, bias],
    y,
    (dy, [sinkX, sinkW, sinkB]) => {
      const dx = target(sinkX, x.shape, x.dtype);
      if (dx) {
        const buffers = [x.view, weight.view, dy.view, stats.view, dx.view];
        runRows(layerDx, plan, { T, ACC: sinkX !== true }, buffers, [rows, n, cols], rows);
      }
      const sinks = [sinkW, sinkB];
      const [dw, db] = paramGradients(
        layerDwb,
        [x.view, dy.view, stats.view],
        T,
        rows,
        cols,
        ["ACC_W", "ACC_B"],
        sinks,
      );
      return [dx, dw, db];
    },
    [stats],
  );
}

/**
 * Column sums over rows, in a fixed order: chunks of rows in parallel, then the chunks one after the other. With one
 * chunk the first kernel writes straight to the sinks.
 */
export function paramGradients(
  k: RowKernel,
  reads: BufferView[],
  T: string,
  rows: number,
  cols: number,
  flags: string[],
  sinks: Sink[],
  more: Record<string, number> = {},
): (Tensor | null)[] {
  if (sinks.every((s) => s === false)) return sinks.map(() => null);
  const cpu = caps().kind === "cpu";
  const width = vectorWidth(cols);
  const n = cols / width;
  // A CPU adapter has few cores to feed and pays per load; a GPU wants thousands of invocations.
  const chunks = Math.max(1, Math.min(cpu ? 8 : 128, Math.ceil(rows / (cpu ? 256 : 32))));
  const chunk = Math.ceil(rows / chunks);
  const WG = cpu ? 16 : 64;
  const groups = Math.ceil(n / WG);
  const plan: RowPlan = { variant: "serial", width, WG, LANES: 1 };
  const outputs = sinks.map((s) => target(s, [cols]));
  scope(() => {
    const direct = chunks === 1;
    const targets = outputs.map((out) => (direct && out ? out : empty([chunks, cols])));
    const consts: Record<string, number | boolean | string> = { T, WG, ...more };
    flags.forEach((flag, i) => {
      consts[flag] = direct && sinks[i] !== true && sinks[i] !== false;
    });
    run(k(plan), consts, [...reads, ...targets.map((t) => t.view)], [rows, n, chunk], groups, chunks);
    if (direct) return;
    outputs.forEach((out, i) => {
      if (out) run(foldChunks(plan), { WG, ACC: sinks[i] !== true }, [targets[i].view, out.view], [n, chunks], groups);
    });
  });
  return outputs;
}

function checkParam(op: string, name: string, t: Tensor, cols: number): void {
  if (t.size !== cols || t.dtype !== "f32") {
    throw new Error(`${op}: ${name} must be f32 [${cols}], not ${t.dtype} [${t.shape}]`);
  }
}
