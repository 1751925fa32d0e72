/** Philox4x32-10 (Salmon et al. 2011), as src/runtime/rng.ts: `philox(key, counter)` gives four random words. */
export const PHILOX = /* wgsl */ `
fn mulHigh(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let mid = a1 * b0 + ((a0 * b0) >> 16u);
  let low = a0 * b1 + (mid & 0xffffu);
  return a1 * b1 + (mid >> 16u) + (low >> 16u);
}

fn philox(key: vec2u, counter: vec4u) -> vec4u {
  var k = key;
  var x = counter;
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
`;
