/**
 * Causal attention over packed sequences with the matrix units of a GPU (subgroup matrices): operands in f16, sums, softmax and
 * its gradient in f32. Rows, blocks, segments, and scores in base 2 are as attention-parts.wgsl.ts says; so are rows that see
 * no key (0) and rows that see keys without a finite score (NaN).
 *
 * A workgroup owns a block of 64 rows, of which each subgroup has its share, and streams the other side past it, 32 items at a
 * time. All of it is two steps on one layout of workgroup memory, 16 KiB in all:
 * - `product`: scores = own . items, over slices of 32 columns, of which both sides are staged in f16. Scores go to workgroup
 *   memory in f32, where each invocation reads its part of one row.
 * - `gather`: sums += weights . items, where the weights (f16) lie in place of the staged own rows. Sums stay in registers.
 *
 * A matrix in registers cannot be scaled row by row, so nothing is rescaled: the forward pass first finds each row's statistics
 * (Milakov and Gimelshein 2018), then computes the scores again for weights that are final. That takes three products for two,
 * and gives the gradients the very same weights.
 *
 * What is rounded to f16: queries, keys, values and output gradients, which are f16 in memory; weights, times 2^12 so that those
 * of long sequences keep their digits; and the gradients of scores, which become infinite where they exceed 65,504, as products
 * in f16 do: the step is then skipped and the loss scale lowered.
 */

import { DOUT, KEY, OUT_DOUT, QUERY, score, slope, VALUE } from "./attention-tiled.wgsl.ts";
import { TILED_BLOCK as BLOCK, lines, mainOf, range, type Staged, times, turnText } from "./attention-tiles.wgsl.ts";
import { TANH } from "./elementwise.wgsl.ts";

export interface MatrixShape {
  /** headDim / 4, a multiple of 8 */
  d4: number;
  /** sizes that the adapter multiplies: [m, k] by [k, n] */
  m: number;
  n: number;
  k: number;
  /** the largest size of a subgroup */
  lanes: number;
  /** rows see only the last `u.window` keys */
  window: boolean;
  /** scores are capped at `u.cap2`, in base 2 */
  softcap: boolean;
  /** vec4s of the half of a head that turned with the position: gradients of queries and keys are turned back; 0: none */
  turned: number;
}

/** Items of a tile, and columns of a slice. */
const TILE = 32;
/** Elements from one staged row to the next: spare ones keep neighbours on different banks. */
const STRIDE = TILE + 8;
const ITEMS_AT = BLOCK * STRIDE;
/** Heads up to this wide have room for the sums of two gradients at once. */
const BOTH = 128;

const subgroups = ({ lanes }: Pick<MatrixShape, "lanes">): number => Math.max(4, BLOCK / lanes);
/** Own rows of a subgroup. */
const ownRows = (shape: Pick<MatrixShape, "lanes">): number => BLOCK / subgroups(shape);

/** Invocations of a workgroup. */
export const matrixInvocations = (shape: Pick<MatrixShape, "lanes">): number => subgroups(shape) * shape.lanes;
/** Bytes of workgroup memory. */
export const MATRIX_ATTENTION_BYTES = 4 * BLOCK * TILE + 2 * (BLOCK + TILE) * STRIDE + 4 * 2 * TILE;
/** Whether matrices of this size share a block and a tile evenly, and heads of this width. */
export const matricesFit = ({ d4, m, n, k, lanes }: Pick<MatrixShape, "d4" | "m" | "n" | "k" | "lanes">): boolean =>
  (4 * d4) % TILE === 0 &&
  lanes >= 8 &&
  lanes <= 128 &&
  ownRows({ lanes }) % m === 0 &&
  TILE % n === 0 &&
  TILE % k === 0;

/** Matrices of a subgroup's rows, and of the columns of a tile or a slice. */
const down = (shape: MatrixShape): number => ownRows(shape) / shape.m;
const across = ({ n }: MatrixShape): number => TILE / n;
/** Columns of a row of scores that an invocation has. */
const count = (shape: MatrixShape): number => (TILE * BLOCK) / matrixInvocations(shape);

