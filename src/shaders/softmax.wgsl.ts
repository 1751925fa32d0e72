/** Softmax and log-softmax over rows. Statistics are f32 whatever T is. `n` = row length in vectors. */
export const SOFTMAX_FWD = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  var top = F(LOWEST);
  for (var i = lane; i < u.n; i += LANES) { top = max(top, F(x[base + i])); }
  let m = rowMax(hmax(top), lid);
  var total = F(0.0);
  for (var i = lane; i < u.n; i += LANES) { total += exp(F(x[base + i]) - m); }
  let s = rowSum(hsum(total), lid);
  if (row < u.rows) {
    if (LOG) {
      let lse = m + log(s);
      for (var i = lane; i < u.n; i += LANES) { y[base + i] = V(F(x[base + i]) - lse); }
    } else {
      let inv = 1.0 / s;
      for (var i = lane; i < u.n; i += LANES) { y[base + i] = V(exp(F(x[base + i]) - m) * inv); }
    }
  }
}`;

// softmax: dx = y (dy - sum(dy y));  log-softmax: dx = dy - exp(y) sum(dy)
export const SOFTMAX_BWD = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  var total = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    if (LOG) { total += F(dy[base + i]); } else { total = fma(F(dy[base + i]), F(y[base + i]), total); }
  }
  let s = rowSum(hsum(total), lid);
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) {
      let g = F(dy[base + i]);
      let o = F(y[base + i]);
      var d: F;
      if (LOG) { d = g - exp(o) * s; } else { d = o * (g - s); }
      if (ACC) { d += F(dx[base + i]); }
      dx[base + i] = V(d);
    }
  }
}`;
