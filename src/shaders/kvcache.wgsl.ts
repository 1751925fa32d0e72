/**
 * Decoding against a key/value cache [slots, CAPACITY, C], C = kvHeads * D / 4 vectors wide. Rows of qkv hold H query
 * heads, then the keys, then the values. All widths are counted in vec4.
 *
 * Attention: row b belongs to slot b or, SLOTTED, to slots[b]. WINDOW limits rows to the last u.window keys, SOFTCAP turns
 * scores a into cap2 * tanh(a / cap2), both in base 2. A row without keys is 0; one without a finite score is NaN.
 */
import { TANH } from "./elementwise.wgsl.ts";

const FEATURES = `alias D = f32;
const LOWEST = -3.0e38;
${TANH}
fn firstKey(count: u32) -> u32 {
  if (WINDOW) { return select(0u, count - u.window, count > u.window); }
  return 0u;
}
fn slotOf(row: u32) -> u32 {
  if (SLOTTED) { return min(slots[row], u.slots - 1u); }
  return row;
}
fn score(a: f32) -> f32 {
  if (SOFTCAP) { return u.cap2 * preciseTanh(a / u.cap2); }
  return a;
}
`;

/** Row n's keys and values go to cache[slots[n], positions[n]]; rows that point outside of the cache are dropped. */
export const KV_WRITE = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / C;
  let c = i % C;
  let slot = slots[row];
  let position = positions[row];
  if (slot >= u.slots || position >= u.capacity) { return; }
  let at = row * u.width + u.width - 2u * C + c;
  let to = (slot * u.capacity + position) * C + c;
  keys[to] = qkv[at];
  values[to] = qkv[at + C];
}
`;

/** Copies the first lengths[m] tokens of slot from[m] to slot to[m]; an invocation owns one column of one copy. */
export const KV_FORK = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let m = i / C;
  let a = source[m];
  let b = destination[m];
  if (a >= u.slots || b >= u.slots || a == b) { return; }
  let count = min(lengths[m], u.capacity);
  var there = a * u.capacity * C + i % C;
  var here = b * u.capacity * C + i % C;
  for (var t = 0u; t < count; t++) {
    keys[here] = keys[there];
    values[here] = values[there];
    there += C;
    here += C;
  }
}
`;

/**
 * One invocation per (row, head), for CPU adapters: every load serves one product whatever the layout, so nothing is
 * gained by sharing. Two keys at a time halve the traffic of q and the output in memory.
 */
export const CACHED_ATTENTION_SERIAL = /* wgsl */ `${FEATURES}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / u.heads;
  let head = i % u.heads;
  var q: array<A4, D4>;
  var o: array<A4, D4>;
  for (var c = 0u; c < u.d4; c++) { q[c] = A4(qkv[row * u.width + head * D4 + c]) * u.scale2; }
  let count = min(lengths[row], u.capacity);
  let base = slotOf(row) * u.capacity * u.stride + head / u.group * D4;
  var m = LOWEST;
  var l = 0.0;
  for (var j = firstKey(count); j < count; j += 2u) {
    let at0 = base + j * u.stride;
    let at1 = base + min(j + 1u, count - 1u) * u.stride;
    var a = A4(0.0);
    var b = A4(0.0);
    for (var c = 0u; c < u.d4; c++) {
      a = fma(q[c], A4(keys[at0 + c]), a);
      b = fma(q[c], A4(keys[at1 + c]), b);
    }
    let s0 = score(a.x + a.y + a.z + a.w);
    let s1 = select(LOWEST, score(b.x + b.y + b.z + b.w), j + 1u < count);
    let top = max(m, max(s0, s1));
    let f = exp2(m - top);
    let p0 = exp2(s0 - top);
    let p1 = select(0.0, exp2(s1 - top), j + 1u < count);
    m = top;
    l = l * f + p0 + p1;
    for (var c = 0u; c < u.d4; c++) {
      o[c] = fma(A4(p1), A4(values[at1 + c]), fma(A4(p0), A4(values[at0 + c]), o[c] * f));
    }
  }
  let g = select(0.0, 1.0 / l, count > 0u);
  for (var c = 0u; c < u.d4; c++) { out[i * D4 + c] = T4(o[c] * g); }
}
`;

