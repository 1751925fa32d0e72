/**
 * Fused causal attention over packed sequences, forward and backward, without atomics: the three kernels. How they are built,
 * and what rows, blocks and sources are, attention-parts.wgsl.ts says.
 */
import {
  type AttentionShape,
  type AttentionSource,
  accumulate,
  capped,
  dots,
  each,
  entry,
  guarded,
  load,
  range,
  type Streamed,
  scoreOf,
  slopeOf,
  store,
  stream,
} from "./attention-parts.wgsl.ts";

export type { AttentionShape, AttentionSource };

/** What query rows stream past themselves: the keys and values of their KV head, up to the block's end. */
function keysAndValues(d4: number): Streamed[] {
  const column = `(u.heads + head / group) * ${d4}u`;
  return [
    { name: "k", buffer: "qkv", at: `item * width + ${column}` },
    { name: "v", buffer: "qkv", at: `item * width + u.kvHeads * ${d4}u + ${column}` },
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
 * Rows that see no key (padding) are 0. Rows that see keys and have no finite score are NaN, as softmax has it.
 * bindings: qkv, blocks -> out, stats; scalars: tasks (blocks x heads), d4, heads, kvHeads, scale2 = scale * log2 e, and for
 * all three kernels window and cap2 = cap * log2 e where the shape has them.
 */
export function attentionForward(shape: AttentionShape): string {
  const { d4, rows, step } = shape;
  const streamed = keysAndValues(d4);
  // Items past the last key repeat it. A row of padding stands after them, so its own place is no bound: e is.
  const seen = (i: number, k: number) => (shape.window ? `e${i} - (j + ${k}u) < w${i}` : `j + ${k}u <= e${i}`);
  const softmax = (i: number): string => `${each(
    step,
    (k) =>
      `${capped(shape, `a${k}`, i)}      let s${k}_${i} = select(LOWEST, ${scoreOf(shape, `a${k}`, i)}, ${seen(i, k)});`,
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
  var m${i} = LOWEST;
  var l${i} = 0.0;
  let e${i} = min(r${i}, block.w - 1u);${shape.window ? `\n  let w${i} = u.window - min(u.window, r${i} - e${i});` : ""}`,
  )}
${visibleKeys(shape)}
${loop}
${each(rows, (i) =>
  guarded(
    i,
    `    let at = r${i} * u.heads + head;
    let any = lo < hi${shape.window ? ` && w${i} > 0u` : ""};
    let g = select(0.0, 1.0 / l${i}, any);
${store(`o${i}`, "out", `at * ${d4}u`, " * g")}
    stats[at] = select(LOWEST, m${i} + log2(l${i}), any);`,
  ),
)}`;
  return entry(shape, "heads", body);
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
    `${capped(shape, "a", i)}      let s_${i} = select(0.0, exp2(atMost0(${scoreOf(shape, "a", i)} - L${i})), ${sees(
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
  for (var c = 0u; c < u.d4; c++) { e${i} = fma(g${i}[c], A4(out[at${i} * ${d4}u + c]), e${i}); }
  let delta${i} = e${i}.x + e${i}.y + e${i}.z + e${i}.w;
  let L${i} = stats[at${i}];`,
  )}
${visibleKeys(shape)}
${loop}
${each(rows, (i) =>
  guarded(
    i,
    `    delta[at${i}] = delta${i};
${store(`d${i}`, "dqkv", `r${i} * width + head * ${d4}u`, " * u.scale")}`,
  ),
)}`;
  return entry(shape, "heads", body);
}

/**
 * bindings: qkv, dout, stats, delta, blocks -> dqkv (key and value columns); scalars: tasks (blocks x kvHeads), d4, heads,
 * kvHeads, scale2, scale. Rows are keys here; the gradients of all query heads on a KV head meet in one thread.
 */
export function attentionBackwardKeyValue(shape: AttentionShape): string {
  const { d4, rows, window } = shape;
  const seen = (i: number) => (window ? sees(shape, "j", `r${i}`) : `j >= r${i}`);
  const streamed: Streamed[] = [
    { name: "q", buffer: "qkv", at: `item * width + query * ${d4}u` },
    { name: "g", buffer: "dout", at: `(item * u.heads + query) * ${d4}u` },
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
  ) => `${capped(shape, "a", i)}      let p_${i} = select(0.0, exp2(atMost0(${scoreOf(shape, "a", i)} - L)), ${seen(i)});
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
    `${store(`dk${i}`, "dqkv", `at${i}`, " * u.scale")}
${store(`dv${i}`, "dqkv", `at${i} + u.kvHeads * ${d4}u`, "")}`,
  ),
)}`;
  return entry(shape, "kvHeads", body);
}
