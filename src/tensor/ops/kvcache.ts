/** Key/value caches [slots, capacity, kvHeads * D] for decoding. Inference only: nothing here is recorded. */
import { caps } from "../../gpu/device.ts";
import { kernel } from "../../gpu/kernel.ts";
import { registerSelfTest } from "../../gpu/self-tests.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { sound } from "../../gpu/variants.ts";
import { CACHED_ATTENTION_SERIAL, KV_FORK, KV_WRITE } from "../../shaders/kvcache.wgsl.ts";
import { empty, type Tensor, tensor, zeros } from "../core.ts";
import { attendCache, attending, cacheScalars, scoring } from "./attend-cache.ts";
import { type AttentionOptions, MAX_HEAD_DIM } from "./attention.ts";
import { add, scale } from "./elementwise.ts";
import { testCached } from "./self-tests.ts";

const WG = 64;
/** Invocations of a workgroup on CPU adapters. */
const SERIAL = 8;

const writeKernel = kernel({
  name: "kv_cache_write",
  code: KV_WRITE,
  bindings: {
    qkv: "read vec4<T>",
    slots: "read u32",
    positions: "read u32",
    keys: "write vec4<T>",
    values: "write vec4<T>",
  },
  scalars: { n: "u32", width: "u32", slots: "u32", capacity: "u32" },
});

const forkKernel = kernel({
  name: "kv_cache_fork",
  code: KV_FORK,
  bindings: {
    source: "read u32",
    destination: "read u32",
    lengths: "read u32",
    keys: "write vec4<T>",
    values: "write vec4<T>",
  },
  scalars: { n: "u32", slots: "u32", capacity: "u32" },
});

const operands = {
  qkv: "read vec4<Q>",
  keys: "read vec4<KV>",
  values: "read vec4<KV>",
  lengths: "read u32",
  slots: "read u32",
};
const serialKernel = kernel({
  name: "cached_attention_serial",
  code: CACHED_ATTENTION_SERIAL,
  bindings: { ...operands, out: "write vec4<T>" },
  scalars: { n: "u32", ...cacheScalars, d4: "u32" },
});
const attendingKernels = attending("cached_attention", false, operands);

/** Where token rows are kept: row n at cache[slots[n], its position]. */
export interface CachePlaces {
  /** [slots, capacity, kvHeads * D], written in place, like `values`. */
  keys: Tensor;
  values: Tensor;
  /** u32 [N] */
  slots: Tensor;
}

export interface CachedAttentionOptions extends Omit<AttentionOptions, "variant"> {
  /** u32 [B]: the slot that each row belongs to; several may share one. Default: row b belongs to slot b. */
  slots?: Tensor;
  /** Overrides the adapter's kernel variant; for tests and benches. */
  variant?: "serial" | "workgroup";
  /** Workgroups that share the keys of a row, in place of as many as a GPU has use for; for tests and benches. */
  splits?: number;
  /** Heads on one KV head that a workgroup attends for; for tests. */
  headsTogether?: number;
}

/**
 * Stores the keys and values of token rows: row n goes to cache[slots[n], positions[n]]. Rows whose slot or position lies
 * outside of the cache are dropped.
 * @param qkv [N, (H + 2 kvHeads) * D]
 * @param cacheK [slots, capacity, kvHeads * D], written in place, like `cacheV`
 * @param slots u32 [N]
 * @param positions u32 [N]
 */
export function kvCacheWrite(
  qkv: Tensor,
  cacheK: Tensor,
  cacheV: Tensor,
  slots: Tensor,
  positions: Tensor,
  options?: Pick<AttentionOptions, "heads" | "kvHeads" | "headDim">,
): void {
  const places = { keys: cacheK, values: cacheV, slots };
  const { count, capacity, rows, width, C } = checkPlaces("kvCacheWrite", qkv, positions, places, options);
  const n = rows * C;
  const buffers = [qkv.view, slots.view, positions.view, cacheK.view, cacheV.view];
  run(writeKernel, { T: qkv.dtype, C, WG }, buffers, [n, width / 4, count, capacity], Math.ceil(n / WG));
}

/**
 * Copies the first lengths[m] tokens of slot from[m] to slot to[m], for samples that share a prompt. A slot must not be
 * both a source and a destination, nor a destination twice.
 * @param from u32 [M], as are `to` and `lengths`
 */
export function kvCacheFork(cacheK: Tensor, cacheV: Tensor, from: Tensor, to: Tensor, lengths: Tensor): void {
  const { count, capacity, width: C } = cacheShape("kvCacheFork", cacheK, cacheV);
  if (to.size !== from.size || lengths.size !== from.size) {
    throw new Error(`kvCacheFork: ${from.size} sources, ${to.size} destinations and ${lengths.size} lengths`);
  }
  const n = from.size * C;
  const buffers = [from.view, to.view, lengths.view, cacheK.view, cacheV.view];
  run(forkKernel, { T: cacheK.dtype, C, WG }, buffers, [n, count, capacity], Math.ceil(n / WG));
}

