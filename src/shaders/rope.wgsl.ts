/**
 * Rotary embedding of the query and key columns of qkv [N, HEADS * WIDTH vectors]. Of each head the first 2 HALF vectors
 * are rotated in pairs (c, c + HALF); the other columns, and the value heads, are copied. An invocation owns one pair, or
 * one vector beyond them, in one row and walks all heads with the same angle.
 *
 * Angles come from a table, because f32 sin and cos are not precise for arguments in the thousands (Vulkan promises
 * nothing beyond pi). Positions are split as high * LOW + low, and the two rotations are composed: cos and sin of
 * LOW * HIGH positions from LOW + HIGH entries, exact to 2 ulp. Entry e holds HALF cosines, then HALF sines.
 *
 * consts: T, V (storage vector), F (f32 vector), HALF, WIDTH (in vectors), LOW, HIGH, WG; scalars: n (invocations),
 * rotated and heads (heads to rotate, in all), sign (-1 rotates back).
 */
export const ROPE = /* wgsl */ `
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
      at += WIDTH;
    }
    return;
  }
  let position = positions[row];
  let low = (position % LOW) * 2u * HALF + c;
  let high = (LOW + min(position / LOW, HIGH - 1u)) * 2u * HALF + c;
  let c0 = angles[low];
  let s0 = angles[low + HALF];
  let c1 = angles[high];
  let s1 = angles[high + HALF];
  let co = c0 * c1 - s0 * s1;
  let si = (s0 * c1 + c0 * s1) * u.sign;
  for (var h = 0u; h < u.heads; h++) {
    let a = F(x[at]);
    let b = F(x[at + HALF]);
    let turn = h < u.rotated;
    y[at] = V(select(a, a * co - b * si, turn));
    y[at + HALF] = V(select(b, b * co + a * si, turn));
    at += WIDTH;
  }
}
`;
