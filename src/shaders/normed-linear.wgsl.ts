/**
 * y = norm(x) B^T + bias for at most 8 rows on GPUs, or GATED act(gate) * up of its two halves: what decoding does before
 * attention and before the second projection of an MLP, in one dispatch. As in matmul-skinny, 16 invocations walk one row of
 * B together in vec4. Each of them also meets its part of every row of x, so the sums of squares come along with the products
 * and the RMS divides the finished sums. A workgroup owns 8 rows of B: 8 columns, or gate and up of 4.
 *
 * Constants: ROWS (rows of x held per invocation, 1 to 8), OFFSET (weights of the norm are stored less 1), GATED; `n` counts
 * columns of y. `readB` and, where GATED, `act` come before; `bias(column of B)` too.
 */
export const NORMED_LINEAR = /* wgsl */ `
var<workgroup> parts: array<vec2f, ROWS * 128u>;

fn whole(i: u32, j: u32, column: u32) -> f32 {
  var sum = vec2f(0.0);
  for (var l = 0u; l < 16u; l += 1u) { sum += parts[i * 128u + j * 16u + l]; }
  return sum.x * inverseSqrt(sum.y / f32(u.k) + u.eps) + bias(column);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  const COLS = select(8u, 4u, GATED);
  let lane = lid % 16u;
  let own = lid / 16u;
  let col = min(wid.x * COLS + own % COLS, u.n - 1u) + own / COLS * u.n;
  var sums: array<vec2f, ROWS>;
  for (var k = 4u * lane; k < u.k; k += 64u) {
    var scale = norm[k / 4u];
    if (OFFSET) { scale += 1.0; }
    let b4 = readB(col * u.ldb + k, u.k - k) * scale;
    for (var i = 0u; i < ROWS; i += 1u) {
      let x4 = x[(min(i, u.m - 1u) * u.k + k) / 4u];
      sums[i] += vec2f(dot(x4, b4), dot(x4, x4));
    }
  }
  for (var i = 0u; i < ROWS; i += 1u) { parts[i * 128u + lid] = sums[i]; }
  workgroupBarrier();
  let i = lid / 8u;
  let j = lid % 8u;
  let to = wid.x * COLS + j;
  if (i >= ROWS || i >= u.m || j >= COLS || to >= u.n) { return; }
  var v = whole(i, j, to);
  if (GATED) { v = act(v) * whole(i, j + COLS, u.n + to); }
  y[i * u.n + to] = OUT(v);
}
`;
