/**
 * The parts that the attention kernels (attention.wgsl.ts) are put together from: text for loads, products and loops.
 *
 * Every kernel is the same machine: a thread owns ROWS token rows in registers and the other side of the
 * product is streamed past it, a group of `step` items at a time. Forward and dQ own query rows and stream
 * keys; dK/dV owns key rows and streams the later queries of every query head that shares the KV head.
 * Nothing is reduced across threads, so the softmax statistics are plain per-thread variables.
 *
 * `source` says how a streamed item reaches the threads:
 * - "direct":  every thread reads it from storage (works everywhere);
 * - "shuffle": lane i reads item i and the subgroup passes it round (workgroup = one subgroup, no barriers).
 * GPUs have kernels of another kind: attention-tiled.wgsl.ts.
 *
 * Text is generated because the head dimension has to be unrolled for the rows to stay in registers. Loads are in loops: CPU
 * adapters compile every load statement into a branch per lane and component, so that one row of 64 columns without a loop
 * takes seconds to compile. Their loops run to u.d4, a count that compilers cannot know and unroll.
 * Columns of qkv: `heads` query heads, `kvHeads` key heads, `kvHeads` value heads, each D wide. All widths are counted in vec4.
 * blocks[i] = (first row, end row, segment start, segment end); a block never crosses a segment. Blocks of rows that
 * belong to no segment have an empty segment, so their loops do not run and they come out as zero.
 * Scores are kept in base 2 (scale * log2 e folded into q or k); stats = max + log2(sum) per (row, head).
 * With a window, row r sees keys r - window + 1 .. r; with a soft cap, scores a become cap2 * tanh(a / cap2).
 */
import { TANH } from "./elementwise.wgsl.ts";

export type AttentionSource = "direct" | "shuffle";

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

export interface Streamed {
  name: string;
  buffer: string;
  /** Index of the first vec4 of the item whose number is `item`. */
  at: string;
}

/** Expression for vector c of item j + k of the current group; "c" is the variable of a loop. */
export type Get = (name: string, c: Column, k?: number) => string;
export type Column = number | "c";

export const each = (n: number, f: (i: number) => string): string =>
  Array.from({ length: n }, (_, i) => f(i)).join("\n");
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * Heads wider than this are walked in loops: their rows do not fit into registers anyway, and the unrolled text takes tens
 * of seconds to compile.
 */
const UNROLLED = 32;

/** Reads the D vector at `at` of `buffer` into an array. */
export const load = (shape: AttentionShape, name: string, buffer: string, at: string, times = ""): string =>
  `  var ${name}: array<A4, ${shape.d4}>;
  for (var c = 0u; c < u.d4; c++) { ${name}[c] = A4(${buffer}[${at} + c])${times}; }`;

/** Writes an array to the D vector at `at` of `buffer`. */
export const store = (name: string, buffer: string, at: string, times: string): string =>
  `    for (var c = 0u; c < u.d4; c++) { ${buffer}[${at} + c] = T4(${name}[c]${times}); }`;

/**
 * For every row i of the thread: name_i = dot(row{i}, item). Four partial sums until the end, and no variable is assigned
 * twice: SwiftShader's compiler keeps those in memory.
 */
export const dots = (shape: AttentionShape, name: string, row: string, item: (c: Column) => string): string => {
  const { d4, rows } = shape;
  const total = (v: string) => `${v}.x + ${v}.y + ${v}.z + ${v}.w`;
  if (d4 > UNROLLED) {
    return `${each(rows, (i) => `      var ${name}v${i} = A4(0.0);`)}
      for (var c = 0u; c < u.d4; c++) {
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
export const accumulate = (
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
  if (d4 > UNROLLED) return `      for (var c = 0u; c < u.d4; c++) {\n${column("c")}\n      }`;
  return each(d4, column);
};

/** The capped score of row i, and what its gradient is multiplied with. Without a cap: the score itself, and nothing. */
export const capped = ({ softcap }: AttentionShape, name: string, i: number): string =>
  softcap ? `      let ${name}t_${i} = preciseTanh(${name}_${i} / u.cap2);\n` : "";
export const scoreOf = ({ softcap }: AttentionShape, name: string, i: number): string =>
  softcap ? `u.cap2 * ${name}t_${i}` : `${name}_${i}`;
export const slopeOf = ({ softcap }: AttentionShape, name: string, i: number): string =>
  softcap ? ` * (1.0 - ${name}t_${i} * ${name}t_${i})` : "";

/** Loop over items lo..hi in groups of `step`, the first of which is `j`. Items past hi repeat the last one. */
export function stream(shape: AttentionShape, vectors: Streamed[], body: (get: Get) => string): string {
  const { d4, step, source } = shape;
  const group = (text: string): string => `    for (var t = 0u; t < count; t += ${step}u) {
      let j = base + t;
${text}
    }`;
  if (source === "direct") {
    return `  for (var j = lo; j < hi; j += ${step}u) {
${vectors.map((v) => `    var ${v.name}: array<A4, ${d4 * step}>;`).join("\n")}
    for (var e = 0u; e < u.d4 * ${step}u; e++) {
      let item = min(j + e / ${d4}u, hi - 1u);
${vectors.map((v) => `      ${v.name}[e] = A4(${v.buffer}[${v.at} + e % ${d4}u]);`).join("\n")}
    }
${body((name, c, k = 0) => (c === "c" ? `${name}[${k * d4}u + c]` : `${name}[${k * d4 + c}]`))}
  }`;
  }
  return `  for (var base = lo; base < hi; base += WG) {
    let item = min(base + lane, hi - 1u);
    let count = min(WG, hi - base);
${vectors.map((v) => load(shape, v.name, v.buffer, v.at)).join("\n")}
${group(body((name, c, k = 0) => `subgroupShuffle(${name}[${c}], t + ${k}u)`))}
  }`;
}

/** A score below all others, and a bound that lets NaN through. */
const SCORES = `const LOWEST = -3.0e38;
fn atMost0(x: f32) -> f32 { return select(x, 0.0, x > 0.0); }
`;

export function entry({ d4, rows, source, softcap }: AttentionShape, heads: "heads" | "kvHeads", body: string) {
  const id = source === "shuffle" ? "subgroup_invocation_id" : "local_invocation_index";
  return `${softcap ? `alias D = f32;${TANH}` : ""}${SCORES}
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
export const guarded = (i: number, body: string): string =>
  `  if (block.x + lane + ${i}u * WG < block.y) {\n${body}\n  }`;
