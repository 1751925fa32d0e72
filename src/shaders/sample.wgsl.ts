/**
 * One step of sampling for a batch of rows, without sorting and without reading back: thresholds of top-k and top-p are
 * found digit by digit on quantised logits, then the Gumbel-max rule picks among the survivors.
 */

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
export const SAMPLE_COMMON = `
fn mulHigh(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let mid = a1 * b0 + ((a0 * b0) >> 16u);
  let low = a0 * b1 + (mid & 0xffffu);
  return a1 * b1 + (mid >> 16u) + (low >> 16u);
}

// Philox4x32-10, as src/runtime/rng.ts: key = seed, counter = (stream, step, column / 4, DOMAIN), one word per column.
fn randomBits(key: vec2u, stream: u32, step: u32, quad: u32) -> vec4u {
  var k = key;
  var x = vec4u(stream, step, quad, DOMAIN);
  for (var round = 0u; round < 10u; round += 1u) {
    let hi0 = mulHigh(0xd2511f53u, x.x);
    let lo0 = 0xd2511f53u * x.x;
    let hi1 = mulHigh(0xcd9e8d57u, x.z);
    let lo1 = 0xcd9e8d57u * x.z;
    x = vec4u(hi1 ^ x.y ^ k.x, lo1, hi0 ^ x.w ^ k.y, lo0);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return x;
}

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

export const SAMPLE = `${SAMPLE_COMMON}
fn isEos(token: u32) -> bool { return token == u.eos0 || token == u.eos1 || token == u.eos2 || token == u.eos3; }

fn masked(v: F, i: u32, suppress: bool) -> F {
  var z = v;
  if (SUPPRESS && suppress) {
    if (u.eos0 / WIDTH == i) { z -= 1e30 * oneHot(u.eos0 % WIDTH); }
    if (u.eos1 / WIDTH == i) { z -= 1e30 * oneHot(u.eos1 % WIDTH); }
    if (u.eos2 / WIDTH == i) { z -= 1e30 * oneHot(u.eos2 % WIDTH); }
    if (u.eos3 / WIDTH == i) { z -= 1e30 * oneHot(u.eos3 % WIDTH); }
  }
  return z;
}

@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  let start = safe * u.n;
  let info = rows[safe]; // stream, done, length
  let n = select(u.n, 0u, info.y != 0u); // finished rows cost nothing, but take part in the reductions
  let suppress = info.z < u.minNew;

  var topRaw = F(LOWEST);
  var top = F(LOWEST);
  for (var i = lane; i < n; i += LANES) {
    let v = logits[start + i];
    topRaw = max(topRaw, v);
    top = max(top, masked(v, i, suppress));
  }
  let mRaw = rowMax(hmax(topRaw), lid);
  let m = rowMax(hmax(top), lid);

  // Phase 0 looks for the largest level that at least topK logits reach, phase 1 for the largest level above which lies
  // at least topP of the mass that phase 0 left. Both weigh the logits that reach three candidates per digit.
  var threshold = 0u;
  for (var phase = select(1u, 0u, TOP_K); phase < select(1u, 2u, TOP_P); phase += 1u) {
    let survivors = U(threshold);
    var wanted = u.topK;
    var t = 0u;
    for (var digit = 0u; digit < 13u; digit += 1u) {
      let shift = 24u - 2u * digit; // the first round, beyond all levels, only adds up the total mass
      var c0 = F(0.0);
      var c1 = F(0.0);
      var c2 = F(0.0);
      var c3 = F(0.0);
      for (var i = lane; i < n; i += LANES) {
        let d = (masked(logits[start + i], i, suppress) - m) * u.it;
        let l = level(d);
        let weight = select(select(F(0.0), exp(d), l >= survivors), F(1.0), U(phase) == U(0u));
        c0 += weight;
        c1 += select(F(0.0), weight, l >= U(t | (1u << shift)));
        c2 += select(F(0.0), weight, l >= U(t | (2u << shift)));
        c3 += select(F(0.0), weight, l >= U(t | (3u << shift)));
      }
      let sums = rowSum4(vec4f(hsum(c0), hsum(c1), hsum(c2), hsum(c3)), lid);
      if (digit == 0u && phase == 1u) { wanted = u.topP * sums.x; }
      t |= select(select(select(0u, 1u, sums.y >= wanted), 2u, sums.z >= wanted), 3u, sums.w >= wanted) << shift;
    }
    threshold = max(threshold, t);
  }

  var sumRaw = F(0.0);
  var sum = F(0.0);
  var best = LOWEST;
  var token = 0u;
  for (var i = lane; i < n; i += LANES) {
    let v = logits[start + i];
    let z = masked(v, i, suppress);
    sumRaw += exp(v - mRaw);
    var score = z;
    if (!GREEDY) {
      let d = (z - m) * u.it;
      let keep = level(d) >= U(threshold);
      sum += select(F(0.0), exp(d), keep);
      score = select(F(LOWEST), d - log(exponentials(vec2u(u.seed0, u.seed1), info.x, info.z, i)), keep);
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
    if (info.y != 0u) {
      next[row] = u.pad;
    } else {
      token = min(token, u.n * WIDTH - 1u); // logits that are NaN must not make an id outside the vocabulary
      let z = hsum(logits[start + token / WIDTH] * oneHot(token % WIDTH));
      let at = row * u.maxNew + info.z;
      tokens[at] = token;
      rings[at] = select((z - m) * u.it - log(sums.y), 0.0, GREEDY);
      rings[u.rows * u.maxNew + at] = z - mRaw - log(sums.x);
      let length = info.z + 1u;
      let done = isEos(token) || length >= u.maxNew;
      rows[row] = vec4u(info.x, select(0u, 1u, done), length, info.w);
      next[row] = token;
      positions[row] += 1u;
      cached[row] = positions[row] + 1u;
    }
  }
}`;
