/**
 * The words that the kernels of attention-tiled.wgsl.ts are written in: products of a workgroup's own rows with a tile of items, weights
 * that are handed over in workgroup memory, sums of items by these weights, what is kept of each own row, and the frame of a kernel.
 */
import { TANH } from "./elementwise.wgsl.ts";

export interface TiledShape {
  /** headDim / 4 */
  d4: number;
  /** own rows of an invocation: a multiple of 4 */
  rows: number;
  /** items of an invocation in a tile */
  items: number;
  /** invocations that share own rows; items x lanes = 32, so that the weights of a tile are half of the pool */
  lanes: number;
  /** rows see only the last `u.window` keys */
  window: boolean;
  /** scores are capped at `u.cap2`, in base 2 */
  softcap: boolean;
  /** vec4s of the half of a head that turned with the position: gradients of queries and keys are turned back; 0: none */
  turned: number;
}

/** Own rows of a workgroup. */
export const TILED_BLOCK = 64 as const;
/** vec4s of workgroup memory: 16 KiB, which every adapter has. */
const POOL = 1024;
const WEIGHTS = POOL / 2;

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
export const lines = (n: number, f: (i: number) => string): string => range(n).map(f).join("\n");
export const times = (a: number, b: number, f: (i: number, j: number) => string): string =>
  lines(a, (i) => lines(b, (j) => f(i, j)));

/** vec4s of the head that are staged at a time: its largest divisor up to 8. */
const sliceOf = ({ d4 }: TiledShape): number => [8, 7, 6, 5, 4, 3, 2, 1].find((n) => d4 % n === 0) as number;
/** Items that are gathered at a time: as many as half of the pool holds, in fours. */
const partOf = ({ d4, items, lanes }: TiledShape): number =>
  Math.min(items * lanes, 2 ** Math.floor(Math.log2(WEIGHTS / d4)));
/** vec4s of rows that an invocation has, and vec4s of columns. */
export const quads = ({ rows }: TiledShape): number => rows / 4;
export const columns = ({ d4, lanes }: TiledShape): number => Math.ceil(d4 / lanes);

/** Vectors that are staged: `buffer` has row `row`'s from `at(row)` on. */
export interface Staged {
  buffer: string;
  at: (row: string) => string;
}

/**
 * Copies vec4s into the pool, WG at a time: `from` says where number e of `total` lies, `to` where in the pool it goes. All
 * are on their way before the barrier behind which the pool may be written.
 */
function stage(shape: TiledShape, copies: { total: number; from: (e: string) => string; to: (e: string) => string }[]) {
  const wg = (TILED_BLOCK / shape.rows) * shape.lanes;
  const each = (f: (copy: (typeof copies)[number], n: number, e: string, first: number) => string): string =>
    copies
      .map((copy, n) => lines(Math.ceil(copy.total / wg), (k) => f(copy, 100 * n + k, `(lid + ${k * wg}u)`, k * wg)))
      .join("\n");
  return `${each(({ from }, n, e) => `      let staged${n} = A4(${from(e)});`)}
      workgroupBarrier();
${each(({ total, to }, n, e, first) => {
  const copy = `pool[${to(e)}] = staged${n};`;
  return first + wg <= total ? `      ${copy}` : `      if (${e} < ${total}u) { ${copy} }`;
})}
      workgroupBarrier();`;
}

const own = (i: string): string => `min(block.x + ${i}, block.y - 1u)`;
const item = (i: string): string => `min(base + ${i}, hi - 1u)`;
const read = ({ buffer, at }: Staged, row: string, column: string): string => `${buffer}[${at(row)} + ${column}]`;

/**
 * Dot products `name{j}_{h}` of the invocation's own rows (component = row of quad h) with its items j. The loop over slices
 * ends at a number that compilers cannot know: unrolled, it costs registers and time to compile.
 */
