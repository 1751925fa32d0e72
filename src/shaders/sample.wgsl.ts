/**
 * One step of sampling for a batch of rows that come and go, each with options of its own. A slot's options and progress
 * are STATE words of `state`; row r of the logits belongs to slot slots[r]. Nothing is sorted or read back: thresholds of
 * top-k and top-p are found digit by digit on quantised logits, then the Gumbel-max rule picks among the survivors.
 */
import { PHILOX } from "./philox.wgsl.ts";

/** Words of a slot's state, by name and type; the kernels below and the host share this table. */
export const SLOT_FIELDS = {
  stream: "u32",
  done: "u32",
  length: "u32",
  minNew: "u32",
  seed0: "u32",
  seed1: "u32",
  it: "f32",
  topK: "f32",
  topP: "f32",
  logMinP: "f32",
  greedy: "u32",
  maxNew: "u32",
  repetition: "f32",
  presence: "f32",
  frequency: "f32",
  penalised: "u32",
  /** 1: nobody asks for the most probable tokens. */
  noTop: "u32",
} as const;
const names = Object.keys(SLOT_FIELDS);
/** End tokens follow the named fields. */
export const SLOT_ENDS = 8;
export const SLOT_WORDS = names.length + SLOT_ENDS;

const FIELDS = `${names.map((name, i) => `const ${name.toUpperCase()} = ${i}u;`).join("\n")}
const ENDS = ${names.length}u;
const END_COUNT = ${SLOT_ENDS}u;
const STATE = ${SLOT_WORDS}u;
`;

/** Rows of `list` are a slot's new state, then the slot, its position and how much of the cache it attends to. */
export const SLOT_ADMIT = `${FIELDS}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let start = i * (STATE + 3u);
  let slot = list[start + STATE];
  for (var w = 0u; w < STATE; w++) { state[slot * STATE + w] = list[start + w]; }
  feed[slot] = 0u;
  feed[u.slots + slot] = list[start + STATE + 1u];
  feed[2u * u.slots + slot] = list[start + STATE + 2u];
}
`;

/** Clears the token counts of the listed slots. */
export const SLOT_CLEAR = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  counts[list[i / u.vocab] * u.vocab + i % u.vocab] = 0u;
}
`;

/** Sets the counts of (slot, token, count) triples, each pair once: the top bit says that the prompt has the token. */
export const SLOT_MARK = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let token = list[3u * i + 1u];
  if (token < u.vocab) { counts[list[3u * i] * u.vocab + token] = list[3u * i + 2u]; }
}
`;

const PENALTIES = `${FIELDS}
// Repetition as Hugging Face defines it (prompt and response), presence and frequency as OpenAI does (response only).
fn penalised(z: f32, slot: u32, token: u32) -> f32 {
  if (!PENALTY) { return z; }
  let base = slot * STATE;
  if (state[base + PENALISED] == 0u) { return z; }
  let seen = counts[slot * u.vocab + token];
  if (seen == 0u) { return z; }
  let r = bitcast<f32>(state[base + REPETITION]);
  let drawn = f32(seen & 0x7fffffffu);
  let flat = select(0.0, bitcast<f32>(state[base + PRESENCE]), drawn > 0.0);
  return select(z * r, z / r, z > 0.0) - drawn * bitcast<f32>(state[base + FREQUENCY]) - flat;
}
`;

/** Copies logits, with the penalties of their slots. */
export const SLOT_PENALTIES = `${PENALTIES}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  out[i] = penalised(raw[i], slots[i / u.vocab], i % u.vocab);
}
`;

/** Single logits anew: entries are row, token, bias (added before the penalties), 1 for tokens that wait for minNew. */
export const SLOT_BIASES = `${PENALTIES}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let entry = entries[i];
  if (entry.y >= u.vocab) { return; }
  let slot = slots[entry.x];
  let at = entry.x * u.vocab + entry.y;
  let early = state[slot * STATE + LENGTH] < state[slot * STATE + MINNEW];
  out[at] = select(penalised(raw[at] + bitcast<f32>(entry.z), slot, entry.y), -1e30, entry.w != 0u && early);
}
`;

