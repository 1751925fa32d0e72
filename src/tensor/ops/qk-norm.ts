/** RMSNorm inside attention: each query and key head by itself. */
import { QK_NORM_DW, QK_NORM_DX, QK_NORM_FWD } from "../../shaders/qk-norm.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { normTypes, paramGradients, rmsKernels } from "./norm.ts";
import { rowPlan, runRows, target } from "./rows.ts";

const kernels = rmsKernels("qk_norm", { fwd: QK_NORM_FWD, dx: QK_NORM_DX, dw: QK_NORM_DW });

/** Heads that `qkNorm` normalises. */
export interface QkNormOptions {
  /** Query heads H. */
  heads: number;
  /** Key/value heads. */
  kvHeads: number;
  /** D */
  headDim: number;
  /** Added to the mean square. */
  eps: number;
  /** The weights are stored less 1. Default false. */
  offset?: boolean;
}

/**
 * Every query and key head x becomes x / sqrt(mean(x^2) + eps) * weight; values pass unchanged.
 * @param qkv [N, (heads + 2 kvHeads) * D]
 * @param weight [2 D], f32: of the queries, then of the keys
 */
export function qkNorm(qkv: Tensor, weight: Tensor, options: QkNormOptions): Tensor {
  const { heads: HEADS, kvHeads: KV_HEADS, headDim, eps, offset: OFFSET = false } = options;
  const all = HEADS + 2 * KV_HEADS;
  const tokens = qkv.size / (all * headDim);
  if (!Number.isInteger(tokens)) throw new Error(`qkNorm: [${qkv.shape}] is not rows of ${all} heads of ${headDim}`);
  if (weight.size !== 2 * headDim || weight.dtype !== "f32") {
    throw new Error(`qkNorm: weight must be f32 [${2 * headDim}], not ${weight.dtype} [${weight.shape}]`);
  }
  const rows = tokens * all;
  const plan = rowPlan(headDim);
  const types = normTypes(qkv.dtype, qkv.dtype, plan);
  const n = headDim / plan.width;
  const sizes = { HEADS, KV_HEADS };
  const y = empty(qkv.shape, qkv.dtype, "qkNorm");
  const rstd = empty([rows], "f32", "qkNorm");
  const consts = { ...types, OFFSET, ...sizes };
  runRows(kernels.fwd, plan, { ...consts }, [qkv.view, weight.view, y.view, rstd.view], [rows, n, headDim, eps], rows);
  return record(
    "qkNorm",
    [qkv, weight],
    y,
    (dy, [sinkX, sinkW]) => {
      const dx = target(sinkX, qkv.shape, qkv.dtype);
      if (dx) {
        const buffers = [qkv.view, weight.view, dy.view, rstd.view, dx.view];
        runRows(kernels.dx, plan, { ...consts, ACC: sinkX !== true }, buffers, [rows, n, headDim], rows);
      }
      const reads = [qkv.view, dy.view, rstd.view];
      const [dw] = paramGradients(kernels.dw, reads, types, tokens, 2 * headDim, ["ACC"], [sinkW], sizes);
      return [dx, dw];
    },
    [rstd],
  );
}