/**
 * Attention of new tokens: row b's queries see the first lengths[b] tokens of its slot, which should include the token's
 * own key. Length 0 gives 0.
 *
 * | adapter | kernel    | why
 * |---------|-----------|------------------------------------------------------------------------------
 * | CPU     | serial    | a load costs the same alone or shared, and barriers cost 50 to 550 ns
 * | GPU     | workgroup | one reads keys and values for all heads on a KV head; several share a long cache
 *
 * @param qkv [B, (H + 2 kvHeads) * D]; only the query columns are read
 * @param lengths u32 [B]
 * @returns [B, H * D]
 */
export function cachedAttention(
  qkv: Tensor,
  cacheK: Tensor,
  cacheV: Tensor,
  lengths: Tensor,
  options: CachedAttentionOptions,
): Tensor {
  const { heads: H, kvHeads: HKV, headDim, slots } = options;
  const { count, capacity, width: C } = cacheShape("cachedAttention", cacheK, cacheV);
  const rows = lengths.size;
  checkWidth("cachedAttention", qkv, rows, cacheK, options);
  if (slots && slots.size !== rows) throw new Error(`cachedAttention: ${rows} rows, but ${slots.size} slots of theirs`);
  if (!slots && rows > count) throw new Error(`cachedAttention: ${rows} rows, but the cache has ${count} slots`);
  const out = empty([rows, H * headDim], qkv.dtype, "cachedAttention");
  const buffers = [cacheK.view, cacheV.view, lengths.view, (slots ?? lengths).view];
  const shared = caps().kind === "hardware" && sound(caps(), "cached attention");
  const variant = options.variant ?? (shared ? "workgroup" : "serial");
  const base = { KV: cacheK.dtype, SLOTTED: slots !== undefined };
  if (variant === "workgroup") {
    attendCache(attendingKernels, base, qkv, buffers, lengths, out, { ...options, slots: count, capacity });
    return out;
  }
  const D4 = headDim / 4;
  const { scale2, window, cap2, features } = scoring(options, capacity);
  const n = rows * H;
  const scalars = [n, count, capacity, H, H / HKV, (H + 2 * HKV) * D4, C, scale2, window, cap2, D4];
  const groups = Math.ceil(n / SERIAL);
  const consts = { T: qkv.dtype, Q: qkv.dtype, ...base, D4, ...features, WG: SERIAL };
  run(serialKernel, consts, [qkv.view, ...buffers, out.view], scalars, groups);
  addWork(2 * n * headDim * capacity);
  return out;
}

/** Refuses rows and a cache that do not fit each other. */
export function checkPlaces(
  op: string,
  qkv: Tensor,
  positions: Tensor,
  { keys, values, slots }: CachePlaces,
  options?: Pick<AttentionOptions, "heads" | "kvHeads" | "headDim">,
): { count: number; capacity: number; rows: number; width: number; C: number } {
  const { count, capacity, width: C } = cacheShape(op, keys, values);
  const rows = slots.size;
  const width = qkv.size / rows;
  if (positions.size !== rows || !Number.isInteger(width) || width <= 2 * C * 4 || width % 4 !== 0) {
    throw new Error(`${op}: qkv [${qkv.shape}] does not fit ${rows} rows of a cache [${keys.shape}]`);
  }
  if (options) checkWidth(op, qkv, rows, keys, options);
  return { count, capacity, rows, width, C };
}

function cacheShape(op: string, cacheK: Tensor, cacheV: Tensor): { count: number; capacity: number; width: number } {
  const [count, capacity, width] = cacheK.shape;
  if (cacheK.shape.length !== 3 || width % 4 !== 0 || String(cacheK.shape) !== String(cacheV.shape)) {
    throw new Error(
      `${op}: caches must be [slots, capacity, kvHeads * D], not [${cacheK.shape}] and [${cacheV.shape}]`,
    );
  }
  return { count, capacity, width: width / 4 };
}

function checkWidth(
  op: string,
  qkv: Tensor,
  rows: number,
  cache: Tensor,
  { heads, kvHeads, headDim }: Pick<AttentionOptions, "heads" | "kvHeads" | "headDim">,
): void {
  const width = (heads + 2 * kvHeads) * headDim;
  if (heads % kvHeads !== 0 || headDim % 4 !== 0 || headDim > MAX_HEAD_DIM) {
    throw new Error(`${op}: ${heads} heads on ${kvHeads} KV heads of dimension ${headDim} are not supported`);
  }
  if (qkv.size !== rows * width || cache.shape[2] !== kvHeads * headDim) {
    throw new Error(
      `${op}: qkv must be [${rows}, ${width}] and the cache ${kvHeads * headDim} wide, not [${qkv.shape}] and [${cache.shape}]`,
    );
  }
}

registerSelfTest(
  testCached("cached attention", 64, (qkv, last, rows) => {
    const shape = { heads: 1, kvHeads: 1, headDim: 64 };
    const [keys, values] = [zeros([1, rows, 64]), zeros([1, rows, 64])];
    const ids = (count: number, id: (i: number) => number) =>
      tensor(Uint32Array.from({ length: count }, (_, i) => id(i)));
    kvCacheWrite(
      qkv,
      keys,
      values,
      ids(rows, () => 0),
      ids(rows, (i) => i),
      shape,
    );
    const attended = (splits: number) => {
      const like = { ...shape, variant: "workgroup" as const, splits };
      return cachedAttention(
        last,
        keys,
        values,
        ids(1, () => rows),
        like,
      );
    };
    return scale(add(attended(1), attended(2)), 0.5); // in one piece, and in parts
  }),
);
