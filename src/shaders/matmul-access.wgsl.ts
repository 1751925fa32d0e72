/**
 * How the matmul kernels touch memory: `readA`, `readB` fetch four consecutive elements of which `left` exist, `put` and
 * `finish` add the epilogue and store. Which of them a kernel gets depends on whether the dimensions are multiples of 4.
 */
import type { Epilogue } from "./matmul-unrolled.wgsl.ts";

/** `readA` / `readB`. With `vec` the binding is vec4 and `left` is 0 or at least 4. */
export function readFour(name: "A" | "B", vec: boolean): string {
  const array = name.toLowerCase();
  if (vec)
    return `fn read${name}(i: u32, left: u32) -> vec4f { return select(vec4f(), A4(${array}[i / 4u]), left > 0u); }`;
  return `
fn read${name}(i: u32, left: u32) -> vec4f {
  return select(vec4f(), vec4f(f32(${array}[i]), f32(${array}[i + 1u]), f32(${array}[i + 2u]), f32(${array}[i + 3u])),
    vec4u(0u, 1u, 2u, 3u) < vec4u(left));
}`;
}

/** `readB` of a quantized operand (see quantized.wgsl.ts); i is a multiple of 4. What it gives past `left` is finite. */
export const readQuantized =
  "fn readB(i: u32, left: u32) -> vec4f { return select(vec4f(), unpack4(i / 4u), left > 0u); }";

/** `finish(z, row, col, value)`: one output. */
export function finishOne({ bias, add, accumulate }: Epilogue): string {
  const plus = [bias ? " + f32(bias[col])" : "", add ? " + f32(add[i])" : "", accumulate ? " + f32(c[i])" : ""];
  return `
fn finish(z: u32, row: u32, col: u32, value: f32) {
  let i = u.firstC + z * u.sc + row * u.ldc + col;
  c[i] = OUT(value * u.scale${plus.join("")});
}`;
}

/** `put(z, row, col, value)`: four outputs of one row, those that exist. With `vec`, n, ldc and firstC are multiples of 4. */
export function putFour({ bias, add, accumulate }: Epilogue, vec: boolean): string {
  if (vec) {
    const plus = [bias ? " + A4(bias[col / 4u])" : "", add ? " + A4(add[i])" : "", accumulate ? " + A4(c[i])" : ""];
    return `
fn put(z: u32, row: u32, col: u32, value: vec4f) {
  if (col >= u.n) { return; }
  let i = (u.firstC + z * u.sc + row * u.ldc + col) / 4u;
  c[i] = vec4<OUT>(value * u.scale${plus.join("")});
}`;
  }
  const plus = [
    bias ? " + f32(bias[col + j])" : "",
    add ? " + f32(add[i + j])" : "",
    accumulate ? " + f32(c[i + j])" : "",
  ];
  return `
fn put(z: u32, row: u32, col: u32, value: vec4f) {
  let i = u.firstC + z * u.sc + row * u.ldc + col;
  for (var j = 0u; j < 4u; j += 1u) {
    if (col + j < u.n) { c[i + j] = OUT(value[j] * u.scale${plus.join("")}); }
  }
}`;
}
