/**
 * Fused causal attention over packed sequences, forward and backward, without atomics.
 *
 * Every kernel is the same machine: a thread owns ROWS token rows in registers and the other side of the
 * product is streamed past it, a group of `step` items at a time. Forward and dQ own query rows and stream
 * keys; dK/dV owns key rows and streams the later queries of every query head that shares the KV head.
 * Nothing is reduced across threads, so the softmax statistics are plain per-thread variables.
 *
 * `source` says how a streamed item reaches the threads:
 * - "direct":  every thread reads it from storage (works everywhere);
 * - "shuffle": lane i reads item i and the subgroup passes it round (workgroup = one subgroup, no barriers);
 * - "tile":    the workgroup stages TILE items in workgroup memory.
 *
 * Text is generated because the head dimension has to be unrolled for the rows to stay in registers.
 * Columns of qkv: `heads` query heads, `kvHeads` key heads, `kvHeads` value heads, each D wide. All widths are counted in vec4.
 * blocks[i] = (first row, end row, segment start, segment end); a block never crosses a segment. Blocks of rows that
 * belong to no segment have an empty segment, so their loops do not run and they come out as zero.
 * Scores are kept in base 2 (scale * log2 e folded into q or k); stats = max + log2(sum) per (row, head).
 * With a window, row r sees keys r - window + 1 .. r; with a soft cap, scores a become cap2 * tanh(a / cap2).
 */
import { TANH } from "./elementwise.wgsl.ts";

export type AttentionSource = "direct" | "shuffle" | "tile";

export interface AttentionShape {
  /** headDim / 4 */
  d4: number;
  /** token rows held by one thread */
  rows: number;
  /** keys that the forward pass handles together, which amortises rescaling the output; the backward pass takes 1 */
  step: number;
  source: AttentionSource;
  /** rows see only the last `u.window` keys */
  window: boolean;
  /** scores are capped at `u.cap2`, in base 2 */
  softcap: boolean;
}

interface Streamed {
  name: string;
  buffer: string;
  /** index of the first vec4 of item ITEM */
  at: string;
}

/** Expression for vector c of item j + k of the current group; "c" is the variable of a loop. */
type Get = (name: string, c: Column, k?: number) => string;
type Column = number | "c";

const each = (n: number, f: (i: number) => string): string => Array.from({ length: n }, (_, i) => f(i)).join("\n");
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * The trip count of loops over the head dimension. GPUs must unroll them to keep arrays in registers. CPU adapters must
 * not, which a count that they cannot know prevents: they compile every load statement into a branch per lane and
 * component, so that loading one row of 64 columns without a loop takes seconds to compile.
 */
const d4Of = ({ d4, source }: AttentionShape): string => (source === "tile" ? `${d4}u` : "u.d4");

/**
 * Heads wider than this are walked in loops on every adapter: their rows do not fit into registers anyway, and the unrolled
 * text takes tens of seconds to compile.
 */
const UNROLLED = 32;

/** Reads the D vector at `at` of `buffer` into an array. */
const load = (shape: AttentionShape, name: string, buffer: string, at: string, times = ""): string =>
  `  var ${name}: array<A4, ${shape.d4}>;
  for (var c = 0u; c < ${d4Of(shape)}; c++) { ${name}[c] = A4(${buffer}[${at} + c])${times}; }`;

/** Writes an array to the D vector at `at` of `buffer`. */
const store = (shape: AttentionShape, name: string, buffer: string, at: string, times: string): string =>
  `    for (var c = 0u; c < ${d4Of(shape)}; c++) { ${buffer}[${at} + c] = T4(${name}[c]${times}); }`;

/**
 * For every row i of the thread: name_i = dot(row{i}, item). Four partial sums until the end, and no variable is assigned
 * twice: SwiftShader's compiler keeps those in memory.
 */
const dots = (shape: AttentionShape, name: string, row: string, item: (c: Column) => string): string => {
  const { d4, rows } = shape;
  const total = (v: string) => `${v}.x + ${v}.y + ${v}.z + ${v}.w`;
  if (d4 > UNROLLED) {
    return `${each(rows, (i) => `      var ${name}v${i} = A4(0.0);`)}
      for (var c = 0u; c < ${d4Of(shape)}; c++) {
        let x = ${item("c")};
${each(rows, (i) => `        ${name}v${i} = fma(${row}${i}[c], x, ${name}v${i});`)}
      }
${each(rows, (i) => `      let ${name}_${i} = ${total(`${name}v${i}`)};`)}`;
  }
  return `${each(
    d4,
    (c) => `      let ${name}x${c} = ${item(c)};
${each(rows, (i) => {
  const [a, b] = [`${row}${i}[${c}]`, `${name}x${c}`];
  return `      let ${name}_${i}_${c} = ${c === 0 ? `${a} * ${b}` : `fma(${a}, ${b}, ${name}_${i}_${c - 1})`};`;
})}`,
  )}
${each(rows, (i) => `      let ${name}_${i} = ${total(`${name}_${i}_${d4 - 1}`)};`)}`;
};

