/** Muon's part of the optimizer step; `control` is AdamW's record: 1 clip factor times gradient scale, 2 applied (1) or skipped (0). */

/** Takes the gradient into the momentum, and leaves Nesterov's look ahead in the gradient's place. */
export const MUON_MOMENTUM = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (control[2] == 0.0 || i >= u.n) { return; }
  let now = g[i] * control[1];
  let kept = m[i] + (1.0 - u.momentum) * (now - m[i]);
  m[i] = kept;
  g[i] = now + u.momentum * (kept - now);
}`;

/** Decoupled weight decay, then the orthogonal update: p[first + i] = p shrunk - step y[i]. */
export const MUON_APPLY = `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (control[2] == 0.0 || i >= u.n) { return; }
  p[u.first + i] = p[u.first + i] * u.shrink - u.step * y[i];
}`;
