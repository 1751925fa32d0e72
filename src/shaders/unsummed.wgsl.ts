/**
 * Row kernels that read a product of which there are u.splits parts, each of u.size vectors, f32: bindings parts, and
 * `add` where that is added to it.
 */
import { type Gate, gateCode } from "./activation.wgsl.ts";
import { WEIGHT } from "./norm.wgsl.ts";

/** Vector i of the product. */
const summed = (adds: boolean): string => /* wgsl */ `
fn summed(i: u32) -> F {
  var sum = F(0.0);
  for (var s = 0u; s < u.splits; s++) { sum += parts[s * u.size + i]; }
  return sum${adds ? " + add[i]" : ""};
}
`;

const MAIN =
  "@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32)";

/** x = the product, f32, y = its RMSNorm, as norm.wgsl.ts has it. */
export const rmsNormOfParts = (adds: boolean): string => /* wgsl */ `${WEIGHT}${summed(adds)}
${MAIN} {
  let lane = lid % LANES;
  let row = rowIndex(linearId(wid, nwg), lid);
  let base = min(row, u.rows - 1u) * u.n;
  var squares = F(0.0);
  for (var i = lane; i < u.n; i += LANES) {
    let v = summed(base + i);
    if (row < u.rows) { x[base + i] = v; }
    squares = fma(v, v, squares);
  }
  let r = inverseSqrt(rowSum(hsum(squares), lid) / u.d + u.eps);
  if (row < u.rows) {
    for (var i = lane; i < u.n; i += LANES) { y[base + i] = VY(x[base + i] * r * weight(i)); }
  }
}`;

/** h = the gated activation of the product, as activation.wgsl.ts has it. */
export const gluOfParts = (gate: Gate, adds: boolean): string => /* wgsl */ `${gateCode(gate)}${summed(adds)}
${MAIN} {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  let base = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) {
    h[base + i] = V(act(summed(2u * base + i)) * summed(2u * base + u.n + i));
  }
}`;
