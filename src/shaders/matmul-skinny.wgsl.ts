/**
 * C = A B^T for at most 8 rows of A (decoding, score heads) on GPUs. Reading B once is the whole cost, so 16 invocations
 * walk one row of B together in vec4 and every value of B meets all rows of A in registers. A workgroup of 128 owns 8
 * columns. Constant: ROWS (rows of A held per invocation, 1 to 8).
 */
export const SKINNY_MATMUL = `
var<workgroup> parts: array<f32, ROWS * 128u>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % 16u;
  let col = wid.x * 8u + lid / 16u;
  let baseA = u.firstA + wid.z * u.sa;
  let rowB = u.firstB + wid.z * u.sb + min(col, u.n - 1u) * u.ldb;
  var sums: array<f32, ROWS>;
  for (var k = 4u * lane; k < u.k; k += 64u) {
    let b4 = readB(rowB + k, u.k - k);
    for (var i = 0u; i < ROWS; i += 1u) {
      sums[i] += dot(readA(baseA + min(i, u.m - 1u) * u.lda + k, u.k - k), b4);
    }
  }
  for (var i = 0u; i < ROWS; i += 1u) { parts[i * 128u + lid] = sums[i]; }
  workgroupBarrier();
  let i = lid / 8u;
  let j = wid.x * 8u + lid % 8u;
  if (i >= ROWS || i >= u.m || j >= u.n) { return; }
  var sum = 0.0;
  for (var l = 0u; l < 16u; l += 1u) { sum += parts[i * 128u + lid % 8u * 16u + l]; }
  finish(wid.z, i, j, sum);
}
`;
