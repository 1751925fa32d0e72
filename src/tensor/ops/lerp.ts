/** Moving averages of parameters. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import type { ParameterStore } from "../params.ts";
import { PER, vectors, WG } from "../raw.ts";

const lerpKernel = kernel({
  name: "lerp_into",
  code: /* wgsl */ `
@compute @workgroup_size(WG) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32
) {
  let first = linearId(wid, nwg) * WG * PER + lid;
  for (var k = 0u; k < PER; k++) {
    let i = first + k * WG;
    if (i < u.n) { y[i] += u.t * (x[i] - y[i]); }
  }
}`,
  bindings: { x: "read S", y: "write S" },
  scalars: { n: "u32", t: "f32" },
});

/** target += t * (source - target), for all parameters of two stores of the same layout. */
export function lerpInto(target: ParameterStore, source: ParameterStore, t: number): void {
  const [to, from] = [target.chunks, source.chunks];
  if (to.length !== from.length || to.some(({ size }, i) => size !== from[i].size)) {
    throw new Error(`lerpInto: ${target.label} and ${source.label} have different parameters`);
  }
  to.forEach(({ values, size }, i) => {
    const { S, n, groups } = vectors(size, "f32");
    run(lerpKernel, { S, WG, PER }, [from[i].values, values], [n, t], groups);
  });
}