/** Columns that turn together are HALF vectors apart; angles are tabled as in rope.wgsl.ts. */
const ROTATING = `
var<workgroup> newKey: array<A4, D4>;
var<workgroup> newValue: array<A4, D4>;
fn turned(head: u32, c: u32, position: u32) -> A4 {
  let here = A4(qkv[head + c]);
  if (c >= 2u * HALF) { return here; }
  let second = c >= HALF;
  let other = A4(qkv[head + select(c + HALF, c - HALF, second)]);
  let low = (position % LOW) * 2u * HALF + c % HALF;
  let high = (LOW + min(position / LOW, HIGH - 1u)) * 2u * HALF + c % HALF;
  let co = angles[low] * angles[high] - angles[low + HALF] * angles[high + HALF];
  let si = angles[low + HALF] * angles[high] + angles[low] * angles[high + HALF];
  return here * co + select(-other, other, second) * si;
}`;

/** `own` is the place of the row's own key; no place where it is dropped. */
const TURN = `let position = positions[row];
  let keyHead = head / u.group;
  let own = select(0xffffffffu, position, slots[row] < u.slots && position < u.capacity);
  if (lid < D4) {
    let key = row * u.width + (u.heads + keyHead) * D4;
    query[lid] = turned(row * u.width + head * D4, lid, position) * u.scale2;
    newKey[lid] = turned(key, lid, position);
    newValue[lid] = A4(qkv[key + u.stride + lid]);
    if (own < u.capacity && head % u.group == 0u) {
      let to = (slots[row] * u.capacity + position) * u.stride + keyHead * D4 + lid;
      keys[to] = T4(newKey[lid]);
      values[to] = T4(newValue[lid]);
    }
  }`;

/**
 * One workgroup per (row, head), for GPUs: invocations are keys while scores are computed, and (group of keys, column)
 * while values are summed. SPLIT = WG / D4 groups of keys, added at the end.
 *
 * Rotating, queries and keys come as they were projected: the row's own key is turned by its position, as in rope.wgsl.ts,
 * and goes to cache[slots[row], positions[row]] together with its value. Workgroups of other heads do not wait for that:
 * they turn the same key themselves.
 */
const workgroup = (rotating: boolean): string => /* wgsl */ `${FEATURES}
${rotating ? ROTATING : ""}
var<workgroup> query: array<A4, D4>;
var<workgroup> scores: array<f32, WG>;
var<workgroup> sums: array<A4, WG>;
var<workgroup> totals: array<f32, WG>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let task = linearId(wid, nwg);
  if (task >= u.n) { return; }
  let row = task / u.heads;
  let head = task % u.heads;
  let count = min(lengths[row], u.capacity);
  let base = slotOf(row) * u.capacity * u.stride + head / u.group * D4;
  ${rotating ? TURN : "if (lid < D4) { query[lid] = A4(qkv[row * u.width + head * D4 + lid]) * u.scale2; }"}
  let c = lid % D4;
  let split = lid / D4;
  var m = LOWEST;
  var l = 0.0;
  var o = A4(0.0);
  for (var first = firstKey(count); first < count; first += WG) {
    workgroupBarrier();
    let size = min(WG, count - first);
    var s = A4(0.0);
    if (lid < size) {
      let at = base + (first + lid) * u.stride;
      ${rotating ? "if (first + lid == own) { for (var k = 0u; k < D4; k++) { s = fma(query[k], newKey[k], s); } } else {" : "{"}
        for (var k = 0u; k < D4; k++) { s = fma(query[k], A4(keys[at + k]), s); }
      }
    }
    scores[lid] = select(LOWEST, score(s.x + s.y + s.z + s.w), lid < size);
    workgroupBarrier();
    var top = m;
    for (var j = 0u; j < size; j++) { top = max(top, scores[j]); }
    let f = exp2(m - top);
    m = top;
    l *= f;
    o *= f;
    if (split < SPLIT) {
      for (var j = split; j < size; j += SPLIT) {
        let p = exp2(scores[j] - top);
        l += p;
        ${rotating ? "if (first + j == own) { o = fma(A4(p), newValue[c], o); continue; }" : ""}
        o = fma(A4(p), A4(values[base + (first + j) * u.stride + c]), o);
      }
    }
  }
  sums[lid] = o;
  totals[lid] = l;
  workgroupBarrier();
  if (lid < D4) {
    for (var k = 1u; k < SPLIT; k++) {
      o += sums[k * D4 + c];
      l += totals[k * D4 + c];
    }
    out[task * D4 + c] = T4(o * select(0.0, 1.0 / l, count > 0u));
  }
}
`;

export const CACHED_ATTENTION_WORKGROUP = workgroup(false);
export const CACHED_ATTENTION_ROTATING = workgroup(true);