export function product(shape: TiledShape, name: string, mine: Staged, theirs: Staged): string {
  const { items, lanes, rows } = shape;
  const slice = sliceOf(shape);
  const column = (e: string) => `slice + ${e} % SLICE`;
  const ownRows = {
    total: TILED_BLOCK * slice,
    from: (e: string) => read(mine, own(`${e} / SLICE`), column(e)),
    to: (e: string) => `${e} / SLICE * STRIDE + ${e} % SLICE`,
  };
  // Item i is what invocation i / ITEMS of a row has; neighbours read neighbouring rows of the pool.
  const tile = {
    total: items * lanes * slice,
    from: (e: string) => read(theirs, item(`(${e} / SLICE % LANES * ITEMS + ${e} / SLICE / LANES)`), column(e)),
    to: (e: string) => `(BLOCK + ${e} / SLICE) * STRIDE + ${e} % SLICE`,
  };
  return `${times(items, quads(shape), (j, h) => `    var ${name}${j}_${h} = A4();`)}
    for (var slice = 0u; slice < u.d4; slice += SLICE) {
${stage(shape, [ownRows, tile])}
      for (var c = 0u; c < SLICE; c++) {
${lines(rows, (i) => `        let x${i} = pool[mine * STRIDE + ${i}u * STRIDE + c];`)}
${lines(items, (j) => `        let y${j} = pool[(BLOCK + lane) * STRIDE + ${j}u * LANES * STRIDE + c];`)}
${times(items, quads(shape), (j, h) => {
  const parts = range(4).map((i) => `dot4(x${4 * h + i}, y${j}, ${name}${j}_${h}.${"xyzw"[i]})`);
  return `        ${name}${j}_${h} = A4(${parts.join(", ")});`;
})}
      }
    }`;
}

/** Puts the weights `name{j}_{h}` into the pool. Neighbouring items are spread over the banks. */
export const put = (shape: TiledShape, name: string): string =>
  times(
    shape.items,
    quads(shape),
    (j, h) => `    pool[weightAt(lane * ITEMS + ${j}u, quad + ${h}u)] = ${name}${j}_${h};`,
  );

/** `to{i}_{n}` += the weights in the pool times the tile's items. */
export function gather(shape: TiledShape, to: string, items: Staged): string {
  const n = columns(shape);
  const part = {
    total: partOf(shape) * shape.d4,
    from: (e: string) => read(items, item(`part + ${e} / D4`), `${e} % D4`),
    to: (e: string) => `WEIGHTS + ${e}`,
  };
  return `    for (var part = 0u; part < TILE; part += PART) {
${stage(shape, [part])}
      for (var k = 0u; k < PART; k += 4u) {
        for (var q = 0u; q < 4u; q++) {
${lines(quads(shape), (h) => `          let w${h} = pool[weightAt(part + k, quad + ${h}u) + q * QUADS];`)}
${lines(n, (c) => `          let v${c} = pool[WEIGHTS + (k + q) * D4 + column${c}];`)}
${times(shape.rows, n, (i, c) => {
  const sum = `${to}${i}_${c}`;
  return `          ${sum} = fma(A4(${of("w", i)}), v${c}, ${sum});`;
})}
        }
      }
    }`;
}

/** name{h} = the sum or maximum of `of{h}` over the invocations that share rows. */
export const across = (shape: TiledShape, of: string, combine: (a: string, b: string) => string): string =>
  `    workgroupBarrier();
${lines(quads(shape), (h) => `    pool[WEIGHTS + ${h}u * WG + lid] = ${of}${h};`)}
    workgroupBarrier();
${lines(
  quads(shape),
  (h) => `    ${of}${h} = pool[WEIGHTS + ${h}u * WG + lid - lane];
    for (var k = 1u; k < LANES; k++) { ${of}${h} = ${combine(`${of}${h}`, `pool[WEIGHTS + ${h}u * WG + lid - lane + k]`)}; }`,
)}`;

export const sumsOf = (shape: TiledShape, name: string): string =>
  times(shape.rows, columns(shape), (i, c) => `  var ${name}${i}_${c} = A4();`);

/** Stores the sums of own row i at the D vectors that begin at `at` (of `row`), times `factor`. */
export const store = (
  shape: TiledShape,
  name: string,
  buffer: string,
  at: string,
  factor: (i: number) => string,
): string =>
  lines(
    shape.rows,
    (i) => `  if (block.x + mine + ${i}u < block.y) {
    let row = block.x + mine + ${i}u;
${lines(columns(shape), (c) => {
  const line = `${buffer}[${at} + column${c}] = T4(${name}${i}_${c}${factor(i)});`;
  const whole = shape.d4 % shape.lanes === 0 || c < columns(shape) - 1;
  return whole ? `    ${line}` : `    if (lane + ${c}u * LANES < D4) { ${line} }`;
})}
  }`,
  );

/** Whether an invocation has both columns of each of its pairs, so that it can turn their gradients back: see `storeTurned`. */
export const turnsBack = ({ d4, lanes }: Pick<TiledShape, "d4" | "lanes">, half: number): boolean =>
  half % lanes === 0 && 2 * half <= d4;

