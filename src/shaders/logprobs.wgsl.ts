/**
 * Log-probabilities and entropies of tokens from logits that arrive in chunks of the vocabulary: columns
 * base .. base + cols - 1 of each row, `n` vectors. `it` = 1 / temperature. SOFTCAP: logits x become cap * tanh(x / cap) first.
 */
import { TANH } from "./elementwise.wgsl.ts";

const CAPPED = `alias D = F;
${TANH}
fn logit(i: u32) -> F {
  if (SOFTCAP) { return u.cap * preciseTanh(logits[i] / u.cap); }
  return logits[i];
}
`;

/**
 * Merges one chunk into state[row] = (m, s, w, z_y): the largest z so far, sum e^(z-m), sum (z-m) e^(z-m), and the target's
 * z. Sums are taken relative to m, so the entropy ln s - w / s has no cancellation of large logits.
 */
export const LOGPROBS_FWD = `${CAPPED}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  let start = safe * u.n;
  var top = F(LOWEST);
  for (var i = lane; i < u.n; i += LANES) { top = max(top, logit(start + i)); }
  let m = rowMax(hmax(top), lid) * u.it;
  var s = F(0.0);
  var w = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let d = logit(start + i) * u.it - m;
    let e = exp(d);
    s += e;
    w = fma(d, e, w);
  }
  let sums = rowSum4(vec4f(hsum(s), hsum(w), 0.0, 0.0), lid);
  if (row < u.rows && lane == 0u) {
    var st = vec4f(m, sums.x, sums.y, 0.0);
    if (!FIRST) {
      let old = state[row];
      let big = max(old.x, m);
      let a = exp(old.x - big);
      let b = exp(m - big);
      st = vec4f(big, a * old.y + b * st.y, a * (old.z + (old.x - big) * old.y) + b * (st.z + (m - big) * st.y), old.w);
    }
    let column = targets[row] - u.base; // wraps around to a large number before the chunk
    if (column < u.n * WIDTH) { st.w = hsum(logit(start + column / WIDTH) * u.it * oneHot(column % WIDTH)); }
    if (LAST) {
      let lse = st.x + log(st.y);
      logProbs[row] = st.w - lse;
      entropies[row] = log(st.y) - st.z / st.y;
      lses[row] = lse;
      tops[row] = st.x - lse;
    } else {
      state[row] = st;
    }
  }
}`;

/** In place, logits to their gradients: dz_j = g (1[j = y] - p_j) - h p_j (ln p_j + H), for z = logits / temperature. */
export const LOGPROBS_BWD = `${CAPPED}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let start = row * u.n;
  let lse = lses[row];
  let column = targets[row] - u.base;
  var g = 0.0;
  var h = 0.0;
  var entropy = 0.0;
  if (HAS_G) { g = dLogProbs[row]; }
  if (HAS_H) {
    h = dEntropies[row];
    entropy = entropies[row];
  }
  for (var i = lid % LANES; i < u.n; i += LANES) {
    let z = logit(start + i);
    let lnp = z * u.it - lse;
    var d = -exp(lnp) * (g + h * (lnp + entropy));
    if (column / WIDTH == i) { d += g * oneHot(column % WIDTH); }
    if (SOFTCAP) { d *= 1.0 - (z / u.cap) * (z / u.cap); }
    logits[start + i] = d * u.it;
  }
}`;
