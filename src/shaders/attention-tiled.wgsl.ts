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
import {
  across,
  columns,
  entry,
  gather,
  lines,
  of,
  perRow,
  product,
  put,
  quads,
  range,
  type Staged,
  store,
  storePerRow,
  storeTurned,
  sumsOf,
  type TiledShape,
  times,
} from "./attention-tiles.wgsl.ts";

/** The capped, scaled scores, and what their gradients are multiplied with. */
export const score = ({ softcap }: Pick<TiledShape, "softcap">, a: string): string =>
  softcap
    ? `    let t${a} = preciseTanh(${a} * u.scale2 / u.cap2);\n    ${a} = u.cap2 * t${a};`
    : `    ${a} *= u.scale2;`;
export const slope = ({ softcap }: Pick<TiledShape, "softcap">, a: string): string =>
  softcap ? ` * (1.0 - t${a} * t${a})` : "";

/** The part of dot(out, dout) in every LANES-th vec4 from `at` on, `count` of them. */
export const OUT_DOUT = `fn outDout(at: u32, count: u32) -> f32 {
  var sum = A4();
  for (var c = 0u; c < count; c++) { sum = fma(A4(out[at + c * LANES]), A4(dout[at + c * LANES]), sum); }
  return sum.x + sum.y + sum.z + sum.w;
}
`;

export const QUERY: Staged = { buffer: "qkv", at: (row) => `${row} * width + query * D4` };
export const KEY: Staged = { buffer: "qkv", at: (row) => `${row} * width + (u.heads + kv) * D4` };
export const VALUE: Staged = { buffer: "qkv", at: (row) => `${row} * width + (u.heads + u.kvHeads + kv) * D4` };
export const DOUT: Staged = { buffer: "dout", at: (row) => `(${row} * u.heads + query) * D4` };

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
