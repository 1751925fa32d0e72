/** SwiGLU: h = silu(gate) * up, gate and up being the two halves of each row. `n` = vectors in one half. */
const SIGMOID = `
fn sigmoid(v: F) -> F { return 1.0 / (1.0 + exp(clamp(-v, F(-80.0), F(80.0)))); }
`;

export const SWIGLU_FWD = `${SIGMOID}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let base = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    let g = F(x[2u * base + i]);
    h[base + i] = V(g * sigmoid(g) * F(x[2u * base + u.n + i]));
  }
}`;

// d gate = dh up s (1 + g (1 - s)),  d up = dh g s,  s = sigmoid(g)
export const SWIGLU_BWD = `${SIGMOID}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let base = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    let a = 2u * base + i;
    let b = a + u.n;
    let g = F(x[a]);
    let d = F(dh[base + i]);
    let s = sigmoid(g);
    var dgate = d * F(x[b]) * s * (1.0 + g * (1.0 - s));
    var dup = d * g * s;
    if (ACC) {
      dgate += F(dx[a]);
      dup += F(dx[b]);
    }
    dx[a] = V(dgate);
    dx[b] = V(dup);
  }
}`;