/** A block's rows or a tile's items, and where in the pool they are staged. */
interface Side {
  rows: number;
  at: number;
  row: (i: string) => string;
}
const OWN: Side = { rows: BLOCK, at: 0, row: (i) => `min(block.x + ${i}, block.y - 1u)` };
const ITEMS: Side = { rows: TILE, at: ITEMS_AT, row: (i) => `min(base + ${i}, hi - 1u)` };

/** Copies a slice of 32 columns, from vec4 `column` on, of each side into the pool. All loads are on their way before the barrier. */
function stage(shape: MatrixShape, column: string, sides: [Side, Staged][]): string {
  const wg = matrixInvocations(shape);
  const each = (f: (side: Side, staged: Staged, name: string, e: string, whole: boolean) => string): string =>
    sides
      .map(([side, staged], s) => {
        const total = (side.rows * TILE) / 4;
        return lines(Math.ceil(total / wg), (i) =>
          f(side, staged, `staged${s}_${i}`, `(lid + ${i * wg}u)`, (i + 1) * wg <= total),
        );
      })
      .join("\n");
  return `${each((side, { buffer, at }, name, e) => `      let ${name} = ${buffer}[${at(side.row(`${e} / 8u`))} + ${column} + ${e} % 8u];`)}
      workgroupBarrier();
${each((side, _, name, e, whole) => {
  const keep = `keep(${side.at}u + ${e} / 8u * STRIDE + ${e} % 8u * 4u, ${name});`;
  return whole ? `      ${keep}` : `      if (${e} < ${side.rows * 8}u) { ${keep} }`;
})}
      workgroupBarrier();`;
}

/**
 * Leaves the dot products of own rows and items in `scores`, [BLOCK, TILE]. Sums are set to zero by hand: on lavapipe those of a
 * declaration in a loop, which should be zero each time, go on from the round before.
 */
function product(shape: MatrixShape, mine: Staged, theirs: Staged): string {
  const { m, n } = shape;
  return `    {
${times(down(shape), across(shape), (i, j) => `    var c${i}_${j} = Sums();`)}
    for (var slice = 0u; slice < u.d4; slice += 8u) {
${stage(shape, "slice", [
  [OWN, mine],
  [ITEMS, theirs],
])}
      for (var q = 0u; q < TILE; q += K) {
${lines(across(shape), (j) => `        let y${j} = subgroupMatrixLoad<Right, col_major>(&pool, ${ITEMS_AT + j * n * STRIDE}u + q, STRIDE);`)}
${lines(
  down(shape),
  (i) => `        let x${i} = subgroupMatrixLoad<Left, row_major>(&pool, (own + ${i * m}u) * STRIDE + q, STRIDE);
${lines(across(shape), (j) => `        c${i}_${j} = subgroupMatrixMultiplyAccumulate(x${i}, y${j}, c${i}_${j});`)}`,
)}
      }
    }
${leave(shape, "c", 0)}
    }`;
}

/** Puts a subgroup's sums of 32 columns, from matrix `first` on, where all invocations read them. */
const leave = (shape: MatrixShape, name: string, first: number): string =>
  `${times(
    down(shape),
    across(shape),
    (i, j) =>
      `    subgroupMatrixStore<row_major>(&scores, (own + ${i * shape.m}u) * TILE + ${j * shape.n}u, ${name}${i}_${first + j}, TILE);`,
  )}
    workgroupBarrier();`;

const slices = ({ d4 }: MatrixShape): number => d4 / 8;
const sumsOf = (shape: MatrixShape, name: string): string =>
  times(down(shape), slices(shape) * across(shape), (i, j) => `  var ${name}${i}_${j}: Sums;`);

