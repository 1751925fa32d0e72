/**
 * Matrix product for GPUs: a workgroup owns bm x bn outputs and walks k in steps of bk through shared memory; each
 * invocation keeps rows x cols sums in registers. Both operands are stored k-major, in vec4 along m or n, whatever their
 * layout in memory: an invocation fetches 4 x 4 blocks and transposes them in registers if k is the contiguous dimension.
 *
 * With 8 x 8 sums a vec4 that is read from shared memory serves 16 fma, with 8 x 4 of them 10.7. `rows` may be any number, so
 * that a few rows of A are computed and no more. The text is written out, since what is indexed in a loop may end up in memory.
 */
export interface TileSizes {
  /** Outputs of a workgroup: `bm` is a multiple of `rows`, `bn` of `cols`. */
  bm: number;
  bn: number;
  /** Steps of k at a time, a multiple of 4. */
  bk: number;
  /** Outputs of an invocation; `cols` is a multiple of 4. */
  rows: number;
  cols: number;
}

/** Invocations of a workgroup. */
export const tileInvocations = ({ bm, bn, rows, cols }: TileSizes): number => (bm / rows) * (bn / cols);

/** Bytes of workgroup memory: one spare vec4 per row of k keeps the transposed stores on different banks. */
export const tileBytes = (tile: TileSizes): number => 16 * tile.bk * (acrossA(tile) + tile.bn / 4 + 2);

/** vec4 of A per step of k: the rows of an invocation begin with one of their own. */
const acrossA = ({ bm, rows }: TileSizes): number => (bm / rows) * Math.ceil(rows / 4);

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * The text for operands that are contiguous along k or not. A grid layer z is (batch, split of k); with more than one split
 * the output is a stack of partial sums. Needs readA, readB and put of matmul-access.wgsl.ts.
 */
export function tiledMatmul(tile: TileSizes, along: { a: boolean; b: boolean }): string {
  const { bm, bn, bk, rows, cols } = tile;
  const [across, groups] = [bn / cols, cols / 4];
  const perRow = Math.ceil(rows / 4);
  const slots = fetchSlots(tile);
  const sums = range(rows).flatMap((i) => range(groups).map((j) => `c${i}_${j}`));
  const step = [
    ...range(perRow).map((p) => `let a${p} = tileA[q * ${acrossA(tile) + 1}u + y * ${perRow}u + ${p}u];`),
    ...range(groups).map((j) => `let b${j} = tileB[q * ${bn / 4 + 1}u + x + ${j * across}u];`),
    ...range(rows).flatMap((i) =>
      range(groups).map((j) => `c${i}_${j} = fma(vec4f(a${i >> 2}.${"xyzw"[i % 4]}), b${j}, c${i}_${j});`),
    ),
  ];
  const puts = range(rows).map((i) => {
    const row = range(groups).map((j) => `put(wid.z, row + ${i}u, col0 + 4u * x + ${4 * j * across}u, c${i}_${j});`);
    return `if (row + ${i}u < u.m) { ${row.join(" ")} }`;
  });
  return `
var<workgroup> tileA: array<vec4f, ${bk * (acrossA(tile) + 1)}>;
var<workgroup> tileB: array<vec4f, ${bk * (bn / 4 + 1)}>;
${block("A", "m", along.a)}
${block("B", "n", along.b)}

@compute @workgroup_size(${tileInvocations(tile)})
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lid: u32) {
  let batch = wid.z / u.splits;
  let first = (wid.z % u.splits) * u.span;
  let end = min(first + u.span, u.k);
  let row0 = wid.y * ${bm}u;
  let col0 = wid.x * ${bn}u;
  let baseA = u.firstA + batch * u.sa;
  let baseB = u.firstB + batch * u.sb;
  let x = lid % ${across}u;
  let y = lid / ${across}u;
${slots.map((slot) => places(slot, tile, along)).join("\n")}
${sums.map((name) => `  var ${name} = vec4f();`).join("\n")}
  for (var k = first; ; k += ${bk}u) {
    // The next blocks are on their way while the current ones are consumed.
${slots.map(({ i }) => `    var next${i} = mat4x4f();`).join("\n")}
    if (k < end) {
${slots.map(fetches).join("\n")}
    }
    if (k > first) {
      for (var q = 0u; q < ${bk}u; q += 1u) {
        ${step.join("\n        ")}
      }
    }
    if (k >= end) { break; }
    workgroupBarrier();
${slots.map((slot) => stores(slot, tile)).join("\n")}
    workgroupBarrier();
  }
  let row = row0 + ${rows}u * y;
  ${puts.join("\n  ")}
}
`;
}

/** One of the 4 x 4 blocks that an invocation fetches: of A, of B, or of either by the invocation. */
interface Slot {
  i: number;
  /** Which invocations it is A's for, and which B's: all, none, or a condition. */
  a: string | boolean;
  b: string | boolean;
}

