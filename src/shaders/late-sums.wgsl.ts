/**
 * into += the sum of count parts, in their order, for several gradients: one invocation per element V. Bindings parts and into,
 * scalars size (of a part, in elements) and count, each followed by the gradient's number. consts: V (f32 or vec4<f32>), WG
 */
export function lateSums(gradients: number): string {
  const each = Array.from({ length: gradients }, (_, g) => g);
  return /* wgsl */ `
${each
  .map(
    (g) => `
fn sum${g}(i: u32) {
  var sum = V();
  for (var k = 0u; k < u.count${g}; k++) { sum += parts${g}[k * u.size${g} + i]; }
  into${g}[i] += sum;
}`,
  )
  .join("")}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  var i = linearId(wid, nwg) * WG + lid;
${each.map((g) => `  if (i < u.size${g}) { sum${g}(i); return; }\n  i -= u.size${g};`).join("\n")}
}`;
}
