/**
 * Matrix product with the matrix units of a GPU (subgroup matrices): operands in f16, sums in f32. A workgroup of four
 * subgroups stages blocks of both operands in workgroup memory in the order in which they lie in memory; each subgroup then
 * multiplies `rows` x `cols` matrices. Sums leave through workgroup memory too, one matrix of each subgroup at a time, so that
 * edges and what is added to the product are as in the other kernels.
 */
export interface MatrixTile {
  /** Sizes that the adapter multiplies: [m, k] by [k, n]. */
  m: number;
  n: number;
  k: number;
  /** The largest size of a subgroup. */
  lanes: number;
  /** Matrices of sums of a subgroup. */
  rows: number;
  cols: number;
  /** How many of the four subgroups lie one below the other: 1, 2 or 4. */
  down: number;
}

/** Of a workgroup. */
export const SUBGROUPS = 4;

/** Steps of k that are staged at a time. */
export const MATRIX_STEPS = 32;
/** Spare elements per staged row keep its neighbours on different banks. */
const SPARE = 8;

/** Outputs of a workgroup. */
export const matrixOutputs = ({ m, n, rows, cols, down }: MatrixTile): { bm: number; bn: number } => ({
  bm: down * rows * m,
  bn: (SUBGROUPS / down) * cols * n,
});

const staged = (size: number, along: boolean): number =>
  along ? size * (MATRIX_STEPS + SPARE) : MATRIX_STEPS * (size + SPARE);

