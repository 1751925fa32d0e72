/**
 * Matrix product for GPUs: a workgroup owns BM x BN outputs and walks k in steps of BK through shared memory; each
 * invocation keeps 8 x 4 sums in registers, so it does 32 fma per 3 reads of shared memory. Both operands are stored
 * k-major, in vec4 along m or n, whatever their layout in memory: an invocation fetches a 4 x 4 block and transposes it in
 * registers if k is the contiguous dimension.
 *
 * Constants: BM, BN, BK (WG = BM * BN / 32 invocations, at least one per 4 x 4 block), A_ALONG_K, B_ALONG_K.
 * A grid layer z is (batch, split of k); with more than one split the output is a stack of partial sums.
 */
export const TILED_MATMUL = `
const ROWS4 = BM / 4u;
const COLS4 = BN / 4u;
const STEPS = BK / 4u;
const A_BLOCKS = ROWS4 * STEPS;
const B_BLOCKS = COLS4 * STEPS;
// One spare vec4 per row of k keeps the transposed stores on different banks.
var<workgroup> tileA: array<vec4f, BK * (ROWS4 + 1u)>;
var<workgroup> tileB: array<vec4f, BK * (COLS4 + 1u)>;

// Column q of the result: step k + q of rows (or columns) r .. r + 3; zero past the end of k.
fn blockA(base: u32, r: u32, k: u32) -> mat4x4f {
  if (A_ALONG_K) {
    let last = u.m - 1u;
    let left = max(u.k, k) - k;
    return transpose(mat4x4f(
      readA(base + min(r, last) * u.lda + k, left), readA(base + min(r + 1u, last) * u.lda + k, left),
      readA(base + min(r + 2u, last) * u.lda + k, left), readA(base + min(r + 3u, last) * u.lda + k, left)));
  }
  let left = max(u.m, r) - r;
  let i = base + k * u.lda + r;
  return mat4x4f(
    readA(i, select(0u, left, k < u.k)), readA(i + u.lda, select(0u, left, k + 1u < u.k)),
    readA(i + 2u * u.lda, select(0u, left, k + 2u < u.k)), readA(i + 3u * u.lda, select(0u, left, k + 3u < u.k)));
}

fn blockB(base: u32, r: u32, k: u32) -> mat4x4f {
  if (B_ALONG_K) {
    let last = u.n - 1u;
    let left = max(u.k, k) - k;
    return transpose(mat4x4f(
      readB(base + min(r, last) * u.ldb + k, left), readB(base + min(r + 1u, last) * u.ldb + k, left),
      readB(base + min(r + 2u, last) * u.ldb + k, left), readB(base + min(r + 3u, last) * u.ldb + k, left)));
  }
  let left = max(u.n, r) - r;
  let i = base + k * u.ldb + r;
  return mat4x4f(
    readB(i, select(0u, left, k < u.k)), readB(i + u.ldb, select(0u, left, k + 1u < u.k)),
    readB(i + 2u * u.ldb, select(0u, left, k + 2u < u.k)), readB(i + 3u * u.ldb, select(0u, left, k + 3u < u.k)));
}

@compute @workgroup_size(BM * BN / 32u)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let batch = wid.z / u.splits;
  let first = (wid.z % u.splits) * u.span;
  let end = min(first + u.span, u.k);
  let row0 = wid.y * BM;
  let col0 = wid.x * BN;
  let x = lid % COLS4;
  let y = lid / COLS4;

  // Which 4 x 4 block this invocation fetches: neighbours run along the contiguous dimension.
  let fetchesA = lid < A_BLOCKS;
  let fetchesB = !fetchesA && lid < A_BLOCKS + B_BLOCKS;
  let block = select(lid - A_BLOCKS, lid, fetchesA);
  let along = select(B_ALONG_K, A_ALONG_K, fetchesA);
  let wide = select(COLS4, ROWS4, fetchesA);
  let r4 = select(block % wide, block / STEPS, along);
  let k4 = select(block / wide, block % STEPS, along);

  var c0 = vec4f(); var c1 = vec4f(); var c2 = vec4f(); var c3 = vec4f();
  var c4 = vec4f(); var c5 = vec4f(); var c6 = vec4f(); var c7 = vec4f();
  for (var k = first; ; k += BK) {
    // The next block is on its way while the current one is consumed.
    var next = mat4x4f();
    if (k < end) {
      if (fetchesA) { next = blockA(u.firstA + batch * u.sa, row0 + 4u * r4, k + 4u * k4); }
      if (fetchesB) { next = blockB(u.firstB + batch * u.sb, col0 + 4u * r4, k + 4u * k4); }
    }
    if (k > first) {
      for (var q = 0u; q < BK; q += 1u) {
        let upper = tileA[q * (ROWS4 + 1u) + 2u * y];
        let lower = tileA[q * (ROWS4 + 1u) + 2u * y + 1u];
        let b4 = tileB[q * (COLS4 + 1u) + x];
        c0 = fma(vec4f(upper.x), b4, c0);
        c1 = fma(vec4f(upper.y), b4, c1);
        c2 = fma(vec4f(upper.z), b4, c2);
        c3 = fma(vec4f(upper.w), b4, c3);
        c4 = fma(vec4f(lower.x), b4, c4);
        c5 = fma(vec4f(lower.y), b4, c5);
        c6 = fma(vec4f(lower.z), b4, c6);
        c7 = fma(vec4f(lower.w), b4, c7);
      }
    }
    if (k >= end) { break; }
    workgroupBarrier();
    if (fetchesA) {
      let at = 4u * k4 * (ROWS4 + 1u) + r4;
      tileA[at] = next[0];
      tileA[at + ROWS4 + 1u] = next[1];
      tileA[at + 2u * (ROWS4 + 1u)] = next[2];
      tileA[at + 3u * (ROWS4 + 1u)] = next[3];
    }
    if (fetchesB) {
      let at = 4u * k4 * (COLS4 + 1u) + r4;
      tileB[at] = next[0];
      tileB[at + COLS4 + 1u] = next[1];
      tileB[at + 2u * (COLS4 + 1u)] = next[2];
      tileB[at + 3u * (COLS4 + 1u)] = next[3];
    }
    workgroupBarrier();
  }
  let row = row0 + 8u * y;
  let col = col0 + 4u * x;
  // Once per invocation, so short code is worth more here than registers.
  var sums = array<vec4f, 8>(c0, c1, c2, c3, c4, c5, c6, c7);
  for (var i = 0u; i < min(8u, max(u.m, row) - row); i += 1u) { put(wid.z, row + i, col, sums[i]); }
}
`;

/** Adds the partial sums of a product split along k; one invocation per output. Binding `parts` is f32. */
export const MATMUL_COMBINE = `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u,
        @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * 64u + lid;
  if (i >= u.size) { return; }
  let batch = i / u.sc;
  var at = batch * u.splits * u.sc + i % u.sc;
  var sum = 0.0;
  for (var s = 0u; s < u.splits; s += 1u) {
    sum += parts[at];
    at += u.sc;
  }
  let within = i % u.sc;
  finish(batch, within / u.n, within % u.n, sum);
}
`;
