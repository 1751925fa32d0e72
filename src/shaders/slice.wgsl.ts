/** A range of columns of a matrix with `stride` columns: `width` of them, from `first` on. One thread per written element. */

/** y = the range, [rows, width]. */
export const SLICE = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i < u.n) { y[i] = x[i / u.width * u.stride + u.first + i % u.width]; }
}`;

/** dx = dy at the range and 0 elsewhere, or added to what is there when ACC. */
export const SLICE_GRAD = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let column = i % u.stride;
  let inside = column >= u.first && column - u.first < u.width;
  var d = T(0.0);
  if (inside) { d = dy[i / u.stride * u.width + column - u.first]; }
  if (ACC) { d += dx[i]; }
  dx[i] = d;
}`;