/** `to` += the weights in the pool times the tile's items. */
function gather(shape: MatrixShape, to: string, items: Staged): string {
  const { m, n } = shape;
  return lines(
    slices(shape),
    (slice) => `    {
${stage(shape, `${8 * slice}u`, [[ITEMS, items]])}
      for (var q = 0u; q < TILE; q += K) {
${lines(across(shape), (j) => `        let y${j} = subgroupMatrixLoad<Right, row_major>(&pool, ${ITEMS_AT}u + q * STRIDE + ${j * n}u, STRIDE);`)}
${lines(
  down(shape),
  (i) => `        let x${i} = subgroupMatrixLoad<Left, row_major>(&pool, (own + ${i * m}u) * STRIDE + q, STRIDE);
${lines(across(shape), (j) => {
  const sum = `${to}${i}_${slice * across(shape) + j}`;
  return `        ${sum} = subgroupMatrixMultiplyAccumulate(x${i}, y${j}, ${sum});`;
})}`,
)}
      }
    }`,
  );
}

/** For each vec4 of a slice that an invocation stores: which one of the block's rows it is of, where in `scores`, and in which column. */
const pieces = (shape: MatrixShape, then: (i: number) => string): string => {
  const wg = matrixInvocations(shape);
  return lines(
    (BLOCK * TILE) / 4 / wg,
    (i) => `    {
      let e = lid + ${i * wg}u;
      let row = block.x + e / 8u;
${then(i)}
    }`,
  );
};
const PIECE = "A4(scores[4u * e], scores[4u * e + 1u], scores[4u * e + 2u], scores[4u * e + 3u])";

/** Stores the sums of own rows, times `factor`, at the D vectors that begin at `at` (of `row`); only slices from `from` on. */
const store = (shape: MatrixShape, name: string, buffer: string, at: string, factor: string, from = 0): string =>
  range(slices(shape))
    .slice(from)
    .map(
      (slice) => `    workgroupBarrier();
${leave(shape, name, slice * across(shape))}
${pieces(shape, () => `      if (row < block.y) { ${buffer}[${at} + ${8 * slice}u + e % 8u] = T4(${PIECE} * ${factor}); }`)}`,
    )
    .join("\n");

/** Whether both columns of each pair lie in whole slices, so that their gradients can be turned back: see `storeTurned`. */
export const matrixTurnsBack = ({ d4 }: Pick<MatrixShape, "d4">, half: number): boolean =>
  half % 8 === 0 && 2 * half <= d4;

/** As `store`, of the gradient of rows that were turned by their positions, times u.scale: turned back. */
function storeTurned(shape: MatrixShape, name: string, at: string): string {
  const apart = shape.turned / 8; // slices from one column of a pair to the other
  const pair = (slice: number): string => `    workgroupBarrier();
${leave(shape, name, slice * across(shape))}
${lines((BLOCK * TILE) / 4 / matrixInvocations(shape), (i) => `    var first${slice}_${i} = A4();`)}
${pieces(shape, (i) => `      first${slice}_${i} = ${PIECE};`)}
    workgroupBarrier();
${leave(shape, name, (slice + apart) * across(shape))}
${pieces(
  shape,
  (i) => `      if (row < block.y) {
        let second = ${PIECE};
        let turn = turnOf(row - block.z, ${8 * slice}u + e % 8u);
        let place = ${at} + ${8 * slice}u + e % 8u;
        dqkv[place] = T4((first${slice}_${i} * turn.co + second * turn.si) * u.scale);
        dqkv[place + TURNED] = T4((second * turn.co - first${slice}_${i} * turn.si) * u.scale);
      }`,
)}`;
  return `${lines(apart, pair)}\n${store(shape, name, "dqkv", at, "u.scale", 2 * apart)}`;
}

/** For each of the invocation's scores: `s{j}` in column `c{j}`, capped and scaled. Columns begin at another one in each row, for the banks' sake. */
const scores = (shape: MatrixShape, then: (j: number) => string): string =>
  lines(
    count(shape),
    (j) => `    let c${j} = first + ((mine + ${j}u) & (COUNT - 1u));
    var s${j} = scores[mine * TILE + c${j}];
${score(shape, `s${j}`)}
${then(j)}`,
  );
