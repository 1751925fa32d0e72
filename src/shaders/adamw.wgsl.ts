/**
 * The optimizer step on flat stores. The control record (8 f32) stays on the GPU, so no step waits for a readback:
 * 0 gradient norm, 1 clip factor times gradient scale, 2 applied (1) or skipped (0), 3 steps applied so far,
 * 4 steps skipped so far, 5 and 6 bias corrections 1 - beta^t, 7 what the gradient was: 0 finite, 1 infinite, 2 NaN. With a loss scale (SCALED; for gradients that
 * passed through f16) two more: 8 the scale that the gradients carry, 9 steps since it changed.
 */

/** Stage 1: one row per piece of a gradient chunk: partials[at + row] = sum of squares. */
export const SQUARES = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = rowIndex(linearId(wid, nwg), lid);
  let end = min((row + 1u) * u.piece, u.n);
  var squares = F(0.0);
  for (var i = row * u.piece + lid % LANES; i < end; i += LANES) {
    let v = g[i];
    squares = fma(v, v, squares);
  }
  let total = rowSum(hsum(squares), lid);
  if (row < u.rows && lid % LANES == 0u) { partials[u.at + row] = total; }
}`;

/**
 * Stage 2: one row over all partials decides the clip factor and whether to skip, and counts. A gradient that is not
 * finite makes its sum of squares Inf or NaN. That is tested on the bits of the loaded sum, since shader compilers fold
 * x != x away. A loss scale is halved by a skipped step and doubled after GROWTH steps without one; it stays a power of
 * two, so dividing by it is exact.
 */
export const DECIDE = `
// 1 - exp(x) for x <= 0, without cancellation near 0
fn oneMinusExp(x: f32) -> f32 {
  if (x < -0.5) { return 1.0 - exp(max(x, -80.0)); }
  return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0 * (1.0 + x / 8.0)))))));
}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = rowIndex(wid.x, lid);
  var sum = 0.0;
  var infinite = 0.0;
  var nan = 0.0;
  for (var i = lid % LANES; i < u.parts; i += LANES) {
    let p = partials[i];
    let bits = bitcast<u32>(p) & 0x7fffffffu;
    if (bits > 0x7f800000u) { nan = 1.0; } else if (bits == 0x7f800000u) { infinite = 1.0; } else { sum += p; }
  }
  let total = rowSum4(vec4f(sum, infinite, nan, 0.0), lid);
  if (row == 0u && lid % LANES == 0u) {
    var scale = u.scale;
    if (SCALED) { scale /= control[8]; }
    let norm = sqrt(total.x) * scale;
    control[0] = norm;
    if (total.y > 0.0 || total.z > 0.0 || !(total.x < 3.0e38)) {
      control[2] = 0.0;
      control[7] = select(1.0, 2.0, total.z > 0.0);
      control[4] += 1.0;
      if (SCALED) {
        control[8] = max(control[8] * 0.5, 1.0);
        control[9] = 0.0;
      }
    } else {
      var clip = 1.0;
      if (u.maxNorm > 0.0) { clip = min(1.0, u.maxNorm / (norm + 1e-6)); }
      let t = control[3] + 1.0;
      control[1] = clip * scale;
      control[2] = 1.0;
      control[7] = 0.0;
      control[3] = t;
      control[5] = oneMinusExp(t * u.logBeta1);
      control[6] = oneMinusExp(t * u.logBeta2);
      if (SCALED) {
        control[9] += 1.0;
        if (control[9] >= f32(GROWTH)) {
          control[8] = min(control[8] * 2.0, 16777216.0);
          control[9] = 0.0;
        }
      }
    }
  }
}`;

// Decoupled weight decay (Loshchilov & Hutter), in the order of operations of torch.optim.AdamW.
export const ADAMW = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  if (control[2] == 0.0) { return; }
  let factor = control[1];
  let stepSize = u.lr / control[5];
  let root2 = sqrt(control[6]);
  let first = linearId(wid, nwg) * WG * PER + lid;
  let end = min(u.n, first + WG * PER);
  for (var i = first; i < end; i += WG) {
    let gi = g[i] * factor;
    let mi = m[i] + u.keep1 * (gi - m[i]);
    let vi = fma(v[i], F(1.0 - u.keep2), u.keep2 * gi * gi);
    let shrink = select(1.0, 1.0 - u.lr * u.weightDecay, i < u.decayed);
    m[i] = mi;
    v[i] = vi;
    p[i] = p[i] * shrink - stepSize * mi / (sqrt(vi) / root2 + u.eps);
  }
}`;

/** What the backward pass starts from: the loss scale times a factor. */
export const LOSS_SEED = `
@compute @workgroup_size(1) fn main() { y[0] = control[8] * u.factor; }`;
