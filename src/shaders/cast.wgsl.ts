/** y[i] = x[i] in another float type, several vectors a thread; added to what is there when ACC. */
export const CAST = `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let base = linearId(wid, nwg) * WG * PER + lid;
  for (var j = 0u; j < PER; j++) {
    let i = base + j * WG;
    if (i < u.n) {
      var v = R(x[i]);
      if (ACC) { v += y[i]; }
      y[i] = v;
    }
  }
}`;