/** Cosines and sines of pair c at a position, of so many pairs in vec4s; angles are tabled as in rope.wgsl.ts. */
export const turnText = (pairs: number): string => `const TURNED = ${pairs}u;
struct Turn { co: A4, si: A4 }
fn turnOf(position: u32, c: u32) -> Turn {
  let low = (position % LOW) * 2u * TURNED + c;
  let high = (LOW + min(position / LOW, HIGH - 1u)) * 2u * TURNED + c;
  return Turn(
    angles[low] * angles[high] - angles[low + TURNED] * angles[high + TURNED],
    angles[low + TURNED] * angles[high] + angles[low] * angles[high + TURNED],
  );
}
`;

/** As `store`, of the gradient of rows that were turned by their positions, times u.scale: turned back. */
export function storeTurned(shape: TiledShape, name: string, at: string): string {
  const apart = shape.turned / shape.lanes; // from one column of a pair to the other
  if (apart === 0) return store(shape, name, "dqkv", at, () => " * u.scale");
  const turn = times(
    shape.rows,
    apart,
    (i, c) => `  {
    let turn = turnOf(min(block.x + mine + ${i}u, block.y - 1u) - block.z, column${c});
    let first = ${name}${i}_${c};
    let second = ${name}${i}_${c + apart};
    ${name}${i}_${c} = first * turn.co + second * turn.si;
    ${name}${i}_${c + apart} = second * turn.co - first * turn.si;
  }`,
  );
  return `${turn}\n${store(shape, name, "dqkv", at, () => " * u.scale")}`;
}

/** name{h} = a number of each own row. */
export const perRow = (shape: TiledShape, name: string, value: (row: string) => string): string =>
  lines(
    quads(shape),
    (h) =>
      `  var ${name}${h} = A4(${range(4)
        .map((i) => value(row(h, i)))
        .join(", ")});`,
  );
const row = (h: number, i: number): string => `r${h}.${"xyzw"[i]}`;
/** The same number of each row, stored by one invocation of those that share it. */
export const storePerRow = (shape: TiledShape, name: string, buffer: string): string =>
  lines(
    shape.rows,
    (i) => `  if (lane == 0u && block.x + mine + ${i}u < block.y) {
    ${buffer}[(block.x + mine + ${i}u) * u.heads + query] = ${of(name, i)};
  }`,
  );
/** What belongs to own row i of a vec4 per quad. */
export const of = (name: string, i: number): string => `${name}${i >> 2}.${"xyzw"[i & 3]}`;

/**
 * How a kernel begins: a workgroup's head and block. The last queries of a sequence see the most keys and its first keys are seen by
 * the most queries: these blocks come first, so that none of them is left to run alone at the end.
 */
export const mainOf = (heads: "heads" | "kvHeads"): string => `@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let task = linearId(wid, nwg);
  if (task >= u.tasks) { return; }
  let width = (u.heads + 2u * u.kvHeads) * D4;
  let group = u.heads / u.kvHeads;
  let head = task % u.${heads};
  let block = blocks[${heads === "heads" ? "u.tasks / u.heads - 1u - task / u.heads" : "task / u.kvHeads"}];
`;

/** The whole kernel. */
export function entry(shape: TiledShape, heads: "heads" | "kvHeads", body: string): string {
  const { d4, rows, items, lanes, softcap, turned } = shape;
  return `${softcap ? `alias D = A4;${TANH}` : ""}${turned > 0 ? turnText(turned) : ""}const LOWEST = A4(-3.0e38);
const D4 = ${d4}u;
const BLOCK = ${TILED_BLOCK}u;
const QUADS = BLOCK / 4u;
const ROWS = ${rows}u;
const ITEMS = ${items}u;
const LANES = ${lanes}u;
const WG = BLOCK / ROWS * LANES;
const TILE = ITEMS * LANES;
const SLICE = ${sliceOf(shape)}u;
// Odd, so that rows begin on different banks.
const STRIDE = SLICE | 1u;
const PART = ${partOf(shape)}u;
const WEIGHTS = ${WEIGHTS}u;
var<workgroup> pool: array<A4, ${POOL}>;
fn dot4(a: A4, b: A4, s: f32) -> f32 { return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, s)))); }
fn weightAt(item: u32, quad: u32) -> u32 { return item * QUADS + (quad ^ (item / 4u % 8u)); }
// Lets NaN through.
fn atMost0(x: A4) -> A4 { return select(x, A4(), x > A4()); }
${mainOf(heads)}  let lane = lid % LANES;
  let mine = lid / LANES * ROWS;
  let quad = mine / 4u;
${lines(columns(shape), (c) => `  let column${c} = min(lane + ${c}u * LANES, D4 - 1u);`)}
${lines(quads(shape), (h) => `  let r${h} = min(vec4u(block.x + mine + ${4 * h}u) + vec4u(0u, 1u, 2u, 3u), vec4u(block.y - 1u));`)}
${body}
}
`;
}
