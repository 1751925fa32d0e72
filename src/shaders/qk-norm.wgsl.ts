/**
 * RMSNorm of every query and key head of qkv [N, HEADS + 2 KV_HEADS heads of D]; values are copied. A row of these kernels
 * is one head of one token, `n` vectors long. The weights of queries and keys stand one after the other. OFFSET: they are
 * stored less 1.
 */
import { WEIGHT } from "./norm.wgsl.ts";

const PART = `${WEIGHT}
const TURNED = HEADS + KV_HEADS;
const ALL = HEADS + 2u * KV_HEADS;
`;

export const QK_NORM_FWD = `${PART}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  let head = row % ALL;
  let own = select(0u, u.n, head >= HEADS);
  var squares = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let v = F(x[base + i]);
    squares = fma(v, v, squares);
  }
  let r = inverseSqrt(rowSum(hsum(squares), lid) / u.d + u.eps);
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) {
      let v = F(x[base + i]);
      if (head < TURNED) { y[base + i] = VY(v * r * weight(own + i)); } else { y[base + i] = VY(v); }
    }
    if (lane == 0u) { rstd[row] = r; }
  }
}`;

// dx = rstd * (w dy - xhat mean(xhat w dy)), xhat = x rstd
export const QK_NORM_DX = `${PART}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  let base = safe * u.n;
  let head = row % ALL;
  let own = select(0u, u.n, head >= HEADS);
  var dots = F(0.0);
  if (head < TURNED) {
    for (var i = lane; i < u.n; i += LANES) { dots = fma(F(x[base + i]), F(dy[base + i]) * weight(own + i), dots); }
  }
  let r = rstd[safe];
  let c = rowSum(hsum(dots), lid) * r * r / u.d;
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) {
      var g = F(dy[base + i]);
      if (head < TURNED) { g = r * (g * weight(own + i) - F(x[base + i]) * c); }
      if (ACC) { g += F(dx[base + i]); }
      dx[base + i] = V(g);
    }
  }
}`;

/** An invocation owns one column of the two weights and adds up the tokens of one chunk, head by head. */
export const QK_NORM_DW = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let c = wid.x * WG + lid;
  if (c >= u.n) { return; }
  let n = u.n / 2u;
  let first = select(0u, HEADS, c >= n);
  let last = select(HEADS, HEADS + KV_HEADS, c >= n);
  var g = F(0.0);
  let end = min((wid.y + 1u) * u.chunk, u.rows);
  for (var t = wid.y * u.chunk; t < end; t += 1u) {
    for (var h = first; h < last; h += 1u) {
      let row = t * (HEADS + 2u * KV_HEADS) + h;
      g = fma(F(dy[row * n + c % n]), F(x[row * n + c % n]) * rstd[row], g);
    }
  }
  let o = wid.y * u.n + c;
  if (ACC) { g += dw[o]; }
  dw[o] = g;
}`;
