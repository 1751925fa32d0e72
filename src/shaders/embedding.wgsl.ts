/**
 * Row gather and its deterministic transpose. `n` = row length in vectors. The table may be a part of one: then only the
 * rows whose ids fall into it are written. Ids past the end get the last row.
 */
export const GATHER_ROWS = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let id = ids[row];
  if (id < u.base || (!LAST && id - u.base >= u.tableRows)) { return; }
  let src = min(id - u.base, u.tableRows - 1u) * u.n;
  let dst = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) { y[dst + i] = table[src + i]; }
}`;

/**
 * Segment sum: segment s adds source rows order[starts[s]] .. order[starts[s + 1] - 1], in that order, and puts the sum
 * into row target[s] (each target appears once, so no two invocations meet and no float atomics are needed).
 */
export const SEGMENT_SUM = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let s = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (s >= u.segments) { return; }
  let first = lists[s];
  let end = lists[s + 1u];
  let dst = lists[u.targets + s] * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    var sum = F(0.0);
    for (var p = first; p < end; p += 1u) { sum += F(dy[lists[u.order + p] * u.n + i]); }
    if (ACC) { sum += F(dx[dst + i]); }
    dx[dst + i] = V(sum);
  }
}`;