/** The blocks of A, then those of B, dealt to the invocations in turn. */
function fetchSlots(tile: TileSizes): Slot[] {
  const wg = tileInvocations(tile);
  const blocksA = (acrossA(tile) * tile.bk) / 4;
  const all = blocksA + (tile.bn * tile.bk) / 16;
  const below = (i: number, end: number) => ((i + 1) * wg <= end ? true : i * wg < end && `t${i} < ${end}u`);
  return range(Math.ceil(all / wg)).map((i) => {
    const a = below(i, blocksA);
    const within = below(i, all);
    if (a === true) return { i, a, b: false };
    return { i, a, b: a === false ? within : within === true ? `!(${a})` : `!(${a}) && ${within}` };
  });
}

/** Which block it is: neighbours run along the contiguous dimension. */
function places({ i, a }: Slot, tile: TileSizes, along: { a: boolean; b: boolean }): string {
  const steps = tile.bk / 4;
  const wide = [acrossA(tile), tile.bn / 4];
  const blocksA = wide[0] * steps;
  const at = (n: string, operand: 0 | 1) =>
    (operand === 0 ? along.a : along.b)
      ? [`${n} / ${steps}u`, `${n} % ${steps}u`]
      : [`${n} % ${wide[operand]}u`, `${n} / ${wide[operand]}u`];
  const [ra, ka] = at(`t${i}`, 0);
  const [rb, kb] = at(`(t${i} - ${blocksA}u)`, 1);
  const choose = (forA: string, forB: string) =>
    a === true ? forA : a === false ? forB : `select(${forB}, ${forA}, ${a})`;
  const perRow = Math.ceil(tile.rows / 4);
  const rowA = tile.rows % 4 === 0 ? `4u * r${i}` : `r${i} / ${perRow}u * ${tile.rows}u + 4u * (r${i} % ${perRow}u)`;
  return `  let t${i} = lid + ${i * tileInvocations(tile)}u;
  let r${i} = ${choose(ra, rb)};
  let k${i} = 4u * (${choose(ka, kb)});
  let at${i} = ${choose(`row0 + ${rowA}`, `col0 + 4u * r${i}`)};`;
}

const when = (condition: string | boolean, then: string): string =>
  condition === true ? then : condition === false ? "" : `if (${condition}) { ${then} }`;

const fetches = ({ i, a, b }: Slot): string =>
  ["A", "B"]
    .map((name, operand) => when(operand === 0 ? a : b, `next${i} = block${name}(base${name}, at${i}, k + k${i});`))
    .filter(Boolean)
    .map((line) => `      ${line}`)
    .join("\n");

function stores({ i, a, b }: Slot, tile: TileSizes): string {
  const into = (name: "A" | "B", wide: number) =>
    range(4)
      .map((q) => `tile${name}[(k${i} + ${q}u) * ${wide + 1}u + r${i}] = next${i}[${q}];`)
      .join(" ");
  return [when(a, into("A", acrossA(tile))), when(b, into("B", tile.bn / 4))]
    .filter(Boolean)
    .map((line) => `    ${line}`)
    .join("\n");
}

/** `blockA` / `blockB`: column q of the result is step k + q of rows (or columns) r .. r + 3; zero past the end of k. */
function block(name: "A" | "B", size: "m" | "n", along: boolean): string {
  const ld = `u.ld${name.toLowerCase()}`;
  const four = (element: (q: number) => string) => range(4).map(element).join(",\n    ");
  if (along) {
    return `
fn block${name}(base: u32, r: u32, k: u32) -> mat4x4f {
  let last = u.${size} - 1u;
  let left = max(u.k, k) - k;
  return transpose(mat4x4f(
    ${four((q) => `read${name}(base + min(r + ${q}u, last) * ${ld} + k, left)`)}));
}`;
  }
  return `
fn block${name}(base: u32, r: u32, k: u32) -> mat4x4f {
  let left = max(u.${size}, r) - r;
  let i = base + k * ${ld} + r;
  return mat4x4f(
    ${four((q) => `read${name}(i + ${q}u * ${ld}, select(0u, left, k + ${q}u < u.k))`)});
}`;
}

/** Adds the partial sums of a product split along k; one invocation per output. Binding `parts` is f32. */
export const MATMUL_COMBINE = `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u,
        @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * 64u + lid;
  if (i >= u.size) { return; }
  let batch = i / u.sc;
  var at = batch * u.splits * u.sc + i % u.sc;
  var sum = 0.0;
  for (var s = 0u; s < u.splits; s += 1u) {
    sum += parts[at];
    at += u.sc;
  }
  let within = i % u.sc;
  finish(batch, within / u.n, within % u.n, sum);
}
`;
