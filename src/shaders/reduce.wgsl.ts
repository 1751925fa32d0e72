/**
 * One step of a deterministic sum over the middle axis of [outer, axis, inner]: each thread adds one chunk of the axis
 * in order, giving [outer, chunks, inner]. Repeated until one chunk is left.
 */
export const sumChunks = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.outer * u.chunks * u.inner) { return; }
  let column = i % u.inner;
  let chunk = (i / u.inner) % u.chunks;
  let row = i / (u.inner * u.chunks);
  let first = chunk * u.chunkSize;
  let last = min(first + u.chunkSize, u.axis);
  var total = 0.0;
  for (var k = first; k < last; k++) { total += f32(x[(row * u.axis + k) * u.inner + column]); }
  if (ACC) { total += y[i]; }
  y[i] = total;
}`;