/** For every row i: to{i} = to{i} * factor{i} + sum over k of weights[k]_i * item k. */
const accumulate = (
  shape: AttentionShape,
  to: string,
  weights: string[],
  item: (c: Column, k: number) => string,
  factor = "",
): string => {
  const { d4, rows } = shape;
  const column = (c: Column) => `${weights.map((w, k) => `      let ${w}y${c} = ${item(c, k)};`).join("\n")}
${each(rows, (i) => {
  const start = `${to}${i}[${c}]${factor ? ` * ${factor}${i}` : ""}`;
  return `      ${to}${i}[${c}] = ${weights.reduce((sum, w) => `fma(A4(${w}_${i}), ${w}y${c}, ${sum})`, start)};`;
})}`;
  if (d4 > UNROLLED) return `      for (var c = 0u; c < ${d4Of(shape)}; c++) {\n${column("c")}\n      }`;
  return each(d4, column);
};

/** The capped score of row i, and what its gradient is multiplied with. Without a cap: the score itself, and nothing. */
const capped = ({ softcap }: AttentionShape, name: string, i: number): string =>
  softcap ? `      let ${name}t_${i} = preciseTanh(${name}_${i} / u.cap2);\n` : "";
const scoreOf = ({ softcap }: AttentionShape, name: string, i: number): string =>
  softcap ? `u.cap2 * ${name}t_${i}` : `${name}_${i}`;
const slopeOf = ({ softcap }: AttentionShape, name: string, i: number): string =>
  softcap ? ` * (1.0 - ${name}t_${i} * ${name}t_${i})` : "";

/** Loop over items lo..hi in groups of `step`, the first of which is `j`. Items past hi repeat the last one. */
function stream(shape: AttentionShape, vectors: Streamed[], body: (get: Get) => string): string {
  const { d4, step, source } = shape;
  const offset = (v: Streamed): string => v.at.replaceAll("ITEM", "item");
  const group = (text: string): string => `    for (var t = 0u; t < count; t += ${step}u) {
      let j = base + t;
${text}
    }`;
  if (source === "direct") {
    return `  for (var j = lo; j < hi; j += ${step}u) {
${vectors.map((v) => `    var ${v.name}: array<A4, ${d4 * step}>;`).join("\n")}
    for (var e = 0u; e < u.d4 * ${step}u; e++) {
      let item = min(j + e / ${d4}u, hi - 1u);
${vectors.map((v) => `      ${v.name}[e] = A4(${v.buffer}[${offset(v)} + e % ${d4}u]);`).join("\n")}
    }
${body((name, c, k = 0) => (c === "c" ? `${name}[${k * d4}u + c]` : `${name}[${k * d4 + c}]`))}
  }`;
  }
  if (source === "shuffle") {
    return `  for (var base = lo; base < hi; base += WG) {
    let item = min(base + lane, hi - 1u);
    let count = min(WG, hi - base);
${vectors.map((v) => load(shape, v.name, v.buffer, offset(v))).join("\n")}
${group(body((name, c, k = 0) => `subgroupShuffle(${name}[${c}], t + ${k}u)`))}
  }`;
  }
  return `  for (var base = lo; base < hi; base += TILE) {
    let count = min(TILE, hi - base);
    workgroupBarrier();
    for (var e = lane; e < TILE * ${d4}u; e += WG) {
      let item = min(base + e / ${d4}u, hi - 1u);
${vectors.map((v) => `      tile_${v.name}[e] = A4(${v.buffer}[${offset(v)} + e % ${d4}u]);`).join("\n")}
    }
    workgroupBarrier();
${group(body((name, c, k = 0) => `tile_${name}[(t + ${k}u) * ${d4}u + ${c === "c" ? c : `${c}u`}]`))}
  }`;
}

