/** What low-rank adapters need besides matrix products: all parts at once for few rows, and dropout. */
import { PHILOX } from "./philox.wgsl.ts";

/**
 * y += scale * low B^T for all parts of a layer in one dispatch: one invocation per output element, for few rows, where
 * dispatches cost more than arithmetic. Bindings: low, b0 ..., y. consts: LOW and WIDTH (columns of low and y), TOTAL (of all
 * parts), and for part p COLS, RANK, OFFSET (in low), FIRST (in y) and SCALE, each followed by p. scalars: n (elements).
 */
export const loraUp = (parts: number): string => {
  const each = Array.from({ length: parts }, (_, p) => p);
  return /* wgsl */ `
${each
  .map(
    (p) => `
fn part${p}(row: u32, c: u32) {
  var sum = 0.0;
  for (var k = 0u; k < RANK${p}; k++) { sum += f32(low[row * LOW + OFFSET${p} + k]) * f32(b${p}[c * RANK${p} + k]); }
  let at = row * WIDTH + FIRST${p} + c;
  y[at] = OUT(f32(y[at]) + f32(SCALE${p}) * sum);
}`,
  )
  .join("")}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }
  let row = i / TOTAL;
  var c = i % TOTAL;
${each.map((p) => `  if (c < COLS${p}) { part${p}(row, c); return; }\n  c -= COLS${p};`).join("\n")}
}`;
};

/**
 * y (+)= x where it is kept, times u.factor = 1 / (1 - p). Whether element e is kept depends on the seed and on the counter
 * (e / 4, layer, step, pass) alone, so the backward pass finds the same mask without anybody storing it.
 * One word per element. scalars: n (elements), least (words from here on are kept).
 */
export const DROPOUT = /* wgsl */ `${PHILOX}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let quad = linearId(wid, nwg) * WG + lid;
  let bits = philox(vec2u(u.seed0, u.seed1), vec4u(quad, u.layer, u.step, u.pass_));
  for (var j = 0u; j < 4u; j++) {
    let i = quad * 4u + j;
    if (i < u.n) {
      var v = select(0.0, f32(x[i]) * u.factor, bits[j] >= u.least);
      if (ACC) { v += f32(y[i]); }
      y[i] = T(v);
    }
  }
}`;
