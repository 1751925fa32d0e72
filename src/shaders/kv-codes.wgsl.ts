/**
 * Keys and values in 8 bits: u32 [slots, capacity, kvHeads * (D4 + 1)]. Of each head a position has D4 words of four codes,
 * then one scale, as the bits of a f32: a number is code * scale, codes are -127 .. 127, and the largest of a head is exact to
 * the scale's rounding. NaN and infinity make the scale so, and with it all that is computed from the head.
 */
import { ANGLE } from "./rope.wgsl.ts";

/** Reading and making codes. */
export const CODES = `
// The largest size, as bits: among these NaN is above infinity, and no compiler may forget it.
fn sizeBits(x: vec4f) -> u32 {
  let b = bitcast<vec4u>(x) & vec4u(0x7fffffffu);
  return max(max(b.x, b.y), max(b.z, b.w));
}
fn scaleOf(top: u32) -> f32 { return bitcast<f32>(top) / 127.0; }
// What values are multiplied by to be codes; nothing where they are so small that it would overflow.
fn unscaled(top: u32) -> f32 {
  let largest = bitcast<f32>(top);
  return select(0.0, 127.0 / max(largest, 1e-36), largest >= 1e-36);
}
fn wordOf(x: vec4f, by: f32) -> u32 {
  let q = bitcast<vec4u>(vec4i(clamp(round(x * by), vec4f(-127.0), vec4f(127.0)))) & vec4u(255u);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}
fn codes(w: u32) -> vec4f { return vec4f(bitcast<vec4i>(vec4u(w) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u)); }
`;

/** How kernels of attention read what is cached: as numbers, or as codes whose sums and weights are multiplied by a scale. */
export interface Kept {
  /** Elements of a head at one position. */
  head: string;
  /** Element `at` of keys or values, as a vec4f. */
  read(array: "keys" | "values", at: string): string;
  /** The scale of the head that begins at element `at`. */
  scale(array: "keys" | "values", at: string): string;
}
export const NUMBERS: Kept = { head: "D4", read: (array, at) => `A4(${array}[${at}])`, scale: () => "1.0" };
export const EIGHT_BITS: Kept = {
  head: "(D4 + 1u)",
  read: (array, at) => `codes(${array}[${at}])`,
  scale: (array, at) => `bitcast<f32>(${array}[${at} + D4])`,
};

/** `kv_cache_write` in codes: an invocation owns one head of the keys or the values of a row. D4 = D / 4, H = kvHeads. */
export const KV_WRITE_CODES = /* wgsl */ `${CODES}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / (2u * H);
  let head = i % (2u * H);
  let slot = slots[row];
  let position = positions[row];
  if (slot >= u.slots || position >= u.capacity) { return; }
  let at = (row + 1u) * u.width - (2u * H - head) * D4;
  let to = ((slot * u.capacity + position) * H + head % H) * (D4 + 1u);
  var top = 0u;
  for (var c = 0u; c < D4; c++) { top = max(top, sizeBits(A4(qkv[at + c]))); }
  let by = unscaled(top);
  for (var c = 0u; c < D4; c++) {
    let word = wordOf(A4(qkv[at + c]), by);
    if (head < H) { keys[to + c] = word; } else { values[to + c] = word; }
  }
  let scale = bitcast<u32>(scaleOf(top));
  if (head < H) { keys[to + D4] = scale; } else { values[to + D4] = scale; }
}
`;

/**
 * `ROPE_INTO_CACHE` of rope.wgsl.ts in codes, for vectors of 4: an invocation owns one head of a row, turns it, and where it is one
 * of the keys or values reads it once more for its codes.
 */
export const ROPE_INTO_CODES = /* wgsl */ `${CODES}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / u.heads;
  let h = i % u.heads;
  let at = i * WIDTH;
  let turn = h < u.rotated;
  for (var c = 0u; c < HALF; c++) {
  ${ANGLE}
    let a = F(x[at + c]);
    let b = F(x[at + c + HALF]);
    y[at + c] = V(select(a, a * co - b * si, turn));
    y[at + c + HALF] = V(select(b, b * co + a * si, turn));
  }
  for (var c = 2u * HALF; c < WIDTH; c++) { y[at + c] = x[at + c]; }
  let kvHeads = u.heads - u.rotated;
  let queries = u.rotated - kvHeads;
  if (h < queries || slots[row] >= u.slots || positions[row] >= u.capacity) { return; }
  let to = ((slots[row] * u.capacity + positions[row]) * kvHeads + (h - queries) % kvHeads) * (WIDTH + 1u);
  var top = 0u;
  for (var c = 0u; c < WIDTH; c++) { top = max(top, sizeBits(A4(y[at + c]))); }
  let by = unscaled(top);
  for (var c = 0u; c < WIDTH; c++) {
    let word = wordOf(A4(y[at + c]), by);
    if (turn) { keys[to + c] = word; } else { values[to + c] = word; }
  }
  let scale = bitcast<u32>(scaleOf(top));
  if (turn) { keys[to + WIDTH] = scale; } else { values[to + WIDTH] = scale; }
}
`;
