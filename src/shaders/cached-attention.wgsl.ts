/**
 * Attention of new tokens against a key/value cache on GPUs (kvcache.wgsl.ts says what cache and rows are). A workgroup has
 * one row and HEADS query heads on one KV head, so that keys and values are read once for all of them, and one of
 * `u.splits` parts of the row's keys, so that a few rows with long caches fill a GPU (Flash-Decoding, Dao et al. 2023).
 *
 * Invocations are keys while scores are computed, and (group of keys, column) while values are summed.
 *
 * Rotating, queries and keys come as they were projected: the row's own key is turned by its position, as in rope.wgsl.ts,
 * and goes to cache[slots[row], positions[row]] together with its value. No workgroup waits for that: each turns the same
 * key itself.
 */
import { CODES, EIGHT_BITS, type Kept, NUMBERS } from "./kv-codes.wgsl.ts";
import { FEATURES } from "./kvcache.wgsl.ts";

/** Vector i of qkv; PARTS: the sum of its u.terms parts, of u.size vectors each. */
const PROJECTED = `
fn projected(i: u32) -> A4 {
  var sum = A4(qkv[i]);
  if (PARTS) { for (var k = 1u; k < u.terms; k++) { sum += A4(qkv[k * u.size + i]); } }
  return sum;
}`;

/** Columns that turn together are HALF vectors apart; angles are tabled as in rope.wgsl.ts. */
const ROTATING = `
var<workgroup> newKey: array<A4, D4>;
var<workgroup> newValue: array<A4, D4>;
fn turned(head: u32, c: u32, position: u32) -> A4 {
  let here = projected(head + c);
  if (c >= 2u * HALF) { return here; }
  let second = c >= HALF;
  let other = projected(head + select(c + HALF, c - HALF, second));
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
  for (var e = lid; e < HEADS * D4; e += WG) {
    query[e] = turned(row * u.width + (head + e / D4) * D4, e % D4, position) * u.scale2;
  }
  if (lid < D4) {
    let key = row * u.width + (u.heads + keyHead) * D4;
    newKey[lid] = turned(key, lid, position);
    newValue[lid] = projected(key + u.heads / u.group * D4 + lid);
  }
  let mayKeep = own < u.capacity && head % u.group == 0u && part == 0u;`;
const KEEP = `
  if (mayKeep && lid < D4) {
    let to = (slots[row] * u.capacity + position) * u.stride + keyHead * D4 + lid;
    keys[to] = vec4<KV>(newKey[lid]);
    values[to] = vec4<KV>(newValue[lid]);
  }`;
/** What the row sees of its own key and value is what others will: their codes. */
const KEEP_CODES = `
  workgroupBarrier();
  var topKey = 0u;
  var topValue = 0u;
  for (var k = 0u; k < D4; k++) {
    topKey = max(topKey, sizeBits(newKey[k]));
    topValue = max(topValue, sizeBits(newValue[k]));
  }
  let keyScale = scaleOf(topKey);
  let valueScale = scaleOf(topValue);
  workgroupBarrier();
  if (lid < D4) {
    let key = wordOf(newKey[lid], unscaled(topKey));
    let value = wordOf(newValue[lid], unscaled(topValue));
    newKey[lid] = codes(key);
    newValue[lid] = codes(value);
    if (mayKeep) {
      let to = (slots[row] * u.capacity + position) * u.stride + keyHead * (D4 + 1u);
      keys[to + lid] = key;
      values[to + lid] = value;
      if (lid == 0u) {
        keys[to + D4] = bitcast<u32>(keyScale);
        values[to + D4] = bitcast<u32>(valueScale);
      }
    }
  }`;
const PLAIN =
  "for (var e = lid; e < HEADS * D4; e += WG) { query[e] = projected(row * u.width + head * D4 + e) * u.scale2; }";

/**
 * A vec4 of key or value number `j`, which is the row's own or lies in the cache. In place of its own one, which may be being
 * written, a row reads a neighbour and drops it: loads without branches are under way together.
 */
const kept = (rotating: boolean, j: string, own: string, cached: string): string =>
  rotating ? `select(${cached}, ${own}, ${j} == own)` : cached;
const placeOf = (rotating: boolean, j: string): string =>
  rotating ? `select(${j}, select(own - 1u, min(1u, u.capacity - 1u), own == 0u), ${j} == own)` : j;

