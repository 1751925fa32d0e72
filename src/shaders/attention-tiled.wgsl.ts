/**
 * Causal attention over packed sequences for GPUs, as tiled matrix products (FlashAttention-2, Dao 2023): a workgroup owns a
 * block of 64 rows and streams the other side of the product past it, `items x lanes` of them at a time. Nothing but
 * workgroup memory and barriers is needed, and no atomics. Rows, blocks, segments, and scores in base 2 are as
 * attention-parts.wgsl.ts says; so are rows that see no key (0) and rows that see keys without a finite score (NaN).
 *
 * For each tile of items:
 * - `product`: scores = own . items, over slices of the head that are staged in the pool, both sides as they lie in memory.
 *   An invocation has `rows` consecutive own rows and `items` consecutive items, and `lanes` invocations share the rows.
 * - the scores become weights in registers, which go into the lower half of the pool, own rows within items.
 * - `gather`: sums += weights . items, with the items staged in the upper half. The invocation has the same own rows, and of
 *   their columns every `lanes`th vec4, so that what belongs to a row (maximum, sum, rescaling) stays in its registers.
 *
 * Own rows past the block's end repeat the last one and are not stored; items past the range repeat the last one and weigh 0.
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

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const lines = (n: number, f: (i: number) => string): string => range(n).map(f).join("\n");
const times = (a: number, b: number, f: (i: number, j: number) => string): string =>
  lines(a, (i) => lines(b, (j) => f(i, j)));

/** vec4s of the head that are staged at a time: its largest divisor up to 8. */
const sliceOf = ({ d4 }: TiledShape): number => [8, 7, 6, 5, 4, 3, 2, 1].find((n) => d4 % n === 0) as number;
/** Items that are gathered at a time: as many as half of the pool holds, in fours. */
const partOf = ({ d4, items, lanes }: TiledShape): number =>
  Math.min(items * lanes, 2 ** Math.floor(Math.log2(WEIGHTS / d4)));
/** vec4s of rows that an invocation has, and vec4s of columns. */
const quads = ({ rows }: TiledShape): number => rows / 4;
const columns = ({ d4, lanes }: TiledShape): number => Math.ceil(d4 / lanes);

