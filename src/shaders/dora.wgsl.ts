/** DoRA: lengths of the rows of an adapted weight, and rows times a factor each. */

/** norms[row] = |W[first + row] + scale B[row] A|, with A's rows from `low` on; `n` vectors to a row, RANK numbers to one of B. */
export const DORA_NORMS = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let safe = min(row, u.rows - 1u);
  var squares = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    var v = w[(u.first + safe) * u.n + i];
    for (var k = 0u; k < RANK; k++) { v += u.scale * b[safe * RANK + k] * a[(u.low + k) * u.n + i]; }
    squares = fma(v, v, squares);
  }
  let total = rowSum(hsum(squares), lid);
  if (row < u.rows && lane == 0u) { norms[row] = sqrt(total); }
}`;

/** W[first + row] *= factors[row], in place; \`n\` numbers to a row. */
export const DORA_SCALE = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.rows * u.n) { return; }
  w[u.first * u.n + i] *= factors[i / u.n];
}`;
