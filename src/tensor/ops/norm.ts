/** RMSNorm and LayerNorm over the last axis. */
import { caps } from "../../gpu/device.ts";
import type { Consts } from "../../gpu/kernel.ts";
import { acquire, type BufferView } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import {
  FOLD_CHUNKS,
  LAYERNORM_DWB,
  LAYERNORM_DX,
  LAYERNORM_FWD,
  LAYERNORM_GRADIENTS,
  RMSNORM_DW,
  RMSNORM_DX,
  RMSNORM_FWD,
  RMSNORM_GRADIENTS,
} from "../../shaders/norm.wgsl.ts";
import { rmsNormOfParts } from "../../shaders/unsummed.wgsl.ts";
import { empty, record, type Sink, scope, type Tensor } from "../core.ts";
import { mayBeLate, sumLater } from "../late-sums.ts";
import { vec4Of } from "../raw.ts";
import {
  gpuRows,
  matrixShape,
  type RowKernel,
  type RowPlan,
  rowKernel,
  rowPlan,
  runRows,
  target,
  vectorWidth,
  widePlan,
} from "./rows.ts";
import { type Unsummed, unsummed } from "./unsummed.ts";

/** Types of a norm's input and output, and the output's vector; whatever they are, statistics and sums are f32. */
export interface NormTypes {
  readonly [name: string]: string;
  T: string;
  Y: string;
  VY: string;
}

/** The types for the kernels of a plan. */
export const normTypes = (T: string, Y: string, { width }: Pick<RowPlan, "width">): NormTypes => {
  return { T, Y, VY: width === 4 ? vec4Of(Y) : Y };
};

/** The kernels of an RMSNorm: forwards, and the gradients of its input and of its weights. */
export const rmsKernels = (name: string, code: { fwd: string; dx: string; dw: string }) => ({
  fwd: rowKernel({
    name: `${name}_fwd`,
    code: code.fwd,
    bindings: { x: "read V", w: "read F", y: "write VY", rstd: "write f32" },
    scalars: { rows: "u32", n: "u32", d: "f32", eps: "f32" },
  }),
  dx: rowKernel({
    name: `${name}_dx`,
    code: code.dx,
    bindings: { x: "read V", w: "read F", dy: "read VY", rstd: "read f32", dx: "write V" },
    scalars: { rows: "u32", n: "u32", d: "f32" },
  }),
  dw: rowKernel({
    name: `${name}_dw`,
    code: code.dw,
    bindings: { x: "read V", dy: "read VY", rstd: "read f32", dw: "write F" },
    scalars: { rows: "u32", n: "u32", chunk: "u32" },
    reduces: false,
  }),
});