/** The TOP largest logits of each row with their log-probabilities: largest first, the lower id first among equals. */
export const SLOT_TOP = `${FIELDS}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  let start = safe * u.n;
  let base = slots[safe] * STATE;
  let n = select(u.n, 0u, state[base + DONE] != 0u || state[base + NOTOP] != 0u);
  var m = 0.0;
  var logZ = 0.0;
  var last = 3.0e38; // the value and the token taken before
  var lastToken = 0u;
  for (var k = 0u; k < TOP; k++) {
    var best = LOWEST;
    var token = 0xffffffu;
    for (var i = lane; i < n; i += LANES) {
      let v = logits[start + i];
      for (var c = 0u; c < WIDTH; c++) {
        let z = hsum(v * oneHot(c));
        let id = i * WIDTH + c;
        if ((z < last || (z == last && id > lastToken && k > 0u)) && z > best) {
          best = z;
          token = id;
        }
      }
    }
    let value = rowMax(best, lid);
    token = u32(-rowMax(select(-16777215.0, -f32(token), best == value), lid));
    if (k == 0u) {
      m = value;
      var sum = F(0.0);
      for (var i = lane; i < n; i += LANES) { sum += exp(logits[start + i] - m); }
      logZ = log(max(rowSum(hsum(sum), lid), 1e-30));
    }
    last = value;
    lastToken = token;
    if (row < u.rows && lane == 0u) {
      let at = ((u.step * u.stride + row) * TOP + k) * 2u;
      out[at] = token;
      out[at + 1u] = bitcast<u32>(value - m - logZ);
    }
  }
}
`;

/** What depends on the vector width: noise of the columns i WIDTH .. i WIDTH + WIDTH - 1, and which of them equals m. */
export const SAMPLE_WIDTH = {
  1: `
fn exponentials(key: vec2u, stream: u32, step: u32, i: u32) -> F { return exponential(randomBits(key, stream, step, i / 4u))[i % 4u]; }
fn firstEqual(v: F, m: f32) -> u32 { return 0u; }
`,
  4: `
fn exponentials(key: vec2u, stream: u32, step: u32, i: u32) -> F { return exponential(randomBits(key, stream, step, i)); }
fn firstEqual(v: F, m: f32) -> u32 { return select(select(select(3u, 2u, v.z == m), 1u, v.y == m), 0u, v.x == m); }
`,
} as const;

/** Random numbers of a token, and logits as levels that thresholds can be searched among. */
const COMMON = `${PHILOX}
// key = seed, counter = (stream, step, column / 4, DOMAIN); one word per column.
fn randomBits(key: vec2u, stream: u32, step: u32, quad: u32) -> vec4u { return philox(key, vec4u(stream, step, quad, DOMAIN)); }

// -ln(1 - v) for v uniform in (0, 1). Small values decide who wins, so they are computed without cancellation.
fn exponential(bits: vec4u) -> vec4f {
  let v = vec4f(bits) * 2.3283064365386963e-10 + 1.1641532182693481e-10;
  let series = v * (1.0 + v * (0.5 + v * (0.33333333 + v * (0.25 + v * 0.2))));
  return select(-log(max(1.0 - v, vec4f(2.9802322e-8))), series, v < vec4f(0.02));
}

// How far a logit lies below the best one, as a 24-bit level (the best one has the highest): steps of 2^-18 nats of
// log-probability, far below what f32 logits mean, so thresholds are found in 12 digits of 2 bits.
fn level(d: F) -> U { return U(0xffffffu) - U(min(-d, F(63.99999)) * 262144.0); }

`;

/**
 * One token for each row. `feed` holds, for all slots, the next tokens, then their positions, then how much of the cache
 * they attend to. `out` gets token, log-probability in the sampling distribution and in the plain softmax, done.
 */
