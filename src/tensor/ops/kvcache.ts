/**
 * Key/value caches for decoding: f32 or f16 [slots, capacity, kvHeads * D], or 8 bits in u32 [slots, capacity,
 * kvHeads * (D / 4 + 1)] (kv-codes.wgsl.ts says how). Inference only: nothing here is recorded.
 */
import { caps } from "../../gpu/device.ts";
import { type Consts, type Kernel, kernel } from "../../gpu/kernel.ts";
import { registerSelfTest } from "../../gpu/self-tests.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { sound } from "../../gpu/variants.ts";
import { KV_WRITE_CODES } from "../../shaders/kv-codes.wgsl.ts";
import {
  CACHED_ATTENTION_SERIAL,
  CACHED_ATTENTION_SERIAL_CODES,
  KV_FORK,
  KV_WRITE,
} from "../../shaders/kvcache.wgsl.ts";
import { type DType, empty, type Tensor, tensor, zeros } from "../core.ts";
import { attendCache, attending, cacheScalars, scoring } from "./attend-cache.ts";
import { type AttentionOptions, MAX_HEAD_DIM } from "./attention.ts";
import { add, scale } from "./elementwise.ts";
import { testCached } from "./self-tests.ts";

const WG = 64;
/** Invocations of a workgroup on CPU adapters. */
const SERIAL = 8;

/** Elements of a cache at one position, by the type of its tensors: of u32 words with four codes, and of scales. */
export const cacheWidth = (dtype: DType, { kvHeads, headDim }: Pick<AttentionOptions, "kvHeads" | "headDim">): number =>
  kvHeads * (dtype === "u32" ? headDim / 4 + 1 : headDim);

const places = { slots: "read u32", positions: "read u32", keys: "write KV", values: "write KV" };
const writeKernel = kernel({
  name: "kv_cache_write",
  code: KV_WRITE,
  bindings: { qkv: "read vec4<T>", ...places },
  scalars: { n: "u32", width: "u32", slots: "u32", capacity: "u32" },
});
const writeCodesKernel = kernel({
  name: "kv_cache_write_codes",
  code: KV_WRITE_CODES,
  bindings: { qkv: "read vec4<T>", ...places },
  scalars: { n: "u32", width: "u32", slots: "u32", capacity: "u32" },
});

const forkKernel = kernel({
  name: "kv_cache_fork",
  code: KV_FORK,
  bindings: {
    source: "read u32",
    destination: "read u32",
    lengths: "read u32",
    keys: "write KV",
    values: "write KV",
  },
  scalars: { n: "u32", slots: "u32", capacity: "u32" },
});

const operands = (cached: string) => ({
  qkv: "read vec4<Q>",
  keys: `read ${cached}`,
  values: `read ${cached}`,
  lengths: "read u32",
  slots: "read u32",
});
const serialKernel = kernel({
  name: "cached_attention_serial",
  code: CACHED_ATTENTION_SERIAL,
  bindings: { ...operands("vec4<KV>"), out: "write vec4<T>" },
  scalars: { n: "u32", ...cacheScalars, d4: "u32" },
});
const serialCodesKernel = kernel({
  name: "cached_attention_serial_codes",
  code: CACHED_ATTENTION_SERIAL_CODES,
  bindings: { ...operands("u32"), out: "write vec4<T>" },
  scalars: { n: "u32", ...cacheScalars, d4: "u32" },
});
const attendingKernels = attending("cached_attention", false, operands);

/** Where token rows are kept: row n at cache[slots[n], its position]. */
export interface CachePlaces {
  /** f32 or f16 [slots, capacity, kvHeads * D], or codes, written in place, like `values`. */
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
 * @param cacheK f32 or f16 [slots, capacity, kvHeads * D], or codes, written in place, like `cacheV`
 * @param slots u32 [N]
 * @param positions u32 [N]
 * @param options needed for codes, which are made for whole heads
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
  const { count, capacity, rows, width } = checkPlaces("kvCacheWrite", qkv, positions, places, options);
  const buffers = [qkv.view, slots.view, positions.view, cacheK.view, cacheV.view];
  const write = (by: Kernel, consts: Consts, n: number) =>
    run(by, { T: qkv.dtype, ...consts, WG }, buffers, [n, width / 4, count, capacity], Math.ceil(n / WG));
  if (cacheK.dtype === "u32") {
    if (!options) throw new Error("kvCacheWrite: a cache in codes needs to know the heads");
    const { kvHeads: H, headDim } = options;
    write(writeCodesKernel, { KV: "u32", H, D4: headDim / 4 }, rows * 2 * H);
  } else {
    const C = cacheK.shape[2] / 4;
    write(writeKernel, { KV: vectorOf(cacheK), C }, rows * C);
  }
}

/**
 * Copies the first lengths[m] tokens of slot from[m] to slot to[m], for samples that share a prompt. A slot must not be
 * both a source and a destination, nor a destination twice.
 * @param from u32 [M], as are `to` and `lengths`
 */