/** Bytes of workgroup memory. */
export function matrixBytes(tile: MatrixTile, along: { a: boolean; b: boolean }): number {
  const { bm, bn } = matrixOutputs(tile);
  return 2 * (staged(bm, along.a) + staged(bn, along.b)) + 4 * SUBGROUPS * tile.m * tile.n;
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * The text for operands that are contiguous along k or not. A grid layer z is (batch, split of k). Needs readA, readB and
 * finish of matmul-access.wgsl.ts.
 */
export function matrixMatmul(tile: MatrixTile, along: { a: boolean; b: boolean }): string {
  const { m, n, k, lanes, rows, cols, down } = tile;
  const { bm, bn } = matrixOutputs(tile);
  const across = SUBGROUPS / down;
  const wg = SUBGROUPS * lanes;
  const a = operand("A", "m", bm, along.a, wg);
  const b = operand("B", "n", bn, along.b, wg);
  const at = (name: "A" | "B", i: number, size: number, whole: number, isAlong: boolean) =>
    isAlong
      ? `&tile${name}, (at${name} + ${i * size}u) * ${MATRIX_STEPS + SPARE}u + q, ${MATRIX_STEPS + SPARE}u`
      : `&tile${name}, q * ${whole + SPARE}u + at${name} + ${i * size}u, ${whole + SPARE}u`;
  const left = `Left, ${along.a ? "row" : "col"}_major`;
  const right = `Right, ${along.b ? "col" : "row"}_major`;
  const multiply = [
    ...range(cols).map((j) => `let b${j} = subgroupMatrixLoad<${right}>(${at("B", j, n, bn, along.b)});`),
    ...range(rows).flatMap((i) => [
      `let a${i} = subgroupMatrixLoad<${left}>(${at("A", i, m, bm, along.a)});`,
      ...range(cols).map((j) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, c${i}_${j});`),
    ]),
  ];
  const leave = range(rows).flatMap((i) =>
    range(cols).map(
      (j) => `
  subgroupMatrixStore<row_major>(&parts, own, c${i}_${j}, ${n}u);
  workgroupBarrier();
  leave(wid.z, row0 + atA + ${i * m}u, col0 + atB + ${j * n}u, own, lid % ${lanes}u);
  workgroupBarrier();`,
    ),
  );
  return `
alias Left = subgroup_matrix_left<f16, ${k}, ${m}>;
alias Right = subgroup_matrix_right<f16, ${n}, ${k}>;
alias Sums = subgroup_matrix_result<f32, ${n}, ${m}>;
var<workgroup> tileA: array<f16, ${staged(bm, along.a)}>;
var<workgroup> tileB: array<f16, ${staged(bn, along.b)}>;
var<workgroup> parts: array<f32, ${SUBGROUPS * m * n}>;
${a.functions}
${b.functions}

/** One matrix of sums of each subgroup, by all its invocations. */
fn leave(z: u32, row: u32, col: u32, own: u32, lane: u32) {
  for (var e = lane; e < ${m * n}u; e += ${lanes}u) {
    let i = row + e / ${n}u;
    let j = col + e % ${n}u;
    if (i < u.m && j < u.n) { finish(z, i, j, parts[own + e]); }
  }
}

@compute @workgroup_size(${wg})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let batch = wid.z / u.splits;
  let first = (wid.z % u.splits) * u.span;
  let end = min(first + u.span, u.k);
  let row0 = wid.y * ${bm}u;
  let col0 = wid.x * ${bn}u;
  let baseA = u.firstA + batch * u.sa;
  let baseB = u.firstB + batch * u.sb;
  let subgroup = lid / ${lanes}u;
  let own = subgroup * ${m * n}u;
  let atA = subgroup / ${across}u * ${rows * m}u;
  let atB = subgroup % ${across}u * ${cols * n}u;
${range(rows * cols)
  .map((i) => `  var c${Math.floor(i / cols)}_${i % cols}: Sums;`)
  .join("\n")}
  for (var k = first; ; k += ${MATRIX_STEPS}u) {
    // The next blocks are on their way while the current ones are multiplied.
${a.declare}
${b.declare}
    if (k < end) {
${a.fetch("row0")}
${b.fetch("col0")}
    }
    if (k > first) {
      for (var q = 0u; q < ${MATRIX_STEPS}u; q += ${k}u) {
        ${multiply.join("\n        ")}
      }
    }
    if (k >= end) { break; }
    workgroupBarrier();
${a.store}
${b.store}
    workgroupBarrier();
  }
${leave.join("")}
}
`;
}

/** How a block of one operand reaches workgroup memory: four elements at a time, zero past the matrix's end. */
function operand(name: "A" | "B", size: "m" | "n", whole: number, along: boolean, wg: number) {
  const wide = (along ? MATRIX_STEPS : whole) / 4;
  const pieces = range(Math.ceil((whole * MATRIX_STEPS) / 4 / wg));
  const ld = `u.ld${name.toLowerCase()}`;
  const [inner, outer] = along ? ["k", "r"] : ["r", "k"];
  const limit = (of: string) => (of === "k" ? "u.k" : `u.${size}`);
  const all = (whole * MATRIX_STEPS) / 4;
  const only = (i: number, then: string) =>
    (i + 1) * wg <= all ? then : `if (lid + ${i * wg}u < ${all}u) { ${then} }`;
  return {
    functions: `
fn fetch${name}(base: u32, r0: u32, k0: u32, e: u32) -> vec4f {
  let ${outer} = ${outer}0 + e / ${wide}u;
  let ${inner} = ${inner}0 + 4u * (e % ${wide}u);
  let left = select(0u, max(${limit(inner)}, ${inner}) - ${inner}, ${outer} < ${limit(outer)});
  return read${name}(base + min(${outer}, ${limit(outer)} - 1u) * ${ld} + ${inner}, left);
}
fn store${name}(e: u32, v: vec4f) {
  let h = vec4<f16>(v);
  let at = e / ${wide}u * ${4 * wide + SPARE}u + 4u * (e % ${wide}u);
  tile${name}[at] = h.x;
  tile${name}[at + 1u] = h.y;
  tile${name}[at + 2u] = h.z;
  tile${name}[at + 3u] = h.w;
}`,
    declare: pieces.map((i) => `    var next${name}${i} = vec4f();`).join("\n"),
    fetch: (r0: string) =>
      pieces
        .map((i) => `      ${only(i, `next${name}${i} = fetch${name}(base${name}, ${r0}, k, lid + ${i * wg}u);`)}`)
        .join("\n"),
    store: pieces.map((i) => `    ${only(i, `store${name}(lid + ${i * wg}u, next${name}${i});`)}`).join("\n"),
  };
}