/** Vectors that are staged: `buffer` has row `row`'s from `at(row)` on. */
interface Staged {
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
function product(shape: TiledShape, name: string, mine: Staged, theirs: Staged): string {
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
const put = (shape: TiledShape, name: string): string =>
  times(
    shape.items,
    quads(shape),
    (j, h) => `    pool[weightAt(lane * ITEMS + ${j}u, quad + ${h}u)] = ${name}${j}_${h};`,
  );

/** `to{i}_{n}` += the weights in the pool times the tile's items. */
function gather(shape: TiledShape, to: string, items: Staged): string {
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
const across = (shape: TiledShape, of: string, combine: (a: string, b: string) => string): string =>
  `    workgroupBarrier();
${lines(quads(shape), (h) => `    pool[WEIGHTS + ${h}u * WG + lid] = ${of}${h};`)}
    workgroupBarrier();
${lines(
  quads(shape),
  (h) => `    ${of}${h} = pool[WEIGHTS + ${h}u * WG + lid - lane];
    for (var k = 1u; k < LANES; k++) { ${of}${h} = ${combine(`${of}${h}`, `pool[WEIGHTS + ${h}u * WG + lid - lane + k]`)}; }`,
)}`;

const sumsOf = (shape: TiledShape, name: string): string =>
  times(shape.rows, columns(shape), (i, c) => `  var ${name}${i}_${c} = A4();`);

/** Stores the sums of own row i at the D vectors that begin at `at` (of `row`), times `factor`. */
const store = (shape: TiledShape, name: string, buffer: string, at: string, factor: (i: number) => string): string =>
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

/** Cosines and sines of pair c at a position; angles are tabled as in rope.wgsl.ts. */
const TURN = `struct Turn { co: A4, si: A4 }
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
function storeTurned(shape: TiledShape, name: string, at: string): string {
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
const perRow = (shape: TiledShape, name: string, value: (row: string) => string): string =>
  lines(
    quads(shape),
    (h) =>
      `  var ${name}${h} = A4(${range(4)
        .map((i) => value(row(h, i)))
        .join(", ")});`,
  );
const row = (h: number, i: number): string => `r${h}.${"xyzw"[i]}`;
/** The same number of each row, stored by one invocation of those that share it. */
const storePerRow = (shape: TiledShape, name: string, buffer: string): string =>
  lines(
    shape.rows,
    (i) => `  if (lane == 0u && block.x + mine + ${i}u < block.y) {
    ${buffer}[(block.x + mine + ${i}u) * u.heads + query] = ${of(name, i)};
  }`,
  );
/** What belongs to own row i of a vec4 per quad. */
const of = (name: string, i: number): string => `${name}${i >> 2}.${"xyzw"[i & 3]}`;

/** The capped, scaled scores, and what their gradients are multiplied with. */
const score = ({ softcap }: TiledShape, a: string): string =>
  softcap
    ? `    let t${a} = preciseTanh(${a} * u.scale2 / u.cap2);\n    ${a} = u.cap2 * t${a};`
    : `    ${a} *= u.scale2;`;
const slope = ({ softcap }: TiledShape, a: string): string => (softcap ? ` * (1.0 - t${a} * t${a})` : "");

/** The part of dot(out, dout) in every LANES-th vec4 from `at` on, `count` of them. */
const OUT_DOUT = `fn outDout(at: u32, count: u32) -> f32 {
  var sum = A4();
  for (var c = 0u; c < count; c++) { sum = fma(A4(out[at + c * LANES]), A4(dout[at + c * LANES]), sum); }
  return sum.x + sum.y + sum.z + sum.w;
}
`;

/**
 * The whole kernel. The last queries of a sequence see the most keys and its first keys are seen by the most queries: these
 * blocks come first, so that none of them is left to run alone at the end.
 */
function entry(shape: TiledShape, heads: "heads" | "kvHeads", body: string): string {
  const { d4, rows, items, lanes, softcap, turned } = shape;
  return `${softcap ? `alias D = A4;${TANH}` : ""}${turned > 0 ? `const TURNED = ${turned}u;\n${TURN}` : ""}const LOWEST = A4(-3.0e38);
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
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let task = linearId(wid, nwg);
  if (task >= u.tasks) { return; }
  let width = (u.heads + 2u * u.kvHeads) * D4;
  let group = u.heads / u.kvHeads;
  let head = task % u.${heads};
  let block = blocks[${heads === "heads" ? "u.tasks / u.heads - 1u - task / u.heads" : "task / u.kvHeads"}];
  let lane = lid % LANES;
  let mine = lid / LANES * ROWS;
  let quad = mine / 4u;
${lines(columns(shape), (c) => `  let column${c} = min(lane + ${c}u * LANES, D4 - 1u);`)}
${lines(quads(shape), (h) => `  let r${h} = min(vec4u(block.x + mine + ${4 * h}u) + vec4u(0u, 1u, 2u, 3u), vec4u(block.y - 1u));`)}
${body}
}
`;
}

const QUERY: Staged = { buffer: "qkv", at: (row) => `${row} * width + query * D4` };
const KEY: Staged = { buffer: "qkv", at: (row) => `${row} * width + (u.heads + kv) * D4` };
const VALUE: Staged = { buffer: "qkv", at: (row) => `${row} * width + (u.heads + u.kvHeads + kv) * D4` };
const DOUT: Staged = { buffer: "dout", at: (row) => `(${row} * u.heads + query) * D4` };

/** What a workgroup of query rows sees: keys lo .. hi of its block, and of each row those up to e (with a window, after e - w). */
const visible = (shape: TiledShape): string => `  let query = head;
  let kv = head / group;
${lines(quads(shape), (h) => {
  // A row of padding stands after the keys that it sees, so its own place is no bound: e is.
  const last = `  let e${h} = min(r${h}, vec4u(block.w - 1u));`;
  return shape.window ? `${last}\n  let w${h} = vec4u(u.window) - min(vec4u(u.window), r${h} - e${h});` : last;
})}
  let lo = ${shape.window ? "max(block.z, select(0u, block.x + 1u - u.window, block.x + 1u > u.window))" : "block.z"};
  let hi = min(block.y, block.w);`;
/** Differences below 0 wrap around to large numbers, which no window holds. */
const seen = ({ window }: TiledShape, h: number, j: number): string => {
  const key = `vec4u(base + lane * ITEMS + ${j}u)`;
  return window ? `(e${h} - ${key} < w${h})` : `(${key} <= e${h})`;
};

/** bindings and scalars: as attention.wgsl.ts says */
export function tiledForward(shape: TiledShape): string {
  const { items } = shape;
  const n = quads(shape);
  return entry(
    shape,
    "heads",
    `${visible(shape)}
${sumsOf(shape, "o")}
${lines(n, (h) => `  var m${h} = LOWEST;\n  var l${h} = A4();`)}
  for (var base = lo; base < hi; base += TILE) {
${product(shape, "s", QUERY, KEY)}
${times(items, n, (j, h) => score(shape, `s${j}_${h}`))}
${times(items, n, (j, h) => `    s${j}_${h} = select(LOWEST, s${j}_${h}, ${seen(shape, h, j)});`)}
${lines(n, (h) => `    var top${h} = ${range(items).reduce((max, j) => `max(${max}, s${j}_${h})`, `m${h}`)};`)}
${across(shape, "top", (a, b) => `max(${a}, ${b})`)}
${lines(n, (h) => `    let f${h} = exp2(m${h} - top${h});\n    m${h} = top${h};\n    l${h} *= f${h};`)}
${times(items, n, (j, h) => `    s${j}_${h} = select(A4(), exp2(s${j}_${h} - m${h}), ${seen(shape, h, j)});\n    l${h} += s${j}_${h};`)}
${times(shape.rows, columns(shape), (i, c) => `    o${i}_${c} *= ${of("f", i)};`)}
${put(shape, "s")}
${gather(shape, "o", VALUE)}
  }
${across(shape, "l", (a, b) => `${a} + ${b}`)}
${lines(n, (h) => {
  const any = shape.window ? `vec4<bool>(lo < hi) & (w${h} > vec4u())` : "vec4<bool>(lo < hi)";
  return `  let any${h} = ${any};
  let g${h} = select(A4(), 1.0 / l${h}, any${h});
  let stat${h} = select(LOWEST, m${h} + log2(l${h}), any${h});`;
})}
${storePerRow(shape, "stat", "stats")}
${store(shape, "o", "out", "(row * u.heads + query) * D4", (i) => ` * ${of("g", i)}`)}`,
  );
}

/** bindings and scalars: as attention.wgsl.ts says */
export function tiledBackwardQuery(shape: TiledShape): string {
  const { items } = shape;
  const n = quads(shape);
  return `${OUT_DOUT}${entry(
    shape,
    "heads",
    `${visible(shape)}
${perRow(shape, "L", (row) => `stats[${row} * u.heads + query]`)}
${perRow(shape, "delta", (row) => `outDout((${row} * u.heads + query) * D4 + lane, (D4 + LANES - 1u - lane) / LANES)`)}
${across(shape, "delta", (a, b) => `${a} + ${b}`)}
${sumsOf(shape, "d")}
  for (var base = lo; base < hi; base += TILE) {
${product(shape, "s", QUERY, KEY)}
${product(shape, "g", DOUT, VALUE)}
${times(
  items,
  n,
  (j, h) => `${score(shape, `s${j}_${h}`)}
    let p${j}_${h} = select(A4(), exp2(atMost0(s${j}_${h} - L${h})), ${seen(shape, h, j)});
    g${j}_${h} = p${j}_${h} * (g${j}_${h} - delta${h})${slope(shape, `s${j}_${h}`)};`,
)}
    workgroupBarrier();
${put(shape, "g")}
${gather(shape, "d", KEY)}
  }
${storePerRow(shape, "delta", "delta")}
${storeTurned(shape, "d", "row * width + query * D4")}`,
  )}`;
}

/** bindings and scalars: as attention.wgsl.ts says. Own rows are keys here, and items are queries of every head on the KV head. */
export function tiledBackwardKeyValue(shape: TiledShape): string {
  const { items, window } = shape;
  const n = quads(shape);
  return entry(
    shape,
    "kvHeads",
    `  let kv = head;
  let lo = block.x;
  let hi = ${window ? "min(block.w, block.y - 1u + u.window)" : "block.w"};
${sumsOf(shape, "dk")}
${sumsOf(shape, "dv")}
  for (var query = kv * group; query < (kv + 1u) * group; query++) {
  for (var base = lo; base < hi; base += TILE) {
${product(shape, "s", KEY, QUERY)}
${product(shape, "g", VALUE, DOUT)}
${lines(items, (j) => {
  const item = `    let j${j} = base + lane * ITEMS + ${j}u;
    let at${j} = min(j${j}, hi - 1u) * u.heads + query;`;
  return `${item}
${lines(n, (h) => {
  const sees = window ? `(vec4u(j${j}) - r${h} < vec4u(u.window))` : `(vec4u(j${j}) >= r${h})`;
  const s = `s${j}_${h}`;
  const g = `g${j}_${h}`;
  return `${score(shape, s)}
    let p${j}_${h} = select(A4(), exp2(atMost0(${s} - stats[at${j}])), vec4<bool>(j${j} < hi) & ${sees});
    ${g} = p${j}_${h} * (${g} - delta[at${j}])${slope(shape, s)};`;
})}`;
})}
    workgroupBarrier();
${put(shape, "p")}
${gather(shape, "dv", DOUT)}
    workgroupBarrier();
${put(shape, "g")}
${gather(shape, "dk", QUERY)}
  }
  }
${storeTurned(shape, "dk", KEY.at("row"))}
${store(shape, "dv", "dqkv", VALUE.at("row"), () => "")}`,
  );
}