const attend = (rotating: boolean, coded: boolean, finish: string): string => {
  const { head, read, scale }: Kept = coded ? EIGHT_BITS : NUMBERS;
  const scaleOf = (array: "keys" | "values", own: string): string =>
    rotating ? `select(${scale(array, "at")}, ${own}, mine == own)` : scale(array, "at");
  const scales = coded
    ? `let keyBy = ${scaleOf("keys", "keyScale")};\n    let valueBy = ${scaleOf("values", "valueScale")};`
    : "";
  return /* wgsl */ `${FEATURES}${coded ? CODES : ""}${PROJECTED}
${rotating ? ROTATING : ""}
const WG = 64u;
const GROUPS = WG / D4;
var<workgroup> query: array<A4, HEADS * D4>;
var<workgroup> weights: array<f32, HEADS * WG>;
var<workgroup> tops: array<f32, HEADS * 8u>;
var<workgroup> sums: array<A4, WG>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let task = linearId(wid, nwg);
  if (task >= u.tasks) { return; }
  let part = task % u.splits;
  let bunches = u.heads / HEADS;
  let row = task / u.splits / bunches;
  let head = task / u.splits % bunches * HEADS;
  let count = min(lengths[row], u.capacity);
  // Parts are whole tiles of WG keys, as even as these are.
  let start = firstKey(count);
  let span = (count - start + u.splits * WG - 1u) / (u.splits * WG) * WG;
  let begin = start + part * span;
  let end = min(begin + span, count);
  let base = slotOf(row) * u.capacity * u.stride + head / u.group * ${head};
  ${rotating ? TURN + (coded ? KEEP_CODES : KEEP) : PLAIN}
  let c = lid % D4;
  let first = lid / D4;
  var m: array<f32, HEADS>;
  var l: array<f32, HEADS>;
  var o: array<A4, HEADS>;
  for (var h = 0u; h < HEADS; h++) { m[h] = LOWEST; }
  for (var tile = begin; tile < end; tile += WG) {
    workgroupBarrier();
    let size = min(WG, end - tile);
    let mine = tile + min(lid, size - 1u);
    let at = base + ${placeOf(rotating, "mine")} * u.stride;
    ${scales}
    var s = array<A4, HEADS>();
    for (var k = 0u; k < D4; k++) {
      let key = ${kept(rotating, "mine", "newKey[k]", read("keys", "at + k"))};
      for (var h = 0u; h < HEADS; h++) { s[h] = fma(query[h * D4 + k], key, s[h]); }
    }
    var scores = array<f32, HEADS>();
    for (var h = 0u; h < HEADS; h++) {
      scores[h] = select(LOWEST, score(${coded ? "keyBy * " : ""}(s[h].x + s[h].y + s[h].z + s[h].w)), lid < size);
      weights[h * WG + lid] = scores[h];
    }
    workgroupBarrier();
    if (lid < HEADS * 8u) {
      var top = weights[lid * 8u];
      for (var k = 1u; k < 8u; k++) { top = max(top, weights[lid * 8u + k]); }
      tops[lid] = top;
    }
    workgroupBarrier();
    for (var h = 0u; h < HEADS; h++) {
      var top = m[h];
      for (var k = 0u; k < 8u; k++) { top = max(top, tops[h * 8u + k]); }
      let f = exp2(m[h] - top);
      let p = select(0.0, exp2(scores[h] - top), lid < size);
      m[h] = top;
      l[h] = fma(l[h], f, p);
      o[h] *= f;
      weights[h * WG + lid] = p${coded ? " * valueBy" : ""};
    }
    workgroupBarrier();
    if (first < GROUPS) {
      // Four loads are under way at a time; those past the end repeat the last one and weigh nothing.
      for (var j = first; j < size; j += 4u * GROUPS) {
        for (var q = 0u; q < 4u; q++) {
          let i = min(j + q * GROUPS, size - 1u);
          let place = base + ${placeOf(rotating, "(tile + i)")} * u.stride + c;
          let value = select(A4(), ${kept(rotating, "(tile + i)", "newValue[c]", read("values", "place"))}, j + q * GROUPS < size);
          for (var h = 0u; h < HEADS; h++) { o[h] = fma(A4(weights[h * WG + i]), value, o[h]); }
        }
      }
    }
  }
  workgroupBarrier();
  for (var h = 0u; h < HEADS; h++) { weights[h * WG + lid] = l[h]; }
  for (var h = 0u; h < HEADS; h++) {
    workgroupBarrier();
    sums[lid] = o[h];
    workgroupBarrier();
    if (lid < D4) {
      var total = 0.0;
      for (var k = 0u; k < WG; k++) { total += weights[h * WG + k]; }
      var sum = sums[lid];
      for (var k = 1u; k < GROUPS; k++) { sum += sums[k * D4 + lid]; }
      let i = row * u.heads + head + h;
      ${finish}
    }
  }
}
`;
};

/**
 * bindings: qkv, keys, values, lengths, slots, rotating also positions and angles, then out
 * @param coded the cache is in codes (kv-codes.wgsl.ts), and `u.stride` counts words
 */
export const cachedAttentionWhole = (rotating: boolean, coded: boolean): string =>
  attend(rotating, coded, "out[i * D4 + lid] = T4(sum * select(0.0, 1.0 / total, count > 0u));");

/** The same with parts f32 [B * H, splits, D + 4] in place of out: sums, then their maximum and total weight. */
export const cachedAttentionPart = (rotating: boolean, coded: boolean): string =>
  attend(
    rotating,
    coded,
    `let to = (i * u.splits + part) * (D4 + 1u);
      parts[to + lid] = sum;
      if (lid == 0u) { parts[to + D4] = A4(m[h], total, 0.0, 0.0); }`,
  );

/** One invocation per vec4 of the result. bindings: parts, lengths, out */
export const CACHED_ATTENTION_JOIN = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let id = linearId(wid, nwg) * WG + lid;
  if (id >= u.n) { return; }
  let i = id / D4;
  let first = i * u.splits;
  var top = parts[first * (D4 + 1u) + D4].x;
  for (var k = 1u; k < u.splits; k++) { top = max(top, parts[(first + k) * (D4 + 1u) + D4].x); }
  var total = 0.0;
  var sum = A4();
  for (var k = first; k < first + u.splits; k++) {
    let part = parts[k * (D4 + 1u) + D4];
    let w = exp2(part.x - top);
    total = fma(part.y, w, total);
    sum = fma(A4(w), parts[k * (D4 + 1u) + id % D4], sum);
  }
  out[id] = T4(sum * select(0.0, 1.0 / total, min(lengths[i / u.heads], u.capacity) > 0u));
}
`;
