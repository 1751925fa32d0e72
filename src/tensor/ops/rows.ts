/** How row kernels (shaders/rows.wgsl.ts) are laid out on the adapter at hand, and how they are declared and run. */
import { caps } from "../../gpu/device.ts";
import { type Consts, type Kernel, kernel, type ScalarType } from "../../gpu/kernel.ts";
import type { BufferView } from "../../gpu/pool.ts";
import { registerSelfTest } from "../../gpu/self-tests.ts";
import { run } from "../../gpu/stream.ts";
import { sound } from "../../gpu/variants.ts";
import { ROW_SELF_TEST, type RowVariant, rowPrelude, widthPrelude } from "../../shaders/rows.wgsl.ts";
import { empty, type Sink, type Tensor } from "../core.ts";
import { testRows } from "./self-tests.ts";

export interface RowPlan {
  variant: RowVariant;
  /** Elements per load: 4 where every row starts at a multiple of 4 elements. */
  width: 1 | 4;
  /** Invocations per workgroup and per row. */
  WG: number;
  LANES: number;
}

export const vectorWidth = (cols: number): 1 | 4 => (cols % 4 === 0 ? 4 : 1);

/**
 * | adapter                    | rows of     | variant   | why
 * |----------------------------|-------------|-----------|-----------------------------------------------------------
 * | CPU with subgroups         | any         | subgroup  | 512x576 RMSNorm on lavapipe: 0.46 ms, shared memory 2.2-7.8
 * | CPU without                | any         | serial    | a barrier costs 50 ns (lavapipe) to 550 ns (SwiftShader)
 * | GPU, one subgroup size     | <= 1024     | subgroup  | no barrier, enough rows in flight to hide latency
 * | GPU, any                   | > 1024      | workgroup | a subgroup alone would serialise 32 or more loads
 * | GPU, several sizes or none | any         | workgroup | the number of lanes per row must be known when compiling
 * | any                        | any         | serial    | the adapter computed wrong values with the others
 */
export function rowPlan(cols: number): RowPlan {
  const { kind } = caps();
  const width = vectorWidth(cols);
  if (forced === "serial") return { variant: "serial", width, WG: 8, LANES: 1 };
  if (forced === "workgroup") return { variant: "workgroup", width, WG: 64, LANES: 64 };
  const lanewise = subgroupPlan(width);
  if (kind === "cpu") return lanewise ?? { variant: "serial", width, WG: 8, LANES: 1 };
  if (lanewise && cols <= 1024 && sound(caps(), "subgroup rows")) return lanewise;
  return sound(caps(), "workgroup rows") ? workgroupPlan(cols) : { variant: "serial", width, WG: 64, LANES: 1 };
}

/** `rowPlan` for few rows with much to read for each element: as many invocations to a row as it has use for. */
export function widePlan(cols: number): RowPlan {
  return caps().kind === "hardware" && !forced && sound(caps(), "workgroup rows") ? workgroupPlan(cols) : rowPlan(cols);
}

/** A subgroup per row, where the adapter has subgroups of one size. */
function subgroupPlan(width: 1 | 4): RowPlan | null {
  const { kind, subgroups, subgroupSize, subgroupSizeMax } = caps();
  const fixed = subgroups && subgroupSize === subgroupSizeMax && subgroupSize >= 1 && subgroupSize <= 64;
  return fixed ? { variant: "subgroup", width, WG: kind === "cpu" ? 64 : 128, LANES: subgroupSize } : null;
}

/** From so many vectors on (the logits of a large vocabulary), a row is walked by as many invocations as there can be. */
const LONG = 4096;

function workgroupPlan(cols: number): RowPlan {
  const width = vectorWidth(cols);
  const { maxInvocations, maxWorkgroupStorage } = caps();
  const most = maxInvocations >= 1024 && maxWorkgroupStorage >= 20 << 10 ? 1024 : 256; // sums of 1024 take 16.5 KiB
  const n = cols / width;
  const lanes = n >= LONG ? most : n <= 64 ? 64 : n <= 128 ? 128 : 256;
  return { variant: "workgroup", width, WG: lanes, LANES: lanes };
}

let forced: RowVariant | null = null;

/** For tests and benches: the variant every later plan has where the adapter allows it; null chooses by the table. */
export function forceRowVariant(variant: RowVariant | null): void {
  forced = variant;
}