/** name = the sum or maximum of `of` over the invocations that share a row. */
const shared = (name: string, of: string, combine: (a: string, b: string) => string): string => `    workgroupBarrier();
    scores[lid] = ${of};
    workgroupBarrier();
    var ${name} = scores[mine * SHARE];
    for (var k = 1u; k < SHARE; k++) { ${name} = ${combine(name, "scores[mine * SHARE + k]")}; }`;

/** What the own row, a query, sees: keys lo .. hi of its block, up to e (with a window, after e - w). */
const visible = ({ window }: MatrixShape): string => `  let query = head;
  let kv = head / group;
  let e = min(r, block.w - 1u);${window ? "\n  let w = u.window - min(u.window, r - e);" : ""}
  let lo = ${window ? "max(block.z, select(0u, block.x + 1u - u.window, block.x + 1u > u.window))" : "block.z"};
  let hi = min(block.y, block.w);`;
/** Differences below 0 wrap around to large numbers, which no window holds. */
const seen = ({ window }: MatrixShape, j: number): string =>
  window ? `(e - (base + c${j}) < w)` : `(base + c${j} <= e)`;

/** bindings and scalars: as attention.wgsl.ts says */
export function matrixForward(shape: MatrixShape): string {
  const all = range(count(shape));
  return entry(
    shape,
    "heads",
    `${visible(shape)}
  var m = LOWEST;
  var l = 0.0;
  for (var base = lo; base < hi; base += TILE) {
${product(shape, QUERY, KEY)}
${scores(shape, (j) => `    s${j} = select(LOWEST, s${j}, ${seen(shape, j)});`)}
    let top = ${all.reduce((most, j) => `max(${most}, s${j})`, "m")};
    l *= exp2(m - top);
    m = top;
${lines(count(shape), (j) => `    l += select(0.0, exp2(s${j} - m), ${seen(shape, j)});`)}
  }
${shared("most", "m", (a, b) => `max(${a}, ${b})`)}
${shared("sum", "l * exp2(m - most)", (a, b) => `${a} + ${b}`)}
  let L = select(LOWEST, most + log2(sum), lo < hi${shape.window ? " && w > 0u" : ""});
  if (part == 0u && block.x + mine < block.y) { stats[r * u.heads + query] = L; }
${sumsOf(shape, "o")}
  for (var base = lo; base < hi; base += TILE) {
${product(shape, QUERY, KEY)}
${scores(shape, (j) => `    pool[mine * STRIDE + c${j}] = f16(select(0.0, exp2(atMost0(s${j} - L)), ${seen(shape, j)}) * LIFT);`)}
${gather(shape, "o", VALUE)}
  }
${store(shape, "o", "out", "(row * u.heads + query) * D4", "(1.0 / LIFT)")}`,
  );
}

/** bindings and scalars: as attention.wgsl.ts says */
export function matrixBackwardQuery(shape: MatrixShape): string {
  return `${OUT_DOUT}${entry(
    shape,
    "heads",
    `${visible(shape)}
  let L = stats[r * u.heads + query];
  let partOfDelta = outDout((r * u.heads + query) * D4 + part, D4 / LANES);
${shared("delta_", "partOfDelta", (a, b) => `${a} + ${b}`)}
  if (part == 0u && block.x + mine < block.y) { delta[r * u.heads + query] = delta_; }
${sumsOf(shape, "d")}
  for (var base = lo; base < hi; base += TILE) {
${product(shape, QUERY, KEY)}
${scores(shape, (j) => `    let w${j} = select(0.0, exp2(atMost0(s${j} - L)), ${seen(shape, j)})${slope(shape, `s${j}`)};`)}
${product(shape, DOUT, VALUE)}
${lines(count(shape), (j) => `    pool[mine * STRIDE + c${j}] = f16(w${j} * (scores[mine * TILE + c${j}] - delta_));`)}
${gather(shape, "d", KEY)}
  }
${storeTurned(shape, "d", "row * width + query * D4")}`,
  )}`;
}