function entry(
  { d4, rows, source, softcap }: AttentionShape,
  heads: "heads" | "kvHeads",
  streamed: Streamed[],
  body: string,
) {
  const tiles = source === "tile" ? streamed : [];
  const id = source === "shuffle" ? "subgroup_invocation_id" : "local_invocation_index";
  return `${softcap ? TANH.replaceAll("D", "f32") : ""}${tiles.map((v) => `var<workgroup> tile_${v.name}: array<A4, TILE * ${d4}u>;\n`).join("")}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(${id}) lane: u32) {
  let task = linearId(wid, nwg);
  if (task >= u.tasks) { return; }
  let width = (u.heads + 2u * u.kvHeads) * ${d4}u;
  let group = u.heads / u.kvHeads;
  let head = task % u.${heads};
  let block = blocks[task / u.${heads}];
${each(rows, (i) => `  let r${i} = min(block.x + lane + ${i}u * WG, block.y - 1u);`)}
${body}
}
`;
}

/** A row past the block's end repeats the last row and must not be stored. */
const guarded = (i: number, body: string): string => `  if (block.x + lane + ${i}u * WG < block.y) {\n${body}\n  }`;

/** What query rows stream past themselves: the keys and values of their KV head, up to the block's end. */
function keysAndValues(d4: number): Streamed[] {
  const column = `(u.heads + head / group) * ${d4}u`;
  return [
    { name: "k", buffer: "qkv", at: `ITEM * width + ${column}` },
    { name: "v", buffer: "qkv", at: `ITEM * width + u.kvHeads * ${d4}u + ${column}` },
  ];
}
/** The keys that any row of the block sees: from the first one's window on. */
const visibleKeys = ({ window }: AttentionShape): string => `  let lo = ${
  window ? "max(block.z, select(0u, block.x + 1u - u.window, block.x + 1u > u.window))" : "block.z"
};
  let hi = min(block.y, block.w);`;

/**
 * Query row `query` sees key row `key`. With a window it is one comparison, since differences below 0 wrap around to large
 * numbers: `&&` would be a branch for each pair, and SwiftShader takes minutes to compile those.
 */
const sees = ({ window }: AttentionShape, query: string, key: string): string =>
  window ? `${query} - (${key}) < u.window` : `${key} <= ${query}`;

/**
 * bindings: qkv, blocks -> out, stats; scalars: tasks (blocks x heads), d4, heads, kvHeads, scale2 = scale * log2 e, and for
 * all three kernels window and cap2 = cap * log2 e where the shape has them.
 */
export function attentionForward(shape: AttentionShape): string {
  const { d4, rows, step } = shape;
  const streamed = keysAndValues(d4);
  const seen = (i: number, k: number) => sees(shape, `r${i}`, `j + ${k}u`);
  const softmax = (i: number): string => `${each(
    step,
    (k) =>
      `${capped(shape, `a${k}`, i)}      let s${k}_${i} = select(-1e30, ${scoreOf(shape, `a${k}`, i)}, ${seen(i, k)});`,
  )}
      let n${i} = ${range(step).reduce((max, k) => `max(${max}, s${k}_${i})`, `m${i}`)};
${each(step, (k) => `      let p${k}_${i} = select(0.0, exp2(s${k}_${i} - n${i}), ${seen(i, k)});`)}
      let f${i} = exp2(m${i} - n${i});
      l${i} = l${i} * f${i} + ${range(step)
        .map((k) => `p${k}_${i}`)
        .join(" + ")};
      m${i} = n${i};`;
  const loop = stream(
    shape,
    streamed,
    (get) => `${each(step, (k) => dots(shape, `a${k}`, "q", (c) => get("k", c, k)))}
${each(rows, softmax)}
${accumulate(
  shape,
  "o",
  range(step).map((k) => `p${k}`),
  (c, k) => get("v", c, k),
  "f",
)}`,
  );
  const body = `${each(
    rows,
    (i) => `${load(shape, `q${i}`, "qkv", `r${i} * width + head * ${d4}u`, " * u.scale2")}
  var o${i}: array<A4, ${d4}>;
  var m${i} = -1e30;
  var l${i} = 0.0;`,
  )}
${visibleKeys(shape)}
${loop}
${each(rows, (i) =>
  guarded(
    i,
    `    let at = r${i} * u.heads + head;
    let g = select(0.0, 1.0 / l${i}, l${i} > 0.0);
${store(shape, `o${i}`, "out", `at * ${d4}u`, " * g")}
    stats[at] = m${i} + log2(max(l${i}, 1e-30));`,
  ),
)}`;
  return entry(shape, "heads", streamed, body);
}

