/**
 * RMSNorm and LayerNorm, from T to Y (vectors V and VY). Statistics and sums are f32 whatever they are. `n` = row length in vectors, `d` in elements.
 * OFFSET: RMSNorm's weights are stored less 1.
 */
export const WEIGHT = `
fn weight(i: u32) -> F {
  if (OFFSET) { return 1.0 + w[i]; }
  return w[i];
}
`;

const OVER_ROWS = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  inputGradient(linearId(wid, nwg), lid);
}`;
const OVER_CHUNKS = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  parameterGradients(wid.x, wid.y, lid);
}`;
/** All gradients in one dispatch: u.groups workgroups walk rows, those after them the columns of u.chunks chunks. */
const OVER_BOTH = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let group = linearId(wid, nwg);
  if (group < u.groups) {
    inputGradient(group, lid);
  } else {
    let across = (u.n + WG - 1u) / WG;
    let part = (group - u.groups) / across;
    if (part < u.chunks) { parameterGradients((group - u.groups) % across, part, lid); }
  }
}`;

export const RMSNORM_FWD = `${WEIGHT}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  var squares = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let v = F(x[base + i]);
    squares = fma(v, v, squares);
  }
  let r = inverseSqrt(rowSum(hsum(squares), lid) / u.d + u.eps);
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) { y[base + i] = VY(F(x[base + i]) * r * weight(i)); }
    if (lane == 0u) { rstd[row] = r; }
  }
}`;

// dx = rstd * (w dy - xhat mean(xhat w dy)), xhat = x rstd
const RMS_INPUT = `${WEIGHT}
fn inputGradient(group: u32, lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(group, lid);
  let safe = min(row, u.rows - 1u);
  let base = safe * u.n;
  var dots = F(0.0);
  for (var i = lane; i < u.n; i += LANES) { dots = fma(F(x[base + i]), F(dy[base + i]) * weight(i), dots); }
  let r = rstd[safe];
  let c = rowSum(hsum(dots), lid) * r * r / u.d;
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) {
      var g = r * (F(dy[base + i]) * weight(i) - F(x[base + i]) * c);
      if (ACC) { g += F(dx[base + i]); }
      dx[base + i] = V(g);
    }
  }
}`;
export const RMSNORM_DX = `${RMS_INPUT}
${OVER_ROWS}`;

// stats[row] = (mean, 1 / standard deviation); the variance is summed around the mean, not as a difference of squares
export const LAYERNORM_FWD = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  var total = F(0.0);
  for (var i = lane; i < u.n; i += LANES) { total += F(x[base + i]); }
  let mean = rowSum(hsum(total), lid) / u.d;
  var squares = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let v = F(x[base + i]) - mean;
    squares = fma(v, v, squares);
  }
  let r = inverseSqrt(rowSum(hsum(squares), lid) / u.d + u.eps);
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) { y[base + i] = VY(fma((F(x[base + i]) - mean) * r, w[i], b[i])); }
    if (lane == 0u) { stats[row] = vec2f(mean, r); }
  }
}`;

// dx = rstd * (w dy - mean(w dy) - xhat mean(xhat w dy))
const LAYER_INPUT = `
fn inputGradient(group: u32, lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(group, lid);
  let safe = min(row, u.rows - 1u);
  let base = safe * u.n;
  let s = stats[safe];
  var plain = F(0.0);
  var dots = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let g = F(dy[base + i]) * w[i];
    plain += g;
    dots = fma(g, (F(x[base + i]) - s.x) * s.y, dots);
  }
  let means = rowSum4(vec4f(hsum(plain), hsum(dots), 0.0, 0.0), lid) / u.d;
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) {
      let xhat = (F(x[base + i]) - s.x) * s.y;
      var g = s.y * (F(dy[base + i]) * w[i] - means.x - xhat * means.y);
      if (ACC) { g += F(dx[base + i]); }
      dx[base + i] = V(g);
    }
  }
}`;
export const LAYERNORM_DX = `${LAYER_INPUT}
${OVER_ROWS}`;

// Gradients of the parameters: an invocation owns one column vector and adds up the rows of one chunk (workgroup_id.y).
const RMS_PARAMETERS = `
fn parameterGradients(group: u32, part: u32, lid: u32) {
  let c = group * WG + lid;
  if (c >= u.n) { return; }
  var g = F(0.0);
  let end = min((part + 1u) * u.chunk, u.rows);
  for (var r = part * u.chunk; r < end; r += 1u) { g = fma(F(dy[r * u.n + c]), F(x[r * u.n + c]) * rstd[r], g); }
  let o = part * u.n + c;
  if (ACC_W) { g += dw[o]; }
  dw[o] = g;
}`;
export const RMSNORM_DW = `${RMS_PARAMETERS}
${OVER_CHUNKS}`;

const LAYER_PARAMETERS = `
fn parameterGradients(group: u32, part: u32, lid: u32) {
  let c = group * WG + lid;
  if (c >= u.n) { return; }
  var gw = F(0.0);
  var gb = F(0.0);
  let end = min((part + 1u) * u.chunk, u.rows);
  for (var r = part * u.chunk; r < end; r += 1u) {
    let g = F(dy[r * u.n + c]);
    let s = stats[r];
    gw = fma(g, (F(x[r * u.n + c]) - s.x) * s.y, gw);
    gb += g;
  }
  let o = part * u.n + c;
  if (ACC_W) { gw += dw[o]; }
  if (ACC_B) { gb += db[o]; }
  dw[o] = gw;
  db[o] = gb;
}`;
export const LAYERNORM_DWB = `${LAYER_PARAMETERS}
${OVER_CHUNKS}`;

export const RMSNORM_GRADIENTS = `${RMS_INPUT}
${RMS_PARAMETERS}
${OVER_BOTH}`;
export const LAYERNORM_GRADIENTS = `${LAYER_INPUT}
${LAYER_PARAMETERS}
${OVER_BOTH}`;

/** out[c] (+)= sum over chunks of partial[chunk, c], in chunk order. */
export const FOLD_CHUNKS = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let c = wid.x * WG + lid;
  if (c >= u.n) { return; }
  var g = F(0.0);
  for (var k = 0u; k < u.chunks; k += 1u) { g += partial[k * u.n + c]; }
  if (ACC) { g += out[c]; }
  out[c] = g;
}`;
