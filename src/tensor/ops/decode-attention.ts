/** Rotation, the write to the cache and attention in one, for decoding on GPUs. */
import { caps } from "../../gpu/device.ts";
import { sound } from "../../gpu/variants.ts";
import { HIGH, LOW } from "../../shaders/rope.wgsl.ts";
import { empty, type Tensor, willRecord } from "../core.ts";
import { attendCache, attending } from "./attend-cache.ts";
import { type CachedAttentionOptions, type CachePlaces, checkPlaces } from "./kvcache.ts";
import { angleTable, type RopeOptions } from "./rope.ts";

const rotating = attending("rotating_cached_attention", true, (cached) => ({
  qkv: "read vec4<Q>",
  keys: `write ${cached}`,
  values: `write ${cached}`,
  lengths: "read u32",
  slots: "read u32",
  positions: "read u32",
  angles: "read vec4f",
}));

/**
 * Whether `decodeAttention` takes the place of `rope` and `cachedAttention`: on GPUs, where decoding is bound by the number of
 * dispatches. A CPU adapter, and a GPU that computes this one wrong, have another kernel for cached attention.
 */
export const fusesRotation = (qkv: Tensor, { headDim, frequencies }: RopeOptions): boolean =>
  caps().kind === "hardware" &&
  sound(caps(), "cached attention") &&
  (frequencies?.length ?? headDim / 2) % 4 === 0 &&
  !willRecord([qkv]);

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
  options: Omit<CachedAttentionOptions, "variant" | "slots"> & RopeOptions,
): Tensor {
  const { heads: H, headDim } = options;
  const { count, capacity, stride, rows } = checkPlaces("decodeAttention", qkv, positions, cache, options);
  const table = angleTable(options);
  const half = table.shape[1] / 2;
  if (half % 4 !== 0) throw new Error(`decodeAttention: ${half} pairs of columns are not a multiple of 4`);
  if (lengths.size !== rows || rows > count) {
    throw new Error(`decodeAttention: ${rows} rows, but ${lengths.size} lengths and ${count} slots`);
  }
  const out = empty([rows, H * headDim], qkv.dtype, "decodeAttention");
  const coded = cache.keys.dtype === "u32";
  const consts = { ...(!coded && { KV: cache.keys.dtype }), SLOTTED: false, HALF: half / 4, LOW, HIGH };
  const operands = [cache.keys, cache.values, lengths, cache.slots, positions, table].map(({ view }) => view);
  const kernels = rotating[coded ? "codes" : "numbers"];
  attendCache(kernels, consts, qkv, operands, lengths, out, { ...options, slots: count, capacity, stride });
  return out;
}
