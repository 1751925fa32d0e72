/**
 * Rotary embedding of the query and key columns of qkv [N, HEADS * 2 HALF]; the value columns are copied. An invocation
 * owns one vector of the half dimension in one row and walks all heads with the same angle.
 *
 * Angles come from a table, because f32 sin and cos are not precise for arguments in the thousands (Vulkan promises
 * nothing beyond pi). Positions are split as high * LOW + low, and the two rotations are composed: cos and sin of
 * 65,536 positions from 512 entries, exact to 2 ulp. Entry e holds HALF cosines, then HALF sines.
 *
 * consts: T, V (storage vector), F (f32 vector), HALF (vectors per half head), LOW, WG; scalars: n (invocations),
 * rotated and heads (head columns to rotate, in all), sign (-1 rotates back).
 */
export const ROPE = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / HALF;
  let c = i % HALF;
  let position = positions[row];
  let low = (position % LOW) * 2u * HALF + c;
  let high = (LOW + min(position / LOW, LOW - 1u)) * 2u * HALF + c;
  let c0 = angles[low];
  let s0 = angles[low + HALF];
  let c1 = angles[high];
  let s1 = angles[high + HALF];
  let co = c0 * c1 - s0 * s1;
  let si = (s0 * c1 + c0 * s1) * u.sign;
  var at = row * u.heads * 2u * HALF + c;
  for (var h = 0u; h < u.heads; h++) {
    let a = F(x[at]);
    let b = F(x[at + HALF]);
    let turn = h < u.rotated;
    y[at] = V(select(a, a * co - b * si, turn));
    y[at + HALF] = V(select(b, b * co + a * si, turn));
    at += 2u * HALF;
  }
}
`;
