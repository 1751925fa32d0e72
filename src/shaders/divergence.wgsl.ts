/**
 * How far a student's next-token distribution p is from a teacher's q, from the logits of both, which arrive in chunks of the
 * vocabulary, `n` vectors of each row. `it` = 1 / temperature. SOFTCAP, SOFTCAP_T: logits x of the student's, of the teacher's, become
 * cap * tanh(x / cap) first. FORWARD: KL(q || p); REVERSE: KL(p || q); neither: between them, by the mixture
 * m = (1 - beta) p + beta q.
 */
import { TANH } from "./elementwise.wgsl.ts";

const CAPPED = `alias D = F;
${TANH}
fn studentLogit(i: u32) -> F {
  if (SOFTCAP) { return u.cap * preciseTanh(student[i] / u.cap); }
  return student[i];
}
fn teacherLogit(i: u32) -> F {
  if (SOFTCAP_T) { return u.capT * preciseTanh(teacher[i] / u.capT); }
  return teacher[i];
}
`;

/** ln m - ln p, from d = ln q - ln p; near 0 for p and q alike. */
const MIXTURE = `
fn toMixture(d: F) -> F {
  let up = max(d, F(0.0));
  return up + log((1.0 - u.beta) * exp(-up) + u.beta * exp(d - up));
}
`;

/**
 * Merges one chunk into state[2 row] = (largest z, sum e^(z - largest)) of the student, then of the teacher, and
 * state[2 row + 1] = (entropy's sum, divergence's sum), both taken relative to the largest z, so that nothing of the size of large
 * logits cancels. Ends in stats[row] = (ln of both sums of e^z, the divergence, 0).
 */
export const DIVERGENCE_STATS = `${CAPPED}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let start = min(row, u.rows - 1u) * u.n;
  var top = F(LOWEST);
  var topT = F(LOWEST);
  for (var i = lane; i < u.n; i += LANES) {
    top = max(top, studentLogit(start + i));
    topT = max(topT, teacherLogit(start + i));
  }
  let m = rowMax(hmax(top), lid) * u.it;
  let mT = rowMax(hmax(topT), lid) * u.it;
  var s = F(0.0);
  var sT = F(0.0);
  var h = F(0.0);
  var w = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let d = studentLogit(start + i) * u.it - m;
    let dT = teacherLogit(start + i) * u.it - mT;
    let e = exp(d);
    let eT = exp(dT);
    s += e;
    sT += eT;
    h = fma(d, e, h);
    if (REVERSE) { w = fma(d - dT, e, w); }
    if (FORWARD) { w = fma(dT - d, eT, w); }
  }
  let sums = rowSum4(vec4f(hsum(s), hsum(sT), hsum(h), hsum(w)), lid);
  if (row < u.rows && lane == 0u) {
    var a = vec4f(m, sums.x, mT, sums.y);
    var b = vec2f(sums.z, sums.w);
    if (!FIRST) {
      let old = state[2u * row];
      let was = state[2u * row + 1u];
      let big = max(old.x, m);
      let bigT = max(old.z, mT);
      let f = vec2f(exp(old.x - big), exp(m - big));
      let fT = vec2f(exp(old.z - bigT), exp(mT - bigT));
      let up = vec2f(old.x - big, m - big);
      let upT = vec2f(old.z - bigT, mT - bigT);
      b.x = f.x * (was.x + up.x * old.y) + f.y * (b.x + up.y * a.y);
      if (REVERSE) { b.y = f.x * (was.y + (up.x - upT.x) * old.y) + f.y * (b.y + (up.y - upT.y) * a.y); }
      if (FORWARD) { b.y = fT.x * (was.y + (upT.x - up.x) * old.w) + fT.y * (b.y + (upT.y - up.y) * a.w); }
      a = vec4f(big, f.x * old.y + f.y * a.y, bigT, fT.x * old.w + fT.y * a.w);
    }
    if (LAST) {
      let l = log(a.y);
      let lT = log(a.w);
      var divergence = 0.0;
      if (REVERSE) { divergence = b.y / a.y - l + lT; }
      if (FORWARD) { divergence = b.y / a.w - lT + l; }
      entropies[row] = l - b.x / a.y;
      divergences[row] = divergence;
      stats[row] = vec4f(a.x + l, a.z + lT, divergence, 0.0);
    } else {
      state[2u * row] = a;
      state[2u * row + 1u] = vec4f(b, 0.0, 0.0);
    }
  }
}`;

/** Adds a chunk's part of KL(p || m) and KL(q || m) to stats[row].zw; in the end, beta KL(q || m) + (1 - beta) KL(p || m). */
export const DIVERGENCE_MIXED = `${CAPPED}${MIXTURE}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  let start = safe * u.n;
  let before = stats[safe];
  var own = F(0.0);
  var theirs = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let p = studentLogit(start + i) * u.it - before.x;
    let q = teacherLogit(start + i) * u.it - before.y;
    let lm = toMixture(q - p);
    own -= exp(p) * lm;
    theirs += exp(q) * (q - p - lm);
  }
  let sums = rowSum4(vec4f(hsum(own), hsum(theirs), 0.0, 0.0), lid);
  if (row < u.rows && lane == 0u) {
    let all = before.zw + sums.xy;
    stats[row] = vec4f(before.xy, all);
    if (LAST) { divergences[row] = u.beta * all.y + (1.0 - u.beta) * all.x; }
  }
}`;

/**
 * In place, the student's logits to their gradients, for z = logits / temperature and K = stats[row].z:
 * REVERSE: p (ln p - ln q - K); FORWARD: p - q; else (1 - beta) p (ln p - ln m - K).
 */
export const DIVERGENCE_BWD = `${CAPPED}${MIXTURE}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let start = row * u.n;
  let known = stats[row];
  let dy = dDivergences[row] * u.it;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    let z = studentLogit(start + i);
    let p = z * u.it - known.x;
    let q = teacherLogit(start + i) * u.it - known.y;
    var g = exp(p);
    if (FORWARD) { g -= exp(q); }
    else if (REVERSE) { g *= p - q - known.z; }
    else { g *= -(1.0 - u.beta) * (toMixture(q - p) + known.z); }
    if (SOFTCAP) { g *= 1.0 - (z / u.cap) * (z / u.cap); }
    student[start + i] = g * dy;
  }
}`;
