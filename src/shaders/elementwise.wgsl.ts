/** Elementwise kernels. The op's formula arrives as the function `f`, `df` or `result`; V is f32 or vec4<f32>, S the stored type. */

/** y[i] = f(x[i]), several elements a thread: software adapters pay per thread, GPUs do not mind. */
export const unary = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let base = linearId(wid, nwg) * WG * PER + lid;
  for (var j = 0u; j < PER; j++) {
    let i = base + j * WG;
    if (i < u.n) { y[i] = S(f(V(x[i]))); }
  }
}`;

/** dx[i] = df(x[i], y[i], dy[i]), added to what is there when ACC. */
export const unaryGrad = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let base = linearId(wid, nwg) * WG * PER + lid;
  for (var j = 0u; j < PER; j++) {
    let i = base + j * WG;
    if (i < u.n) {
      var d = df(V(x[i]), V(y[i]), V(dy[i]));
      if (ACC) { d += V(dx[i]); }
      dx[i] = S(d);
    }
  }
}`;

/** y[i] = result(i, a[i], b[i]) for equal shapes. */
export const binary = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let base = linearId(wid, nwg) * WG * PER + lid;
  for (var j = 0u; j < PER; j++) {
    let i = base + j * WG;
    if (i < u.n) { y[i] = S(result(i, V(a[i]), V(b[i]))); }
  }
}`;

/** y[i] = result(i, a, b) over up to four broadcast dimensions; a stride of 0 repeats. */
export const binaryBroadcast = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let i3 = i % u.d3;
  let r3 = i / u.d3;
  let i2 = r3 % u.d2;
  let r2 = r3 / u.d2;
  let i1 = r2 % u.d1;
  let i0 = r2 / u.d1;
  let ai = i0 * u.a0 + i1 * u.a1 + i2 * u.a2 + i3 * u.a3;
  let bi = i0 * u.b0 + i1 * u.b1 + i2 * u.b2 + i3 * u.b3;
  y[i] = S(result(i, V(a[ai]), V(b[bi])));
}`;

/**
 * The normal distribution. erfc(z) = t exp(-z^2 + P(t)), t = 1 / (1 + z / 2): the rational Chebyshev fit of W. Press et al.,
 * Numerical Recipes 6.2, whose relative error is below 1.2e-7 everywhere. D is the type, f32 or vec4<f32>.
 */
export const ERF = /* wgsl */ `
fn normalCdf(x: D) -> D {
  let z = min(abs(x) * 0.7071067811865476, D(9.0));
  let t = D(1.0) / (D(1.0) + 0.5 * z);
  var p = t * 0.17087277 - 0.82215223;
  p = fma(p, t, D(1.48851587));
  p = fma(p, t, D(-1.13520398));
  p = fma(p, t, D(0.27886807));
  p = fma(p, t, D(-0.18628806));
  p = fma(p, t, D(0.09678418));
  p = fma(p, t, D(0.37409196));
  p = fma(p, t, D(1.00002368));
  p = fma(p, t, D(-1.26551223));
  let tail = 0.5 * t * exp(p - z * z);
  return select(tail, 1.0 - tail, x >= D(0.0));
}
fn normalPdf(x: D) -> D {
  let z = min(abs(x), D(13.0));
  return 0.3989422804014327 * exp(-0.5 * z * z);
}
`;

/**
 * tanh to 2e-7 relative: WGSL promises its own only to 1e-5 absolute, which a soft cap of 50 would multiply, and some
 * software adapters give NaN for large arguments. D is the type, f32 or vec4<f32>.
 */
export const TANH = /* wgsl */ `
fn preciseTanh(x: D) -> D {
  let a = abs(select(x, sign(x) * 10.0, abs(x) > D(10.0)));
  let e = exp(-2.0 * a);
  let q = a * a;
  let near = a * (1.0 + q * (-0.3333333333 + q * (0.1333333333 + q * (-0.05396825397 + q * 0.02186948854))));
  return sign(x) * select((1.0 - e) / (1.0 + e), near, a < D(0.3));
}
`;

/** Functions that formulas may use; V is f32 or vec4<f32>. Overflow-free, and NaN in gives NaN out. */
export const math = /* wgsl */ `
fn sigmoid(x: V) -> V {
  let e = exp(-abs(x));
  return select(e, V(1.0), x >= V(0.0)) / (V(1.0) + e);
}
fn softplus(x: V) -> V { return select(x, V(0.0), x < V(0.0)) + log(V(1.0) + exp(-abs(x))); }
// Some software adapters give NaN for tanh of large arguments.
fn safeTanh(x: V) -> V { return tanh(select(x, sign(x) * 15.0, abs(x) > V(15.0))); }
fn geluTanh(x: V) -> V { return safeTanh(0.7978845608028654 * (x + 0.044715 * x * x * x)); }
fn when(condition: B) -> V { return select(V(0.0), V(1.0), condition); }
// By its bits: a compiler may take it that there is no NaN, and fold comparisons accordingly.
fn isNan(x: V) -> B { return (bitcast<U>(x) & U(0x7fffffffu)) > U(0x7f800000u); }
fn nanOr(a: V, b: V, y: V) -> V { return select(select(y, b, isNan(b)), a, isNan(a)); }
// The part of a gradient that goes to the chosen of two: half where they are equal, all where either is NaN.
fn share(chosen: B, equal: B, a: V, b: V) -> V {
  return select(select(when(chosen), V(0.5), equal), V(1.0), isNan(a) | isNan(b));
}
alias D = V;
${ERF}${TANH}`;

/** y[i] += factor * x[i] */
export const addScaled = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let base = linearId(wid, nwg) * WG * PER + lid;
  for (var j = 0u; j < PER; j++) {
    let i = base + j * WG;
    if (i < u.n) { y[i] += S(V(x[i]) * u.factor); }
  }
}`;

/** y[i] = value */
export const fill = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let base = linearId(wid, nwg) * WG * PER + lid;
  for (var j = 0u; j < PER; j++) {
    let i = base + j * WG;
    if (i < u.n) { y[i] = S(u.value); }
  }
}`;

/** y[at + i] = x[i] */
export const place = /* wgsl */ `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i < u.n) { y[u.at + i] = x[i]; }
}`;