/**
 * bindings: qkv, out, dout, stats, blocks -> dqkv (query columns), delta = rowsum(out * dout), which dK/dV needs;
 * scalars: tasks (blocks x heads), d4, heads, kvHeads, scale2, scale.
 */
export function attentionBackwardQuery(shape: AttentionShape): string {
  const { d4, rows } = shape;
  const streamed = keysAndValues(d4);
  const loop = stream(
    shape,
    streamed,
    (get) => `${dots(shape, "a", "q", (c) => get("k", c))}
${dots(shape, "b", "g", (c) => get("v", c))}
${each(
  rows,
  (i) =>
    `${capped(shape, "a", i)}      let s_${i} = select(0.0, exp2(min(${scoreOf(shape, "a", i)} - L${i}, 0.0)), ${sees(
      shape,
      `r${i}`,
      "j",
    )}) * (b_${i} - delta${i})${slopeOf(shape, "a", i)};`,
)}
${accumulate(shape, "d", ["s"], (c) => get("k", c))}`,
  );
  const body = `${each(
    rows,
    (i) => `  let at${i} = r${i} * u.heads + head;
${load(shape, `q${i}`, "qkv", `r${i} * width + head * ${d4}u`, " * u.scale2")}
${load(shape, `g${i}`, "dout", `at${i} * ${d4}u`)}
  var d${i}: array<A4, ${d4}>;
  var e${i} = A4(0.0);
  for (var c = 0u; c < ${d4Of(shape)}; c++) { e${i} = fma(g${i}[c], A4(out[at${i} * ${d4}u + c]), e${i}); }
  let delta${i} = e${i}.x + e${i}.y + e${i}.z + e${i}.w;
  let L${i} = stats[at${i}];`,
  )}
${visibleKeys(shape)}
${loop}
${each(rows, (i) =>
  guarded(
    i,
    `    delta[at${i}] = delta${i};
${store(shape, `d${i}`, "dqkv", `r${i} * width + head * ${d4}u`, " * u.scale")}`,
  ),
)}`;
  return entry(shape, "heads", streamed, body);
}

/**
 * bindings: qkv, dout, stats, delta, blocks -> dqkv (key and value columns); scalars: tasks (blocks x kvHeads), d4, heads,
 * kvHeads, scale2, scale. Rows are keys here; the gradients of all query heads on a KV head meet in one thread.
 */
export function attentionBackwardKeyValue(shape: AttentionShape): string {
  const { d4, rows, window } = shape;
  const seen = (i: number) => (window ? sees(shape, "j", `r${i}`) : `j >= r${i}`);
  const streamed: Streamed[] = [
    { name: "q", buffer: "qkv", at: `ITEM * width + query * ${d4}u` },
    { name: "g", buffer: "dout", at: `(ITEM * u.heads + query) * ${d4}u` },
  ];
  const loop = stream(
    shape,
    streamed,
    (get) => `      let L = stats[j * u.heads + query];
      let e = delta[j * u.heads + query];
${dots(shape, "a", "k", (c) => get("q", c))}
${dots(shape, "b", "v", (c) => get("g", c))}
${each(
  rows,
  (
    i,
  ) => `${capped(shape, "a", i)}      let p_${i} = select(0.0, exp2(min(${scoreOf(shape, "a", i)} - L, 0.0)), ${seen(i)});
      let s_${i} = p_${i} * (b_${i} - e)${slopeOf(shape, "a", i)};`,
)}
${accumulate(shape, "dk", ["s"], (c) => get("q", c))}
${accumulate(shape, "dv", ["p"], (c) => get("g", c))}`,
  );
  const body = `${each(
    rows,
    (i) => `  let at${i} = r${i} * width + (u.heads + head) * ${d4}u;
${load(shape, `k${i}`, "qkv", `at${i}`, " * u.scale2")}
${load(shape, `v${i}`, "qkv", `at${i} + u.kvHeads * ${d4}u`)}
  var dk${i}: array<A4, ${d4}>;
  var dv${i}: array<A4, ${d4}>;`,
  )}
  let lo = block.x;
  let hi = ${window ? "min(block.w, block.y - 1u + u.window)" : "block.w"};
  for (var query = head * group; query < (head + 1u) * group; query++) {
${loop}
  }
${each(rows, (i) =>
  guarded(
    i,
    `${store(shape, `dk${i}`, "dqkv", `at${i}`, " * u.scale")}
${store(shape, `dv${i}`, "dqkv", `at${i} + u.kvHeads * ${d4}u`, "")}`,
  ),
)}`;
  return entry(shape, "kvHeads", streamed, body);
}
