/**
 * Decoding against a key/value cache [slots, CAPACITY, C], C = kvHeads * D / 4 vectors wide. Rows of qkv hold H query
 * heads, then the keys, then the values. All widths are counted in vec4.
 *
 * Attention: row b belongs to slot b or, SLOTTED, to slots[b]. WINDOW limits rows to the last u.window keys, SOFTCAP turns
 * scores a into cap2 * tanh(a / cap2), both in base 2. A row without keys is 0; one without a finite score is NaN.
 */
import { TANH } from "./elementwise.wgsl.ts";
import { CODES, EIGHT_BITS, NUMBERS } from "./kv-codes.wgsl.ts";

/** What attention to a cache is made of: a row's first key, its slot, and the score of a product. */
export const FEATURES = `alias D = f32;
const LOWEST = -3.0e38;
${TANH}
fn firstKey(count: u32) -> u32 {
  if (WINDOW) { return select(0u, count - u.window, count > u.window); }
  return 0u;
}
fn slotOf(row: u32) -> u32 {
  if (SLOTTED) { return min(slots[row], u.slots - 1u); }
  return row;
}
fn score(a: f32) -> f32 {
  if (SOFTCAP) { return u.cap2 * preciseTanh(a / u.cap2); }
  return a;
}
`;

/** Row n's keys and values go to cache[slots[n], positions[n]]; rows that point outside of the cache are dropped. */
export const KV_WRITE = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / C;
  let c = i % C;
  let slot = slots[row];
  let position = positions[row];
  if (slot >= u.slots || position >= u.capacity) { return; }
  let at = row * u.width + u.width - 2u * C + c;
  let to = (slot * u.capacity + position) * C + c;
  keys[to] = KV(qkv[at]);
  values[to] = KV(qkv[at + C]);
}
`;

/** Copies the first lengths[m] tokens of slot from[m] to slot to[m]; an invocation owns one column, C wide a position, of one copy. */
export const KV_FORK = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let m = i / C;
  let a = source[m];
  let b = destination[m];
  if (a >= u.slots || b >= u.slots || a == b) { return; }
  let count = min(lengths[m], u.capacity);
  var there = a * u.capacity * C + i % C;
  var here = b * u.capacity * C + i % C;
  for (var t = 0u; t < count; t++) {
    keys[here] = keys[there];
    values[here] = values[there];
    there += C;
    here += C;
  }
}
`;

/**
 * One invocation per (row, head), for CPU adapters: every load serves one product whatever the layout, so nothing is
 * gained by sharing. Two keys at a time halve the traffic of q and the output in memory.
 */
const serial = (coded: boolean): string => {
  const { head, read, scale } = coded ? EIGHT_BITS : NUMBERS;
  const by = (x: string, array: "keys" | "values", at: string) => (coded ? `(${x}) * ${scale(array, at)}` : x);
  return /* wgsl */ `${FEATURES}${coded ? CODES : ""}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / u.heads;
  let head = i % u.heads;
  var q: array<A4, D4>;
  var o: array<A4, D4>;
  for (var c = 0u; c < u.d4; c++) { q[c] = A4(qkv[row * u.width + head * D4 + c]) * u.scale2; }
  let count = min(lengths[row], u.capacity);
  let base = slotOf(row) * u.capacity * u.stride + head / u.group * ${head};
  var m = LOWEST;
  var l = 0.0;
  for (var j = firstKey(count); j < count; j += 2u) {
    let at0 = base + j * u.stride;
    let at1 = base + min(j + 1u, count - 1u) * u.stride;
    var a = A4(0.0);
    var b = A4(0.0);
    for (var c = 0u; c < u.d4; c++) {
      a = fma(q[c], ${read("keys", "at0 + c")}, a);
      b = fma(q[c], ${read("keys", "at1 + c")}, b);
    }
    let s0 = score(${by("a.x + a.y + a.z + a.w", "keys", "at0")});
    let s1 = select(LOWEST, score(${by("b.x + b.y + b.z + b.w", "keys", "at1")}), j + 1u < count);
    let top = max(m, max(s0, s1));
    let f = exp2(m - top);
    let p0 = exp2(s0 - top);
    let p1 = select(0.0, exp2(s1 - top), j + 1u < count);
    m = top;
    l = l * f + p0 + p1;
    let w0 = ${by("p0", "values", "at0")};
    let w1 = ${by("p1", "values", "at1")};
    for (var c = 0u; c < u.d4; c++) {
      o[c] = fma(A4(w1), ${read("values", "at1 + c")}, fma(A4(w0), ${read("values", "at0 + c")}, o[c] * f));
    }
  }
  let g = select(0.0, 1.0 / l, count > 0u);
  for (var c = 0u; c < u.d4; c++) { out[i * D4 + c] = T4(o[c] * g); }
}
`;
};

export const CACHED_ATTENTION_SERIAL = serial(false);
/** The same of a cache in codes (kv-codes.wgsl.ts), whose `u.stride` counts words. */
export const CACHED_ATTENTION_SERIAL_CODES = serial(true);
