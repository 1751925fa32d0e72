/** Rotation, the write to the cache and attention in one, for decoding on GPUs. */
import { caps } from "../../gpu/device.ts";
import { kernel } from "../../gpu/kernel.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { CACHED_ATTENTION_ROTATING } from "../../shaders/kvcache.wgsl.ts";
import { empty, type Tensor, willRecord } from "../core.ts";
import type { AttentionOptions } from "./attention.ts";
import { attentionScalars, type CachePlaces, checkPlaces } from "./kvcache.ts";
import { angleTable, HIGH, LOW, type RopeOptions } from "./rope.ts";

const WG = 64;

const rotating = kernel({
  name: "rotating_cached_attention",
  code: CACHED_ATTENTION_ROTATING,
  bindings: {
    qkv: "read vec4<T>",
    keys: "write vec4<T>",
    values: "write vec4<T>",
    lengths: "read u32",
    slots: "read u32",
    positions: "read u32",
    angles: "read vec4f",
    out: "write vec4<T>",
  },
  scalars: attentionScalars,
});

/**
 * Whether `decodeAttention` takes the place of `rope` and `cachedAttention`: on GPUs, where decoding is bound by the number of
 * dispatches. A CPU adapter has another kernel for cached attention, which is worth more there.
 */
export const fusesRotation = (qkv: Tensor, { headDim, frequencies }: RopeOptions): boolean =>
  caps().kind !== "cpu" && (frequencies?.length ?? headDim / 2) % 4 === 0 && !willRecord([qkv]);

/**
 * `rope` into the cache, then `cachedAttention` of the rows: row b is the newest token of slot b, at positions[b], and sees
 * the slot's first lengths[b] tokens, its own among them. Rows whose place in `cache.slots` lies outside of the cache are
 * not kept. Not recorded for gradients.
 * @param qkv [B, (H + 2 kvHeads) * D]
 * @param positions u32 [B], as are `lengths`
 * @returns [B, H * D]
 */
export function decodeAttention(
  qkv: Tensor,
  positions: Tensor,
  lengths: Tensor,
  cache: CachePlaces,
  options: Omit<AttentionOptions, "variant"> & RopeOptions,
): Tensor {
  const { heads: H, kvHeads, headDim } = options;
  const { count, capacity, rows, width, C } = checkPlaces("decodeAttention", qkv, positions, cache, options);
  const table = angleTable(options);
  const half = table.shape[1] / 2;
  if (half % 4 !== 0) throw new Error(`decodeAttention: ${half} pairs of columns are not a multiple of 4`);
  if (lengths.size !== rows || rows > count) {
    throw new Error(`decodeAttention: ${rows} rows, but ${lengths.size} lengths and ${count} slots`);
  }
  const D4 = headDim / 4;
  const out = empty([rows, H * headDim], qkv.dtype, "decodeAttention");
  const window = options.window && options.window < capacity ? options.window : 0;
  const cap2 = (options.softcap ?? 0) * Math.LOG2E;
  const scale2 = (options.scale ?? 1 / Math.sqrt(headDim)) * Math.LOG2E;
  const features = { SLOTTED: false, WINDOW: window > 0, SOFTCAP: cap2 > 0 };
  const consts = { T: qkv.dtype, D4, ...features, HALF: half / 4, LOW, HIGH, WG, SPLIT: Math.floor(WG / D4) };
  const buffers = [qkv, cache.keys, cache.values, lengths, cache.slots, positions, table, out].map(({ view }) => view);
  const n = rows * H;
  run(rotating, consts, buffers, [n, count, capacity, H, H / kvHeads, width / 4, C, scale2, window, cap2], n);
  addWork(2 * n * headDim * capacity);
  return out;
}
