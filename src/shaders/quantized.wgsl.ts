/**
 * Weights in fewer bits, turned into f32 as they are read. `b` holds the values and, for integers, `scales` one word per
 * group; see tensor/quantize.ts for the formats. Rows are padded to whole groups, so four values whose index is a multiple
 * of 4 always share their group.
 */
export interface QuantizedAccess {
  /** Bindings `b` and, for integers, `scales`. */
  bindings: Record<string, string>;
  /** Defines `unpack4(i)`, values 4i .. 4i + 3, and `unpack1(i)`, value i. */
  code: string;
}

const one = "fn unpack1(i: u32) -> f32 { return unpack4(i / 4u)[i % 4u]; }";

export const quantizedAccess: Record<"bfloat16" | "float16" | "int8" | "int4", QuantizedAccess> = {
  bfloat16: {
    bindings: { b: "read vec2<u32>" },
    code: `
fn unpack4(i: u32) -> vec4f {
  let w = b[i];
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
${one}`,
  },
  float16: {
    bindings: { b: "read vec2<u32>" },
    code: `
fn unpack4(i: u32) -> vec4f {
  let w = b[i];
  return vec4f(unpack2x16float(w.x), unpack2x16float(w.y));
}
${one}`,
  },
  int8: {
    bindings: { b: "read u32", scales: "read f32" },
    code: `
fn unpack4(i: u32) -> vec4f {
  let q = bitcast<vec4i>(vec4u(b[i]) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u);
  return vec4f(q) * scales[i / 16u];
}
${one}`,
  },
  int4: {
    bindings: { b: "read u32", scales: "read u32" },
    code: `
fn unpack4(i: u32) -> vec4f {
  let s = scales[i / 8u];
  let q = (vec4u(b[i / 2u] >> (16u * (i % 2u))) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u);
  return fma(vec4f(q), vec4f(bitcast<f32>(s & 0xffff0000u)), vec4f(bitcast<f32>(s << 16u)));
}
${one}`,
  },
};

/**
 * Rows of a quantized table as f32: y[row] = table[ids[row]], or table[first + row]. `n` = row length in vectors of `width`,
 * `stride` = from one row of the table to the next, likewise.
 */
export const unpackRowsCode = (width: 1 | 4, gather: boolean): string => `
@compute @workgroup_size(WG) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = linearId(wid, nwg) * (WG / LANES) + lid / LANES;
  if (row >= u.rows) { return; }
  ${gather ? "let id = ids[row]; if (id < u.first || (!LAST && id - u.first >= u.tableRows)) { return; }" : ""}
  let src = ${gather ? "min(id - u.first, u.tableRows - 1u)" : "(u.first + row)"} * u.stride;
  let dst = row * u.n;
  for (var i = lid % LANES; i < u.n; i += LANES) { y[dst + i] = unpack${width}(src + i); }
}`;