const rms = rmsKernels("rmsnorm", { fwd: RMSNORM_FWD, dx: RMSNORM_DX, dw: RMSNORM_DW });
const bothScalars = { rows: "u32", n: "u32", d: "f32", chunk: "u32", chunks: "u32", groups: "u32" } as const;
const rmsGradients = rowKernel({
  name: "rmsnorm_gradients",
  code: RMSNORM_GRADIENTS,
  bindings: { x: "read V", w: "read F", dy: "read VY", rstd: "read f32", dx: "write V", dw: "write F" },
  scalars: bothScalars,
});
const layerFwd = rowKernel({
  name: "layernorm_fwd",
  code: LAYERNORM_FWD,
  bindings: { x: "read V", w: "read F", b: "read F", y: "write VY", stats: "write vec2f" },
  scalars: { rows: "u32", n: "u32", d: "f32", eps: "f32" },
});
const layerDx = rowKernel({
  name: "layernorm_dx",
  code: LAYERNORM_DX,
  bindings: { x: "read V", w: "read F", dy: "read VY", stats: "read vec2f", dx: "write V" },
  scalars: { rows: "u32", n: "u32", d: "f32" },
});
const layerDwb = rowKernel({
  name: "layernorm_dwb",
  code: LAYERNORM_DWB,
  bindings: { x: "read V", dy: "read VY", stats: "read vec2f", dw: "write F", db: "write F" },
  scalars: { rows: "u32", n: "u32", chunk: "u32" },
  reduces: false,
});
const layerGradients = rowKernel({
  name: "layernorm_gradients",
  code: LAYERNORM_GRADIENTS,
  bindings: {
    x: "read V",
    w: "read F",
    dy: "read VY",
    stats: "read vec2f",
    dx: "write V",
    dw: "write F",
    db: "write F",
  },
  scalars: bothScalars,
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
 * @param type of y; default x's
 */
export function rmsNorm(
  x: Tensor,
  weight: Tensor,
  eps = 1e-6,
  { offset: OFFSET = false, type = x.dtype }: { offset?: boolean; type?: Tensor["dtype"] } = {},
): Tensor {
  const [rows, cols] = matrixShape(x.shape);
  checkParam("rmsNorm", "weight", weight, cols);
  const plan = rowPlan(cols);
  const types = normTypes(x.dtype, type, plan);
  const n = cols / plan.width;
  const y = empty(x.shape, type);
  const parts = unsummed(x, [x, weight]);
  if (parts && x.dtype === "f32") {
    sumAndNorm(x, parts, weight, y, eps, OFFSET);
    return y;
  }
  const rstd = empty([rows]);
  const { T, Y, VY } = types;
  const { WG, LANES } = plan;
  const groups = Math.ceil((rows * LANES) / WG);
  const written = [x.view, weight.view, y.view, rstd.view];
  run(rms.fwd(plan), { T, Y, VY, OFFSET, WG, LANES }, written, [rows, n, cols, eps], groups);
  return record(
    "rmsNorm",
    [x, weight],
    y,
    (dy, [sinkX, sinkW]) => {
      const dx = target(sinkX, x.shape, x.dtype);
      const buffers = [x.view, weight.view, dy.view, rstd.view];
      if (dx) buffers.push(dx.view);
      const ACC = sinkX !== true;
      if (dx && sinkW && gpuRows()) {
        const constsOf = ([ACC_W]: boolean[]) => ({ T, Y, VY, OFFSET, WG, LANES, ACC, ACC_W });
        return [dx, ...gradientsTogether(rmsGradients, plan, constsOf, buffers, rows, cols, [sinkW], [weight])];
      }
      if (dx) run(rms.dx(plan), { T, Y, VY, OFFSET, WG, LANES, ACC }, buffers, [rows, n, cols], groups);
      return [dx, ...paramGradients(rms.dw, [x.view, dy.view, rstd.view], types, rows, cols, ["ACC_W"], [sinkW])];
    },
    [rstd],
  );
}

const ofParts = new Map<string, RowKernel>();

/** Adds up x and norms it in one dispatch. */
function sumAndNorm(x: Tensor, parts: Unsummed, weight: Tensor, y: Tensor, eps: number, OFFSET: boolean): void {
  const { name, adds, splits, views } = parts;
  const k =
    ofParts.get(name) ??
    rowKernel({
      name: `rmsnorm_of_${name}`,
      code: rmsNormOfParts(adds),
      bindings: { ...parts.bindings, w: "read F", x: "write F", y: "write VY" },
      scalars: { rows: "u32", n: "u32", d: "f32", eps: "f32", splits: "u32", size: "u32" },
    });
  ofParts.set(name, k);
  const [rows, cols] = matrixShape(x.shape);
  const plan = widePlan(cols);
  x.late = null;
  const scalars = [rows, cols / plan.width, cols, eps, splits, x.size / plan.width];
  runRows(
    k,
    plan,
    { ...normTypes("f32", y.dtype, plan), OFFSET },
    [...views, weight.view, x.view, y.view],
    scalars,
    rows,
  );
  parts.drop();
}

/**
 * y = (x - mean) / sqrt(var + eps) * weight + bias, over the last axis (biased variance).
 * @param x [..., D]
 * @param weight [D], f32
 * @param bias [D], f32
 * @param type of y; default x's
 */
export function layerNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  eps = 1e-5,
  { type = x.dtype }: { type?: Tensor["dtype"] } = {},
): Tensor {
  const [rows, cols] = matrixShape(x.shape);
  checkParam("layerNorm", "weight", weight, cols);
  checkParam("layerNorm", "bias", bias, cols);
  const plan = rowPlan(cols);
  const types = normTypes(x.dtype, type, plan);
  const n = cols / plan.width;
  const y = empty(x.shape, type);
  const stats = empty([rows, 2]);
  const { T, Y, VY } = types;
  const { WG, LANES } = plan;
  const groups = Math.ceil((rows * LANES) / WG);
  const written = [x.view, weight.view, bias.view, y.view, stats.view];
  run(layerFwd(plan), { T, Y, VY, WG, LANES }, written, [rows, n, cols, eps], groups);
  return record(
    "layerNorm",
    [x, weight, bias],
    y,
    (dy, [sinkX, sinkW, sinkB]) => {
      const dx = target(sinkX, x.shape, x.dtype);
      const buffers = [x.view, weight.view, dy.view, stats.view];
      if (dx) buffers.push(dx.view);
      const ACC = sinkX !== true;
      const sinks = [sinkW, sinkB];
      if (dx && (sinkW || sinkB) && gpuRows()) {
        const constsOf = ([ACC_W, ACC_B]: boolean[]) => ({ T, Y, VY, WG, LANES, ACC, ACC_W, ACC_B });
        return [dx, ...gradientsTogether(layerGradients, plan, constsOf, buffers, rows, cols, sinks, [weight, bias])];
      }
      if (dx) run(layerDx(plan), { T, Y, VY, WG, LANES, ACC }, buffers, [rows, n, cols], groups);
      const flags = ["ACC_W", "ACC_B"];
      return [dx, ...paramGradients(layerDwb, [x.view, dy.view, stats.view], types, rows, cols, flags, sinks)];
    },
    [stats],
  );
}

/** What the kernel of one chunked sum is given. */
interface Chunked {
  targets: readonly BufferView[];
  /** Which targets are sinks that are added to. */
  accumulate: boolean[];
  /** Rows of a chunk, and how many chunks there are. */
  chunk: number;
  chunks: number;
}

/**
 * Column sums over rows, in a fixed order: chunks of rows in parallel, then the chunks one after the other. With one
 * chunk the first kernel writes straight to the sinks.
 */
function chunked(
  rows: number,
  cols: number,
  sinks: readonly Sink[],
  launch: (sums: Chunked) => void,
  params: readonly Tensor[] = [],
): (Tensor | null)[] {
  const cpu = caps().kind === "cpu";
  // A CPU adapter has few cores to feed and pays per load; a GPU wants thousands of invocations.
  const chunks = Math.max(1, Math.min(cpu ? 8 : 128, Math.ceil(rows / (cpu ? 256 : 32))));
  const outputs = sinks.map((s) => target(s, [cols]));
  scope(() => {
    const direct = chunks === 1;
    const late = sinks.map((sink, i) => !direct && params[i] !== undefined && mayBeLate(params[i], sink));
    const targets = outputs.map((out, i) => {
      if (direct && out) return out.view;
      return late[i] ? acquire(4 * chunks * cols, "norm") : empty([chunks, cols]).view;
    });
    const accumulate = sinks.map((sink) => direct && sink !== true && sink !== false);
    launch({ targets, accumulate, chunk: Math.ceil(rows / chunks), chunks });
    if (direct) return;
    const { plan, n, groups } = columnPlan(cols);
    outputs.forEach((out, i) => {
      const consts = { WG: plan.WG, ACC: sinks[i] !== true };
      if (!out) return;
      if (late[i]) sumLater({ parts: targets[i], count: chunks, size: cols, into: out.view });
      else run(foldChunks(plan), consts, [targets[i], out.view], [n, chunks], groups);
    });
  });
  return outputs;
}

/** A kernel whose invocations own columns. */
function columnPlan(cols: number): { plan: RowPlan; n: number; groups: number } {
  const width = vectorWidth(cols);
  const n = cols / width;
  const WG = caps().kind === "cpu" ? 16 : 64;
  return { plan: { variant: "serial", width, WG, LANES: 1 }, n, groups: Math.ceil(n / WG) };
}

/** The gradients of a norm's parameters. */
export function paramGradients(
  k: RowKernel,
  reads: BufferView[],
  types: NormTypes,
  rows: number,
  cols: number,
  flags: string[],
  sinks: Sink[],
  more: Record<string, number> = {},
): (Tensor | null)[] {
  if (sinks.every((s) => s === false)) return sinks.map(() => null);
  const { plan, n, groups } = columnPlan(cols);
  const typed = normTypes(types.T, types.Y, plan);
  return chunked(rows, cols, sinks, ({ targets, accumulate, chunk, chunks }) => {
    const consts: Consts = { ...typed, WG: plan.WG, ...more };
    flags.forEach((flag, i) => {
      consts[flag] = accumulate[i];
    });
    run(k(plan), consts, [...reads, ...targets], [rows, n, chunk], groups, chunks);
  });
}

/** The gradients of a norm's input and parameters in one dispatch, which on a GPU is worth as much as a small kernel. */
function gradientsTogether(
  k: RowKernel,
  plan: RowPlan,
  constsOf: (accumulate: boolean[]) => Consts,
  buffers: BufferView[],
  rows: number,
  cols: number,
  sinks: Sink[],
  params: Tensor[],
): (Tensor | null)[] {
  const { width, WG, LANES } = plan;
  const n = cols / width;
  const groups = Math.ceil((rows * LANES) / WG);
  const launch = ({ targets, accumulate, chunk, chunks }: Chunked) => {
    const scalars = [rows, n, cols, chunk, chunks, groups];
    const all = groups + chunks * Math.ceil(n / WG);
    run(k(plan), constsOf(accumulate), [...buffers, ...targets], scalars, all);
  };
  return chunked(rows, cols, sinks, launch, params);
}

function checkParam(op: string, name: string, t: Tensor, cols: number): void {
  if (t.size !== cols || t.dtype !== "f32") {
    throw new Error(`${op}: ${name} must be f32 [${cols}], not ${t.dtype} [${t.shape}]`);
  }
}