/** bindings and scalars: as attention.wgsl.ts says. Own rows are keys here, and items are queries of every head on the KV head. */
export function matrixBackwardKeyValue(shape: MatrixShape): string {
  const { window } = shape;
  const sees = (j: number): string => {
    const item = `(base + c${j})`;
    return `(${item} < hi && ${window ? `${item} - r < u.window` : `${item} >= r`})`;
  };
  const loop = (body: string): string => `  for (var query = kv * group; query < (kv + 1u) * group; query++) {
  for (var base = lo; base < hi; base += TILE) {
    if (lid < TILE) {
      let at = min(base + lid, hi - 1u) * u.heads + query;
      ofItems[lid] = stats[at];
      ofItems[TILE + lid] = delta[at];
    }
${product(shape, KEY, QUERY)}
${scores(shape, (j) => `    let p${j} = select(0.0, exp2(atMost0(s${j} - ofItems[c${j}])), ${sees(j)});`)}
${body}
  }
  }`;
  const values = `${lines(count(shape), (j) => `    pool[mine * STRIDE + c${j}] = f16(p${j} * LIFT);`)}
${gather(shape, "dv", DOUT)}`;
  const keys = `${product(shape, VALUE, DOUT)}
${lines(count(shape), (j) => `    pool[mine * STRIDE + c${j}] = f16(p${j}${slope(shape, `s${j}`)} * (scores[mine * TILE + c${j}] - ofItems[TILE + c${j}]));`)}
${gather(shape, "dk", QUERY)}`;
  const storeValues = store(shape, "dv", "dqkv", VALUE.at("row"), "(1.0 / LIFT)");
  const storeKeys = storeTurned(shape, "dk", KEY.at("row"));
  const both = 4 * shape.d4 <= BOTH;
  return entry(
    shape,
    "kvHeads",
    `  let kv = head;
  let lo = block.x;
  let hi = ${window ? "min(block.w, block.y - 1u + u.window)" : "block.w"};
${(
  both
    ? [sumsOf(shape, "dv"), sumsOf(shape, "dk"), loop(`${values}\n${keys}`), storeValues, storeKeys]
    : [sumsOf(shape, "dv"), loop(values), storeValues, sumsOf(shape, "dk"), loop(keys), storeKeys]
).join("\n")}`,
  );
}

/** The whole kernel. */
function entry(shape: MatrixShape, heads: "heads" | "kvHeads", body: string): string {
  const { d4, m, n, k, lanes, softcap, turned } = shape;
  const wg = matrixInvocations(shape);
  return `${softcap ? `alias D = f32;${TANH}` : ""}${turned > 0 ? turnText(turned) : ""}const LOWEST = -3.0e38;
const LIFT = 4096.0;
const D4 = ${d4}u;
const WG = ${wg}u;
const TILE = ${TILE}u;
const STRIDE = ${STRIDE}u;
const K = ${k}u;
const COUNT = ${count(shape)}u;
const SHARE = ${wg / BLOCK}u;
const LANES = SHARE;
alias Left = subgroup_matrix_left<f16, ${k}, ${m}>;
alias Right = subgroup_matrix_right<f16, ${n}, ${k}>;
alias Sums = subgroup_matrix_result<f32, ${n}, ${m}>;
var<workgroup> pool: array<f16, ${(BLOCK + TILE) * STRIDE}>;
var<workgroup> scores: array<f32, ${BLOCK * TILE}>;
${heads === "kvHeads" ? `var<workgroup> ofItems: array<f32, ${2 * TILE}>;` : ""}
fn keep(at: u32, v: vec4<f16>) {
  pool[at] = v.x;
  pool[at + 1u] = v.y;
  pool[at + 2u] = v.z;
  pool[at + 3u] = v.w;
}
// Lets NaN through.
fn atMost0(x: f32) -> f32 { return select(x, 0.0, x > 0.0); }
${mainOf(heads)}  let own = lid / ${lanes}u * ${ownRows(shape)}u; // the subgroup's first row
  let mine = lid / SHARE; // the invocation's
  let part = lid % SHARE;
  let first = part * COUNT;
  let r = min(block.x + mine, block.y - 1u);
${body}
}
`;
}
