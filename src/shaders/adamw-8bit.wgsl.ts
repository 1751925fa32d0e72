/**
 * AdamW whose moments take 8 bits, in blocks of 64 with a scale each (after Dettmers et al. 2022, "8-bit Optimizers via Block-wise
 * Quantization", arXiv 2110.02861). A code of magnitude c holds 10^(e - top) * (1 - 0.9 (2^(e+1) - 1 - c) / 2^e), e = floor(log2 c):
 * decades down to 10^-top of the block's largest, twice as many steps in each higher one; 0 holds 0. The first moment has a sign and
 * 7 bits (top 6), the second 8 (top 7). The largest of a block is exact. A second moment that is not 0 never becomes 0, which would
 * divide by epsilon.
 *
 * A row is a block. WIDTH is 4: a u32 holds four codes. Scales come in pairs, of the first and the second moment.
 */
const CODES = `
const STEPS = 16u; // vec4s in a block
fn tenth(down: vec4u) -> vec4f {
  var s = vec4f(1.0);
  s = select(s, vec4f(0.1), down >= vec4u(1u));
  s = select(s, vec4f(0.01), down >= vec4u(2u));
  s = select(s, vec4f(0.001), down >= vec4u(3u));
  s = select(s, vec4f(0.0001), down >= vec4u(4u));
  s = select(s, vec4f(0.00001), down >= vec4u(5u));
  s = select(s, vec4f(0.000001), down >= vec4u(6u));
  return select(s, vec4f(0.0000001), down >= vec4u(7u));
}
// x in 0..1
fn encode(x: vec4f, top: u32) -> vec4u {
  var down = vec4u(0u);
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.1));
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.01));
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.001));
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.0001));
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.00001));
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.000001));
  down += select(vec4u(0u), vec4u(1u), x <= vec4f(0.0000001));
  down = min(down, vec4u(top));
  let first = vec4u(1u) << (vec4u(top) - down);
  let items = vec4f(first);
  let step = clamp(round((x / tenth(down) - 0.1) / 0.9 * items), vec4f(0.0), items);
  return first + vec4u(step) - 1u; // no steps: the last code of the decade below, and in the lowest 0
}
fn decode(code: vec4u, top: u32) -> vec4f {
  let e = firstLeadingBit(max(code, vec4u(1u)));
  let first = vec4u(1u) << e;
  let below = vec4f(2u * first - 1u - code) / vec4f(first);
  return select(vec4f(0.0), tenth(vec4u(top) - e) * (1.0 - 0.9 * below), code > vec4u(0u));
}
fn bytes(word: u32) -> vec4u { return (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u); }
fn word(bytes: vec4u) -> u32 { return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u); }
fn firstMoment(codes: u32, scale: f32) -> vec4f {
  let b = bytes(codes);
  let size = decode(b & vec4u(127u), 6u) * scale;
  return select(size, -size, b > vec4u(127u));
}
fn secondMoment(codes: u32, scale: f32) -> vec4f { return decode(bytes(codes), 7u) * scale; }
struct Moments { first: vec4f, second: vec4f }
// both moments of a vector after this step
fn moments(at: u32, scale: vec2f, factor: f32) -> Moments {
  let gi = g[at] * factor;
  let old = firstMoment(m[at], scale.x);
  let kept = secondMoment(v[at], scale.y);
  return Moments(old + u.keep1 * (gi - old), fma(kept, F(1.0 - u.keep2), u.keep2 * gi * gi));
}
`;

export const ADAMW_8BIT = `${CODES}
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let applied = control[2] != 0.0;
  let factor = select(0.0, control[1], applied);
  let stepSize = u.lr / control[5];
  let root2 = sqrt(control[6]);
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let block = min(row, u.rows - 1u);
  let before = vec2f(scales[2u * block], scales[2u * block + 1u]);
  let shrink = 1.0 - u.lr * u.weightDecay;
  var largest = vec2f(0.0);
  for (var i = lane; i < STEPS; i += LANES) {
    let at = block * STEPS + i;
    let found = moments(at, before, factor);
    let mi = found.first;
    let vi = found.second;
    largest = max(largest, vec2f(hmax(abs(mi)), hmax(vi)));
    if (applied && row < u.rows) { p[at] = p[at] * shrink - stepSize * mi / (sqrt(vi) / root2 + u.eps); }
  }
  let after = vec2f(rowMax(largest.x, lid), rowMax(largest.y, lid));
  if (SEVERAL) { storageBarrier(); } // every lane has read the scales
  if (!applied || row >= u.rows) { return; }
  let by = 1.0 / max(after, vec2f(1e-37));
  for (var i = lane; i < STEPS; i += LANES) {
    let at = block * STEPS + i;
    let found = moments(at, before, factor);
    let mi = found.first;
    let vi = found.second;
    let sign = select(vec4u(0u), vec4u(128u), mi < F(0.0));
    m[at] = word(encode(min(abs(mi) * by.x, F(1.0)), 6u) | sign);
    v[at] = word(max(encode(min(vi * by.y, F(1.0)), 7u), select(vec4u(0u), vec4u(1u), vi > F(0.0))));
  }
  if (lane == 0u) {
    scales[2u * block] = after.x;
    scales[2u * block + 1u] = after.y;
  }
}`;
