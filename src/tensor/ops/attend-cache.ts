/** A GPU's attention to a cache: rows whole, in one dispatch, or in parts that a second one joins. */
import { caps } from "../../gpu/device.ts";
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import type { BufferView } from "../../gpu/pool.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { cacheShares } from "../../gpu/variants.ts";
import {
  CACHED_ATTENTION_JOIN,
  cachedAttentionPart,
  cachedAttentionWhole,
} from "../../shaders/cached-attention.wgsl.ts";
import { empty, type Tensor } from "../core.ts";
import type { AttentionOptions } from "./attention.ts";
import { unsummed } from "./unsummed.ts";

const WG = 64;

/** What all kernels of attention to a cache are told, in order; `width`, of a row of qkv, in vec4, `stride` in elements of the cache. */
export const cacheScalars = {
  slots: "u32",
  capacity: "u32",
  heads: "u32",
  group: "u32",
  width: "u32",
  stride: "u32",
  scale2: "f32",
  window: "u32",
  cap2: "f32",
} as const;
const scalars = { tasks: "u32", splits: "u32", ...cacheScalars, terms: "u32", size: "u32" } as const;
const result = { out: "write vec4<T>" };

/** Kernels for rows whole and for rows in parts. */
interface Attending {
  whole: Kernel;
  part: Kernel;
}

/** The kernels that read these bindings, of which the shader says the order, and a cache of numbers or of codes. */
export const attending = (
  name: string,
  rotating: boolean,
  operands: (cached: string) => Record<string, string>,
): Record<"numbers" | "codes", Attending> => {
  const of = (named: string, coded: boolean, cached: string) => ({
    whole: kernel({
      name: named,
      code: cachedAttentionWhole(rotating, coded),
      bindings: { ...operands(cached), ...result },
      scalars,
    }),
    part: kernel({
      name: `${named}_part`,
      code: cachedAttentionPart(rotating, coded),
      bindings: { ...operands(cached), parts: "write vec4<f32>" },
      scalars,
    }),
  });
  return { numbers: of(name, false, "vec4<KV>"), codes: of(`${name}_codes`, true, "u32") };
};

const joinKernel = kernel({
  name: "cached_attention_join",
  code: CACHED_ATTENTION_JOIN,
  bindings: { parts: "read vec4<f32>", lengths: "read u32", ...result },
  scalars: { n: "u32", heads: "u32", capacity: "u32", splits: "u32" },
});

type Scored = Omit<AttentionOptions, "variant">;

/** How scores are scaled, capped and limited; numbers in base 2. A window that the cache does not outgrow is none. */
export function scoring({ headDim, scale, softcap, window }: Scored, capacity: number) {
  const scale2 = (scale ?? 1 / Math.sqrt(headDim)) * Math.LOG2E;
  const cap2 = (softcap ?? 0) * Math.LOG2E;
  const kept = window && window < capacity ? window : 0;
  return { scale2, window: kept, cap2, features: { WINDOW: kept > 0, SOFTCAP: cap2 > 0 } };
}

/** What the rows and the cache are like. */
export interface AttendShape extends Scored {
  /** Those of the cache; `stride` in its elements, from one position to the next. */
  slots: number;
  capacity: number;
  stride: number;
  /** Workgroups that share a row's keys, and heads on one KV head of a workgroup, in place of what suits the GPU. */
  splits?: number;
  headsTogether?: number;
}

/**
 * Writes the attention of lengths.size rows to `out` [B, H * D].
 * @param consts what the kernels take beside T, Q, D4, HEADS and features of the scores
 * @param qkv which may be left in parts
 * @param operands views of the other bindings, up to the result
 */
export function attendCache(
  { whole, part }: Attending,
  consts: Record<string, string | number | boolean>,
  qkv: Tensor,
  operands: BufferView[],
  lengths: Tensor,
  out: Tensor,
  shape: AttendShape,
): void {
  const { slots, capacity, stride, heads, kvHeads, headDim } = shape;
  const { scale2, window, cap2, features } = scoring(shape, capacity);
  const D4 = headDim / 4;
  const group = heads / kvHeads;
  const n = lengths.size * heads;
  const shares = cacheShares(caps(), n, group, capacity);
  const HEADS = shape.headsTogether ?? shares.heads;
  const splits = shape.splits ?? shares.parts;
  const tasks = (n / HEADS) * splits;
  const waiting = unsummed(qkv);
  const parts = waiting?.adds === false ? waiting : null;
  const [rows, terms] = parts ? [parts.views[0], parts.splits] : [qkv.view, 1];
  const all = { T: qkv.dtype, Q: parts ? "f32" : qkv.dtype, PARTS: parts !== null, ...consts, D4, HEADS, ...features };
  const width = (heads + 2 * kvHeads) * D4;
  const values = [
    tasks,
    splits,
    slots,
    capacity,
    heads,
    group,
    width,
    stride,
    scale2,
    window,
    cap2,
    terms,
    qkv.size / 4,
  ];
  addWork(2 * n * headDim * capacity);
  if (splits === 1) return void run(whole, all, [rows, ...operands, out.view], values, tasks);
  const pieces = empty([n, splits, headDim + 4], "f32", "cachedAttention");
  run(part, all, [rows, ...operands, pieces.view], values, tasks);
  const joined = [pieces.view, lengths.view, out.view];
  run(joinKernel, { T: out.dtype, D4, WG }, joined, [n * D4, heads, capacity, splits], Math.ceil((n * D4) / WG));
}