export function kvCacheFork(cacheK: Tensor, cacheV: Tensor, from: Tensor, to: Tensor, lengths: Tensor): void {
  const { count, capacity, stride: C } = cacheShape("kvCacheFork", cacheK, cacheV);
  if (to.size !== from.size || lengths.size !== from.size) {
    throw new Error(`kvCacheFork: ${from.size} sources, ${to.size} destinations and ${lengths.size} lengths`);
  }
  const n = from.size * C;
  const buffers = [from.view, to.view, lengths.view, cacheK.view, cacheV.view];
  run(forkKernel, { KV: vectorOf(cacheK), C, WG }, buffers, [n, count, capacity], Math.ceil(n / WG));
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
  const { count, capacity, stride } = cacheShape("cachedAttention", cacheK, cacheV);
  const rows = lengths.size;
  checkWidth("cachedAttention", qkv, rows, cacheK, options);
  if (slots && slots.size !== rows) throw new Error(`cachedAttention: ${rows} rows, but ${slots.size} slots of theirs`);
  if (!slots && rows > count) throw new Error(`cachedAttention: ${rows} rows, but the cache has ${count} slots`);
  const out = empty([rows, H * headDim], qkv.dtype, "cachedAttention");
  const buffers = [cacheK.view, cacheV.view, lengths.view, (slots ?? lengths).view];
  const shared = caps().kind === "hardware" && sound(caps(), "cached attention");
  const variant = options.variant ?? (shared ? "workgroup" : "serial");
  const coded = cacheK.dtype === "u32";
  const base = { ...(!coded && { KV: cacheK.dtype }), SLOTTED: slots !== undefined };
  if (variant === "workgroup") {
    const kernels = attendingKernels[coded ? "codes" : "numbers"];
    attendCache(kernels, base, qkv, buffers, lengths, out, { ...options, slots: count, capacity, stride });
    return out;
  }
  const D4 = headDim / 4;
  const { scale2, window, cap2, features } = scoring(options, capacity);
  const n = rows * H;
  const scalars = [n, count, capacity, H, H / HKV, (H + 2 * HKV) * D4, stride, scale2, window, cap2, D4];
  const groups = Math.ceil(n / SERIAL);
  const consts = { T: qkv.dtype, Q: qkv.dtype, ...base, D4, ...features, WG: SERIAL };
  run(coded ? serialCodesKernel : serialKernel, consts, [qkv.view, ...buffers, out.view], scalars, groups);
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
): { count: number; capacity: number; stride: number; rows: number; width: number } {
  const { count, capacity, stride } = cacheShape(op, keys, values);
  const rows = slots.size;
  const width = qkv.size / rows;
  const least = keys.dtype === "u32" ? 0 : 2 * keys.shape[2];
  if (positions.size !== rows || !Number.isInteger(width) || width <= least || width % 4 !== 0) {
    throw new Error(`${op}: qkv [${qkv.shape}] does not fit ${rows} rows of a cache [${keys.shape}]`);
  }
  if (options) checkWidth(op, qkv, rows, keys, options);
  return { count, capacity, stride, rows, width };
}

/** `stride`: from one position to the next, in what a kernel reads at once: vec4s, or words of codes. */
function cacheShape(op: string, cacheK: Tensor, cacheV: Tensor): { count: number; capacity: number; stride: number } {
  const [count, capacity, width] = cacheK.shape;
  const coded = cacheK.dtype === "u32";
  const whole = coded || width % 4 === 0;
  const same = String(cacheK.shape) === String(cacheV.shape) && cacheK.dtype === cacheV.dtype;
  if (cacheK.shape.length !== 3 || !whole || !same) {
    throw new Error(
      `${op}: caches must be [slots, capacity, kvHeads * D], not [${cacheK.shape}] and [${cacheV.shape}]`,
    );
  }
  return { count, capacity, stride: coded ? width : width / 4 };
}

/** What a kernel reads of a cache at once. */
const vectorOf = ({ dtype }: Tensor): string => (dtype === "u32" ? "u32" : `vec4<${dtype}>`);

function checkWidth(
  op: string,
  qkv: Tensor,
  rows: number,
  cache: Tensor,
  options: Pick<AttentionOptions, "heads" | "kvHeads" | "headDim">,
): void {
  const { heads, kvHeads, headDim } = options;
  const width = (heads + 2 * kvHeads) * headDim;
  if (heads % kvHeads !== 0 || headDim % 4 !== 0 || headDim > MAX_HEAD_DIM) {
    throw new Error(`${op}: ${heads} heads on ${kvHeads} KV heads of dimension ${headDim} are not supported`);
  }
  const kept = cacheWidth(cache.dtype, options);
  if (qkv.size !== rows * width || cache.shape[2] !== kept) {
    throw new Error(
      `${op}: qkv must be [${rows}, ${width}] and the cache ${kept} wide, not [${qkv.shape}] and [${cache.shape}]`,
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
