/** Angles are tabled for positions below LOW, and for the multiples of LOW; positions reach LOW * HIGH. */
export const LOW = 256;
export const HIGH = 512;

/** Cosine and sine of pair `c` at the row's position. */
export const ANGLE = /* wgsl */ `  let position = positions[row];
  let low = (position % LOW) * 2u * HALF + c;
  let high = (LOW + min(position / LOW, HIGH - 1u)) * 2u * HALF + c;
  let c0 = angles[low];
  let s0 = angles[low + HALF];
  let c1 = angles[high];
  let s1 = angles[high + HALF];
  let co = c0 * c1 - s0 * s1;
  let si = (s0 * c1 + c0 * s1) * u.sign;
`;

/**
 * Rotary embedding of the query and key columns of qkv [N, HEADS * WIDTH vectors]. Of each head the first 2 HALF vectors
 * are rotated in pairs (c, c + HALF); the other columns, and the value heads, are copied. An invocation owns one pair, or
 * one vector beyond them, in one row and walks all heads with the same angle.
 *
 * Angles come from a table, because f32 sin and cos are not precise for arguments in the thousands (Vulkan promises
 * nothing beyond pi). Positions are split as high * LOW + low, and the two rotations are composed: cos and sin of
 * LOW * HIGH positions from LOW + HIGH entries, exact to 2 ulp. Entry e holds HALF cosines, then HALF sines.
 *
 * With a cache, keys and values also go to cache[slots[row], positions[row]]; rows that point outside of it are dropped.
 *
 * consts: T, V (storage vector), F (f32 vector), KV (the cache's vector), HALF, WIDTH (in vectors), LOW, HIGH, WG; scalars: n (invocations),
 * rotated and heads (heads to rotate, in all), sign (-1 rotates back), slots and capacity of the cache.
 */
const rope = (cached: boolean) => /* wgsl */ `
const REST = WIDTH - 2u * HALF;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / (HALF + REST);
  let c = i % (HALF + REST);
  var at = row * u.heads * WIDTH + c;
  if (REST > 0u && c >= HALF) {
    at += HALF;
    for (var h = 0u; h < u.heads; h++) {
      y[at] = x[at];
      ${cached ? "keep(row, h, c + HALF, x[at]);" : ""}
      at += WIDTH;
    }
    return;
  }
${ANGLE}  for (var h = 0u; h < u.heads; h++) {
    let a = F(x[at]);
    let b = F(x[at + HALF]);
    let turn = h < u.rotated;
    let first = V(select(a, a * co - b * si, turn));
    let second = V(select(b, b * co + a * si, turn));
    y[at] = first;
    y[at + HALF] = second;
    ${cached ? "keep(row, h, c, first);\n    keep(row, h, c + HALF, second);" : ""}
    at += WIDTH;
  }
}
`;

/** Stores a column of a key or value head, which stand after the queries, in the cache; drops those of queries. */
const KEEP = /* wgsl */ `
fn keep(row: u32, h: u32, column: u32, value: V) {
  let kept = u.heads - u.rotated;
  let first = u.heads - 2u * kept;
  if (h < first || slots[row] >= u.slots || positions[row] >= u.capacity) { return; }
  let to = (slots[row] * u.capacity + positions[row]) * kept * WIDTH + column;
  if (h < u.rotated) { keys[to + (h - first) * WIDTH] = KV(value); } else { values[to + (h - u.rotated) * WIDTH] = KV(value); }
}
`;

export const ROPE = rope(false);
export const ROPE_INTO_CACHE = KEEP + rope(true);

/** The same where x is y: an invocation owns one pair of a row, and what does not turn is left alone. */
export const ROPE_IN_PLACE = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / HALF;
  let c = i % HALF;
${ANGLE}  var at = row * u.heads * WIDTH + c;
  for (var h = 0u; h < u.rotated; h++) {
    let a = F(y[at]);
    let b = F(y[at + HALF]);
    y[at] = V(a * co - b * si);
    y[at + HALF] = V(b * co + a * si);
    at += WIDTH;
  }
}
`;
