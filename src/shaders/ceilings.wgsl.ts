/** Kernels that do one thing as fast as the adapter lets them: what others' rates are held against. */

/**
 * Multiply-adds that depend on nothing but their own chain: eight chains of vec4 for each of `ROUNDS` rounds, 64 operations a
 * round. Sums go out so that nothing is left away; T is the type that computes. scalars: a, b.
 */
export const FMA = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  let m = T4(T(u.a));
  let s = T4(T(u.b));
  let first = T(f32(i % 16u) * 0.0625);
  var c = array<T4, 8>(T4(first), T4(first), T4(first), T4(first), T4(first), T4(first), T4(first), T4(first));
  for (var round = 0u; round < ROUNDS; round++) {
    c[0] = fma(c[0], m, s); c[1] = fma(c[1], m, s); c[2] = fma(c[2], m, s); c[3] = fma(c[3], m, s);
    c[4] = fma(c[4], m, s); c[5] = fma(c[5], m, s); c[6] = fma(c[6], m, s); c[7] = fma(c[7], m, s);
  }
  let all = (c[0] + c[1]) + (c[2] + c[3]) + ((c[4] + c[5]) + (c[6] + c[7]));
  y[i] = f32(all.x + all.y + all.z + all.w);
}`;

/**
 * Reads of workgroup memory, 16 bytes each, `ROUNDS` times 8 an invocation. Neighbours read neighbouring vectors, as tiles are
 * read. No scalars.
 */
export const SHARED_READS = /* wgsl */ `
var<workgroup> tile: array<vec4f, 2u * WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  tile[lid] = vec4f(f32(lid));
  tile[lid + WG] = vec4f(f32(lid) * 0.5);
  workgroupBarrier();
  var sum = vec4f();
  for (var round = 0u; round < ROUNDS; round++) {
    for (var k = 0u; k < 8u; k++) { sum += tile[(lid + round + 7u * k) % (2u * WG)]; }
  }
  y[linearId(wid, nwg) * WG + lid] = sum.x + sum.y + sum.z + sum.w;
}`;
