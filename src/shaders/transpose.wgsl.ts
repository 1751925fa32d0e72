/**
 * Transposes matrices [rows, cols] to [cols, rows]; rows of the first are stride4 vec4 apart from its vec4 first4 on. One invocation walks a row by vec4, SPAN of them, and its neighbours own
 * the neighbouring rows, so that what a subgroup stores is contiguous.
 */
export const TRANSPOSE = `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = wid.x * WG + lid;
  if (row >= u.rows) { return; }
  let base = wid.z * u.rows * u.cols4;
  for (var c = wid.y * SPAN; c < min(wid.y * SPAN + SPAN, u.cols4); c += 1u) {
    let v = x[base + u.first4 + row * u.stride4 + c];
    let p = 4u * base + 4u * c * u.rows + row;
    y[p] = v.x;
    y[p + u.rows] = v.y;
    y[p + 2u * u.rows] = v.z;
    y[p + 3u * u.rows] = v.w;
  }
}`;
