/**
 * Matrix product without shared memory and without barriers, for adapters that are CPUs. The text is unrolled by this
 * function because the accumulators must be named scalars: software rasterisers keep arrays in memory.
 *
 * Two families come out of it:
 * - subgroup: one workgroup is one subgroup of `lanes` invocations and owns a tile of `rows` x (`lanes` * `cols`). A lane
 *   holds its own columns of op(B) and one row in `lanes` of op(A); the rows travel by `subgroupBroadcast`, which costs a
 *   tenth of a storage load there.
 * - direct: 8 x 8 invocations, each owns `rows` x `cols` outputs and loads its own operands; needs no subgroups.
 *
 * Storage loads dominate (about 9 ns per component and 8 lanes, against 0.5 ns for an fma), so a tile of R x C costs
 * R / lanes + C loads per R * C fma.
 */
export type MatmulMode = "NN" | "NT" | "TN";

/** What is added to the product, which is scaled before: a bias per column, a matrix, or what the output already holds. */
export interface Epilogue {
  bias: boolean;
  add: boolean;
  accumulate: boolean;
}

export interface UnrolledTile extends Epilogue {
  family: "subgroup" | "direct";
  mode: MatmulMode;
  rows: number;
  cols: number;
  lanes: number;
  /** The operand is bound as vec4 along its contiguous dimension, whose length is then a multiple of 4. */
  vecA: boolean;
  vecB: boolean;
  /** B is read through `unpack4` and `unpack1` of quantized.wgsl.ts; vecB then says which of them. */
  quantized: boolean;
}

/** Can op(A) be read four rows at a time (mode TN), or op(B) four columns at a time (NN, TN), with this tile? */
export const vectorRows = (family: string, rows: number, lanes: number): boolean =>
  rows % (family === "subgroup" ? 4 * lanes : 4) === 0;
export const vectorCols = (cols: number): boolean => cols % 4 === 0;

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const part = (i: number): string => "xyzw"[i % 4];

/** How one operand sits in a lane's registers: one pointer per group, and an expression per (index, step of k). */
interface Operand {
  groups: number;
  start: (group: number) => string;
  value: (index: number, q: number) => string;
}

export function unrolledMatmul(tile: UnrolledTile): string {
  const { mode, rows, cols, lanes, vecA, vecB, quantized } = tile;
  const alongA = mode !== "TN"; // A is contiguous along k
  const alongB = mode === "NT";
  const step = (alongA && vecA) || (alongB && vecB) ? 4 : 2;
  const a = operandA(tile, alongA);
  const b = operandB(tile, alongB);
  const loop = (n: number) =>
    [
      ...loads("a", "x", a.groups, n, alongA, vecA, false),
      ...loads("b", "y", b.groups, n, alongB, vecB, quantized),
      ...products(rows, cols, n, a, b),
    ].join("\n");
  const tail = step === 2 ? `  if (k < u.k) {\n${loop(1)}\n  }` : "";
  return `
@compute @workgroup_size(${tile.family === "subgroup" ? lanes : 64})
fn main(@builtin(workgroup_id) wid: vec3u, ${invocation(tile)}) {
${origin(tile)}
  let lda = u.lda / ${vecA ? 4 : 1}u;
  let ldb = u.ldb / ${vecB ? 4 : 1}u;
${range(a.groups)
  .map((g) => `  var a${g} = (u.firstA + wid.z * u.sa) / ${vecA ? 4 : 1}u + ${a.start(g)};`)
  .join("\n")}
${range(b.groups)
  .map((g) => `  var b${g} = (u.firstB + wid.z * u.sb) / ${vecB ? 4 : 1}u + ${b.start(g)};`)
  .join("\n")}
${range(rows)
  .map(
    (i) =>
      `  ${range(cols)
        .map((j) => `var c${i}_${j} = 0.0;`)
        .join(" ")}`,
  )
  .join("\n")}
  var k = 0u;
  for (; k + ${step}u <= u.k; k += ${step}u) {
${loop(step)}
  }
${tail}
${stores(tile, alongB)}
}`;
}

const invocation = ({ family }: UnrolledTile): string =>
  family === "subgroup" ? "@builtin(subgroup_invocation_id) lane: u32" : "@builtin(local_invocation_index) lid: u32";

function origin({ family, rows, cols, lanes }: UnrolledTile): string {
  const col = `  let col = wid.x * ${cols * lanes}u;`;
  if (family === "subgroup") return `  let row = wid.y * ${rows}u;\n${col}`;
  return `  let lane = lid % 8u;\n  let row = (wid.y * 8u + lid / 8u) * ${rows}u;\n${col}`;
}