/** Whether rows are laid out for a GPU, where a dispatch less is worth more than its best workgroup size. */
export const gpuRows = (): boolean => caps().kind !== "cpu" || forced === "workgroup";

/** Kernels without reductions that still walk rows: `LANES` invocations share one, so no index is ever divided. */
export function walkPlan(cols: number): RowPlan {
  const width = vectorWidth(cols);
  if (caps().kind === "cpu") return { variant: "serial", width, WG: 32, LANES: 8 };
  return { variant: "serial", width, WG: 64, LANES: cols / width > 32 ? 64 : 16 };
}

export interface RowSpec {
  name: string;
  code: string;
  /** As in KernelSpec; "V" is the storage vector (T or vec4<T>), "F" its f32 counterpart. */
  bindings: Record<string, string>;
  scalars: Record<string, ScalarType>;
  /** The body uses rowSum or rowMax (default true). */
  reduces?: boolean;
}

/** One kernel per (variant, width), declared when first needed. */
export type RowKernel = (plan: RowPlan) => Kernel;

export function rowKernel({ name, code, bindings, scalars, reduces = true }: RowSpec): RowKernel {
  const made: Partial<Record<RowVariant, Kernel>>[] = [];
  return ({ variant, width }) => {
    made[width] ??= {};
    let found = made[width][reduces ? variant : "serial"];
    if (!found) {
      const key = reduces ? `${variant}${width}` : `${width}`;
      const prelude = reduces ? rowPrelude(variant, width) : widthPrelude(width);
      found = kernel({
        name: `${name}_${key}`,
        code: prelude + code,
        bindings,
        scalars,
        subgroups: reduces && variant === "subgroup",
      });
      made[width][reduces ? variant : "serial"] = found;
    }
    return found;
  };
}

/** Runs a row kernel over `rows` rows; the plan's sizes are added to the constants. */
export function runRows(
  k: RowKernel,
  plan: RowPlan,
  consts: Consts,
  buffers: readonly BufferView[],
  scalars: readonly number[],
  rows: number,
): void {
  const { WG, LANES } = plan;
  run(k(plan), { WG, LANES, ...consts }, buffers, scalars, Math.ceil((rows * LANES) / WG));
}

/** Rows and columns of a tensor seen as a matrix: the last axis is the row. */
export function matrixShape(shape: readonly number[]): [rows: number, cols: number] {
  const cols = shape.length === 0 ? 1 : shape[shape.length - 1];
  let rows = 1;
  for (let i = 0; i < shape.length - 1; i++) rows *= shape[i];
  return [rows, cols];
}

const ALIGN = 128; // rows start at multiples of 256 bytes, whatever their width and type

/** The rows of `bytes` bytes each that one binding holds: all `rows` of them, or the most that are a multiple of 128. */
export function rowsPerBinding(bytes: number, rows: number): number {
  const { maxBinding } = caps();
  return bytes * rows <= maxBinding ? rows : Math.max(ALIGN, Math.floor(maxBinding / bytes / ALIGN) * ALIGN);
}

/** Where a gradient goes: nowhere, into a new tensor, or (accumulating) into the sink itself. */
export function target(sink: Sink, shape: readonly number[], dtype: Tensor["dtype"] = "f32"): Tensor | null {
  return sink === false ? null : sink === true ? empty(shape, dtype) : sink;
}

const trial = rowKernel({
  name: "row_self_test",
  code: ROW_SELF_TEST,
  bindings: { x: "read V", y: "write V" },
  scalars: { rows: "u32", n: "u32" },
});

/** Rows of SmolLM2-135M: whole subgroups of 32, and half of one. */
const TRIAL_COLUMNS = 576;

function tryRows(plan: RowPlan, x: Tensor, rows: number): Tensor {
  const y = empty(x.shape, x.dtype, "self-test");
  runRows(trial, plan, { T: x.dtype }, [x.view, y.view], [rows, TRIAL_COLUMNS / plan.width], rows);
  return y;
}

registerSelfTest(
  testRows("workgroup rows", TRIAL_COLUMNS, (x, rows) => tryRows(workgroupPlan(TRIAL_COLUMNS), x, rows)),
);
registerSelfTest(
  testRows("subgroup rows", TRIAL_COLUMNS, (x, rows) =>
    tryRows(subgroupPlan(4) ?? workgroupPlan(TRIAL_COLUMNS), x, rows),
  ),
);