export const SLOT_SAMPLE = `${FIELDS}${COMMON}
fn isEnd(base: u32, token: u32) -> bool {
  var found = false;
  for (var e = 0u; e < END_COUNT; e++) { found = found || state[base + ENDS + e] == token; }
  return found;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  let start = safe * u.n;
  let slot = slots[safe];
  let base = slot * STATE;
  let done = state[base + DONE] != 0u;
  let n = select(u.n, 0u, done);
  let length = state[base + LENGTH];
  let greedy = state[base + GREEDY] != 0u;
  let it = bitcast<f32>(state[base + IT]);
  let topK = bitcast<f32>(state[base + TOPK]);
  let topP = bitcast<f32>(state[base + TOPP]);

  var topRaw = F(LOWEST);
  var top = F(LOWEST);
  for (var i = lane; i < n; i += LANES) {
    top = max(top, logits[start + i]);
    if (ADJUSTED) { topRaw = max(topRaw, raw[start + i]); }
  }
  let m = rowMax(hmax(top), lid);
  var mRaw = m;
  if (ADJUSTED) { mRaw = rowMax(hmax(topRaw), lid); }

  // Phase 0 looks for the largest level that at least topK logits reach, phase 1 for the largest level above which lies
  // at least topP of the mass that phase 0 left. Both weigh the logits that reach three candidates per digit. Rows
  // without the option ignore what is found.
  var threshold = 0u;
  for (var phase = select(1u, 0u, TOP_K); phase < select(1u, 2u, TOP_P); phase += 1u) {
    let survivors = U(threshold);
    var wanted = topK;
    var t = 0u;
    for (var digit = 0u; digit < 13u; digit += 1u) {
      let shift = 24u - 2u * digit; // the first round, beyond all levels, only adds up the total mass
      var c0 = F(0.0);
      var c1 = F(0.0);
      var c2 = F(0.0);
      var c3 = F(0.0);
      for (var i = lane; i < n; i += LANES) {
        let d = (logits[start + i] - m) * it;
        let l = level(d);
        let weight = select(select(F(0.0), exp(d), l >= survivors), F(1.0), U(phase) == U(0u));
        c0 += weight;
        c1 += select(F(0.0), weight, l >= U(t | (1u << shift)));
        c2 += select(F(0.0), weight, l >= U(t | (2u << shift)));
        c3 += select(F(0.0), weight, l >= U(t | (3u << shift)));
      }
      let sums = rowSum4(vec4f(hsum(c0), hsum(c1), hsum(c2), hsum(c3)), lid);
      if (digit == 0u && phase == 1u) { wanted = topP * sums.x; }
      t |= select(select(select(0u, 1u, sums.y >= wanted), 2u, sums.z >= wanted), 3u, sums.w >= wanted) << shift;
    }
    let wants = select((topP < 1.0), (topK > 0.0), phase == 0u);
    threshold = select(threshold, max(threshold, t), wants);
  }

  let key = vec2u(state[base + SEED0], state[base + SEED1]);
  let stream = state[base + STREAM];
  let least = F(bitcast<f32>(state[base + LOGMINP]));
  var sumRaw = F(0.0);
  var sum = F(0.0);
  var best = LOWEST;
  var token = 0u;
  for (var i = lane; i < n; i += LANES) {
    let z = logits[start + i];
    if (ADJUSTED) { sumRaw += exp(raw[start + i] - mRaw); } else { sumRaw += exp(z - mRaw); }
    var score = z;
    if (SAMPLED && !greedy) {
      let d = (z - m) * it;
      let keep = (level(d) >= U(threshold)) & (d >= least);
      sum += select(F(0.0), exp(d), keep);
      score = select(F(LOWEST), d - log(exponentials(key, stream, length, i)), keep);
    }
    let high = hmax(score);
    if (high > best) {
      best = high;
      token = i * WIDTH + firstEqual(score, high);
    }
  }
  let sums = rowSum4(vec4f(hsum(sumRaw), hsum(sum), 0.0, 0.0), lid);
  // The lowest column among the lanes that hold the best score: exact in f32 up to 2^24 columns.
  let winner = rowMax(best, lid);
  token = u32(-rowMax(select(-16777216.0, -f32(token), best == winner), lid));

  if (row < u.rows && lane == 0u) {
    let at = (u.step * u.stride + row) * 4u;
    if (done) {
      out[at] = 0xffffffffu;
      feed[slot] = 0u;
      feed[2u * u.slots + slot] = 0u;
    } else {
      token = min(token, u.n * WIDTH - 1u); // logits that are NaN must not make an id outside the vocabulary
      let pick = oneHot(token % WIDTH);
      let z = hsum(logits[start + token / WIDTH] * pick);
      var zRaw = z;
      if (ADJUSTED) { zRaw = hsum(raw[start + token / WIDTH] * pick); }
      let ends = isEnd(base, token) || length + 1u >= state[base + MAXNEW];
      out[at] = token;
      out[at + 1u] = bitcast<u32>(select((z - m) * it - log(sums.y), 0.0, greedy));
      out[at + 2u] = bitcast<u32>(zRaw - mRaw - log(sums.x));
      out[at + 3u] = select(0u, 1u, ends);
      state[base + DONE] = select(0u, 1u, ends);
      state[base + LENGTH] = length + 1u;
      if (PENALTY && state[base + PENALISED] != 0u) { counts[slot * u.n * WIDTH + token] += 1u; }
      feed[slot] = token;
      let position = feed[u.slots + slot] + 1u;
      feed[u.slots + slot] = position;
      feed[2u * u.slots + slot] = position + 1u;
    }
  }
}
`;