/** Rows past the end read the last row again; their results are never stored. */
function operandA({ family, rows, lanes, vecA }: UnrolledTile, along: boolean): Operand {
  const shared = family === "subgroup";
  const stride = shared ? lanes : 1;
  const at = (g: number) => `${g * stride}u${shared ? " + lane" : ""}`;
  const get = (name: string, lane: number) => (shared ? `subgroupBroadcast(${name}, ${lane}u)` : name);
  if (along) {
    return {
      groups: Math.ceil(rows / stride),
      start: (g) => `min(row + ${at(g)}, u.m - 1u) * lda`,
      value: (i, q) => get(`x${Math.floor(i / stride)}${vecA ? `.${part(q)}` : `_${q}`}`, i % stride),
    };
  }
  const width = vecA ? 4 : 1;
  return {
    groups: Math.ceil(rows / (stride * width)),
    start: (g) => `min(row / ${width}u + ${at(g)}, (u.m - 1u) / ${width}u)`,
    value: (i, q) => {
      const name = `x${Math.floor(i / (stride * width))}_${q}${vecA ? `.${part(i)}` : ""}`;
      return get(name, Math.floor((i % (stride * width)) / width));
    },
  };
}

function operandB({ cols, lanes, vecB }: UnrolledTile, along: boolean): Operand {
  if (along) {
    return {
      groups: cols,
      start: (g) => `min(col + ${g * lanes}u + lane, u.n - 1u) * ldb`,
      value: (j, q) => `y${j}${vecB ? `.${part(q)}` : `_${q}`}`,
    };
  }
  const width = vecB ? 4 : 1;
  return {
    groups: cols / width,
    start: (g) => `min(col / ${width}u + ${g * lanes}u + lane, (u.n - 1u) / ${width}u)`,
    value: (j, q) => `y${Math.floor(j / width)}_${q}${vecB ? `.${part(j)}` : ""}`,
  };
}

/** Loads `n` steps of k of one operand and moves its pointers on. */
function loads(
  name: string,
  to: string,
  groups: number,
  n: number,
  along: boolean,
  vec: boolean,
  quantized: boolean,
): string[] {
  const fetch = (at: string) => (quantized ? `unpack${vec ? 4 : 1}(${at})` : `${vec ? "A4" : "f32"}(${name}[${at}])`);
  const lines: string[] = [];
  for (const g of range(groups)) {
    const p = `${name}${g}`;
    if (along && vec) {
      lines.push(`    let ${to}${g} = ${fetch(p)}; ${p} += 1u;`);
      continue;
    }
    const jump = along ? "1u" : `ld${name}`;
    for (const q of range(n)) lines.push(`    let ${to}${g}_${q} = ${fetch(`${p} + ${q}u * ${jump}`)};`);
    lines.push(`    ${p} += ${n}u * ${jump};`);
  }
  return lines;
}

/** Two steps of k at a time per accumulator: enough to pay for its trip to the stack, few enough live operands. */
function products(rows: number, cols: number, n: number, a: Operand, b: Operand): string[] {
  const lines: string[] = [];
  for (let first = 0; first < n; first += 2) {
    const steps = range(Math.min(2, n - first)).map((q) => q + first);
    for (const i of range(rows)) {
      for (const q of steps) lines.push(`    let s${i}_${q} = ${a.value(i, q)};`);
      for (const j of range(cols)) {
        for (const q of steps) lines.push(`    c${i}_${j} = fma(s${i}_${q}, ${b.value(j, q)}, c${i}_${j});`);
      }
    }
  }
  return lines;
}

/**
 * The sums leave through an array and a loop: an unrolled store is a branch per lane in a software rasteriser's machine
 * code, and 128 of them took five sixths of the time to compile a kernel.
 */
function stores({ rows, cols, lanes, vecB, bias, add, accumulate }: UnrolledTile, alongB: boolean): string {
  const interleaved = alongB || !vecB;
  const at = (j: number) =>
    interleaved ? `col + ${j * lanes}u + lane` : `col + ${Math.floor(j / 4) * 4 * lanes + (j % 4)}u + 4u * lane`;
  const plus = (j: number) =>
    `${bias ? ` + extra${j}` : ""}${add ? " + f32(add[p])" : ""}${accumulate ? " + f32(c[p])" : ""}`;
  return `
  var sums: array<f32, ${rows * cols}>;
${range(rows)
  .map(
    (i) =>
      `  ${range(cols)
        .map((j) => `sums[${i * cols + j}] = c${i}_${j};`)
        .join(" ")}`,
  )
  .join("\n")}
${
  bias
    ? range(cols)
        .map((j) => `  let extra${j} = f32(bias[min(${at(j)}, u.n - 1u)]);`)
        .join("\n")
    : ""
}
  for (var i = 0u; i < min(${rows}u, max(u.m, row) - row); i += 1u) {
    let base = u.firstC + wid.z * u.sc + (row + i) * u.ldc;
${range(cols)
  .map(
    (j) => `    if (${at(j)} < u.n) {
      let p = base + ${at(j)};
      c[p] = OUT(sums[i * ${cols}u + ${j}u] * u.scale${plus(j)});
    }`,
  )
  .join("\n")}
  }`;
}
