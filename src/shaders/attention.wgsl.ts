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
 */
export type AttentionSource = "direct" | "shuffle" | "tile";

export interface AttentionShape {
  /** headDim / 4 */
  d4: number;
  /** token rows held by one thread */
  rows: number;
  /** streamed items handled together (amortises the softmax rescale) */
  step: number;
  source: AttentionSource;
}

interface Streamed {
  name: string;
  buffer: string;
  /** index of the item's first vec4 */
  at: string;
}

const lines = (n: number, f: (i: number) => string): string => Array.from({ length: n }, (_, i) => f(i)).join("\n");
const sum4 = (v: string): string => `(${v}.x + ${v}.y + ${v}.z + ${v}.w)`;

/**
 * The trip count of loops over the head dimension. GPUs must unroll them to keep arrays in registers; CPU adapters must
 * not (see `load`), which a count they cannot know prevents.
 */
const d4Of = ({ d4, source }: Pick<AttentionShape, "d4" | "source">): string => (source === "tile" ? `${d4}u` : "u.d4");

/**
 * Reads the D vector at `at` of `buffer` into the array `name`. A loop, because CPU adapters compile every load
 * statement into a branch per lane and component: an unrolled load of 64 values costs seconds of compile time there.
 */
const load = ({ d4, source }: AttentionShape, name: string, buffer: string, at: string, times = ""): string =>
  `  var ${name}: array<A4, ${d4}>;
  for (var c = 0u; c < ${d4Of({ d4, source })}; c++) { ${name}[c] = A4(${buffer}[${at} + c])${times}; }`;

/** Loop over items lo..hi; `body(get)` sees the item index of its group as `j` and reads vector c of item j+jj by get(). */
function stream(
  shape: AttentionShape,
  vectors: Streamed[],
  body: (get: (name: string, c: number, jj: number) => string) => string,
): string {
  const { d4, step, source } = shape;
  const at = (v: Streamed, item: string): string => v.at.replaceAll("ITEM", item);
  if (source === "direct") {
    const group = vectors.map((v) => `    var ${v.name}: array<A4, ${d4 * step}>;`).join("\n");
    const fill = vectors.map((v) => `      ${v.name}[e] = A4(${v.buffer}[${at(v, "item")} + e % ${d4}u]);`).join("\n");
    return `  for (var j = lo; j < hi; j += ${step}u) {
${group}
    for (var e = 0u; e < u.d4 * ${step}u; e++) {
      let item = min(j + e / ${d4}u, hi - 1u);
${fill}
    }
${body((name, c, jj) => `${name}[${jj * d4 + c}]`)}
  }`;
  }
  if (source === "shuffle") {
    const mine = vectors
      .map((v) => `    let ${v.name}_at = ${at(v, "item")};\n${load(shape, v.name, v.buffer, `${v.name}_at`)}`)
      .join("\n");
    return `  for (var base = lo; base < hi; base += WG) {
    let item = min(base + lane, hi - 1u);
${mine}
    let count = min(WG, hi - base);
    for (var t = 0u; t < count; t += ${step}u) {
      let j = base + t;
${body((name, c, jj) => `subgroupShuffle(${name}[${c}], t + ${jj}u)`)}
    }
  }`;
  }
  const fill = vectors
    .map((v) => `      tile_${v.name}[e] = A4(${v.buffer}[${at(v, "item")} + e % ${d4}u]);`)
    .join("\n");
  return `  for (var base = lo; base < hi; base += TILE) {
    workgroupBarrier();
    for (var e = lane; e < TILE * ${d4}u; e += WG) {
      let item = min(base + e / ${d4}u, hi - 1u);
${fill}
    }
    workgroupBarrier();
    let count = min(TILE, hi - base);
    for (var t = 0u; t < count; t += ${step}u) {
      let j = base + t;
${body((name, c, jj) => `tile_${name}[(t + ${jj}u) * ${d4}u + ${c}u]`)}
    }
  }`;
}

function entry(
  { d4, rows, source }: AttentionShape,
  heads: "heads" | "kvHeads",
  tiles: string[],
  body: string,
): string {
  const memory = source === "tile" ? tiles.map((t) => `var<workgroup> tile_${t}: array<A4, TILE * ${d4}u>;\n`) : [];
  const lane =
    source === "shuffle" ? "@builtin(subgroup_invocation_id) lane: u32" : "@builtin(local_invocation_index) lane: u32";
  return `${memory.join("")}@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, ${lane}) {
  let task = linearId(wid, nwg);
  if (task >= u.tasks) { return; }
  let W4 = (u.heads + 2u * u.kvHeads) * ${d4}u;
  let group = u.heads / u.kvHeads;
  let head = task % u.${heads};
  let block = blocks[task / u.${heads}];
${lines(rows, (i) => `  let r${i} = min(block.x + lane + ${i}u * WG, block.y - 1u);`)}
${body}
}
`;
}

/** A row past the block's end repeats the last row and must not be stored. */
const guarded = (i: number, body: string): string => `  if (block.x + lane + ${i}u * WG < block.y) {\n${body}\n  }`;

/** bindings: qkv, blocks -> out, stats; scalars: tasks (blocks x heads), scale2 = scale * log2 e. */
export function attentionForward(shape: AttentionShape): string {
  const { d4, rows, step } = shape;
  const kcol = `(u.heads + head / group) * ${d4}u`;
  const keys: Streamed[] = [
    { name: "k", buffer: "qkv", at: `ITEM * W4 + ${kcol}` },
    { name: "v", buffer: "qkv", at: `ITEM * W4 + u.kvHeads * ${d4}u + ${kcol}` },
  ];
  const pairs = (f: (i: number, jj: number) => string): string => lines(step, (jj) => lines(rows, (i) => f(i, jj)));
  const body = stream(
    shape,
    keys,
    (get) => `${pairs((i, jj) => `      var a${i}_${jj} = A4(0.0);`)}
${lines(d4, (c) =>
  lines(
    step,
    (jj) =>
      `      { let x = ${get("k", c, jj)}; ${lines(rows, (i) => `a${i}_${jj} = fma(q${i}[${c}], x, a${i}_${jj});`)} }`,
  ),
)}
${pairs((i, jj) => `      var p${i}_${jj} = select(-1e30, ${sum4(`a${i}_${jj}`)}, j + ${jj}u <= r${i});`)}
${lines(rows, (i) => {
  const scores = Array.from({ length: step }, (_, jj) => `p${i}_${jj}`);
  return `      let n${i} = ${scores.reduce((m, s) => `max(${m}, ${s})`, `m${i}`)};
      let f${i} = exp2(m${i} - n${i});
      m${i} = n${i};
${scores.map((s, jj) => `      ${s} = select(0.0, exp2(${s} - n${i}), j + ${jj}u <= r${i});`).join("\n")}
      l${i} = l${i} * f${i} + ${scores.join(" + ")};`;
})}
${lines(
  d4,
  (c) => `      {
${lines(rows, (i) => `      var t${i} = o${i}[${c}] * f${i};`)}
${lines(step, (jj) => `      { let x = ${get("v", c, jj)}; ${lines(rows, (i) => `t${i} = fma(A4(p${i}_${jj}), x, t${i});`)} }`)}
${lines(rows, (i) => `      o${i}[${c}] = t${i};`)}
      }`,
)}`,
  );
  return entry(
    shape,
    "heads",
    ["k", "v"],
    `${lines(rows, (i) => load(shape, `q${i}`, "qkv", `r${i} * W4 + head * ${d4}u`, " * u.scale2"))}
${lines(rows, (i) => `  var m${i} = -1e30;\n  var l${i} = 0.0;\n  var o${i}: array<A4, ${d4}>;`)}
  let lo = block.z;
  let hi = min(block.y, block.w);
${body}
${lines(rows, (i) =>
  guarded(
    i,
    `    let g = select(0.0, 1.0 / l${i}, l${i} > 0.0);
    let at = (r${i} * u.heads + head) * ${d4}u;
    for (var c = 0u; c < ${d4Of(shape)}; c++) { out[at + c] = T4(o${i}[c] * g); }
    stats[r${i} * u.heads + head] = m${i} + log2(max(l${i}, 1e-30));`,
  ),
)}`,
  );
}

/** bindings: qkv, out, dout, stats, blocks -> dqkv (query columns), delta; scalars: tasks (blocks x heads), scale2, scale. */
export function attentionBackwardQuery(shape: AttentionShape): string {
  const { d4, rows, step } = shape;
  const kcol = `(u.heads + head / group) * ${d4}u`;
  const keys: Streamed[] = [
    { name: "k", buffer: "qkv", at: `ITEM * W4 + ${kcol}` },
    { name: "v", buffer: "qkv", at: `ITEM * W4 + u.kvHeads * ${d4}u + ${kcol}` },
  ];
  const pairs = (f: (i: number, jj: number) => string): string => lines(step, (jj) => lines(rows, (i) => f(i, jj)));
  const body = stream(
    shape,
    keys,
    (get) => `${pairs((i, jj) => `      var a${i}_${jj} = A4(0.0);\n      var b${i}_${jj} = A4(0.0);`)}
${lines(d4, (c) =>
  lines(
    step,
    (jj) => `      { let x = ${get("k", c, jj)}; let y = ${get("v", c, jj)};
${lines(rows, (i) => `        a${i}_${jj} = fma(q${i}[${c}], x, a${i}_${jj}); b${i}_${jj} = fma(g${i}[${c}], y, b${i}_${jj});`)} }`,
  ),
)}
${pairs((i, jj) => {
  const p = `select(0.0, exp2(min(${sum4(`a${i}_${jj}`)} - L${i}, 0.0)), j + ${jj}u <= r${i})`;
  return `      let s${i}_${jj} = ${p} * (${sum4(`b${i}_${jj}`)} - delta${i});`;
})}
${lines(d4, (c) =>
  lines(
    step,
    (jj) =>
      `      { let x = ${get("k", c, jj)}; ${lines(rows, (i) => `d${i}[${c}] = fma(A4(s${i}_${jj}), x, d${i}[${c}]);`)} }`,
  ),
)}`,
  );
  return entry(
    shape,
    "heads",
    ["k", "v"],
    `${lines(
      rows,
      (i) => `  let at${i} = (r${i} * u.heads + head) * ${d4}u;
${load(shape, `q${i}`, "qkv", `r${i} * W4 + head * ${d4}u`, " * u.scale2")}
${load(shape, `g${i}`, "dout", `at${i}`)}
  var e${i} = A4(0.0);
  for (var c = 0u; c < ${d4Of(shape)}; c++) { e${i} = fma(g${i}[c], A4(out[at${i} + c]), e${i}); }
  var d${i}: array<A4, ${d4}>;
  let delta${i} = ${sum4(`e${i}`)};
  let L${i} = stats[r${i} * u.heads + head];`,
    )}
  let lo = block.z;
  let hi = min(block.y, block.w);
${body}
${lines(rows, (i) =>
  guarded(
    i,
    `    delta[r${i} * u.heads + head] = delta${i};
    let at = r${i} * W4 + head * ${d4}u;
    for (var c = 0u; c < ${d4Of(shape)}; c++) { dqkv[at + c] = T4(d${i}[c] * u.scale); }`,
  ),
)}`,
  );
}

/** bindings: qkv, dout, stats, delta, blocks -> dqkv (key and value columns); scalars: tasks (blocks x kvHeads), scale2, scale. */
export function attentionBackwardKeyValue(shape: AttentionShape): string {
  const { d4, rows, step } = shape;
  const queries: Streamed[] = [
    { name: "q", buffer: "qkv", at: `ITEM * W4 + qhead * ${d4}u` },
    { name: "g", buffer: "dout", at: `(ITEM * u.heads + qhead) * ${d4}u` },
  ];
  const pairs = (f: (i: number, jj: number) => string): string => lines(step, (jj) => lines(rows, (i) => f(i, jj)));
  const body = stream(
    shape,
    queries,
    (get) => `${pairs((i, jj) => `      var a${i}_${jj} = A4(0.0);\n      var b${i}_${jj} = A4(0.0);`)}
${lines(step, (jj) => `      let row${jj} = min(j + ${jj}u, hi - 1u) * u.heads + qhead;\n      let L${jj} = stats[row${jj}];\n      let e${jj} = delta[row${jj}];`)}
${lines(d4, (c) =>
  lines(
    step,
    (jj) => `      { let x = ${get("q", c, jj)}; let y = ${get("g", c, jj)};
${lines(rows, (i) => `        a${i}_${jj} = fma(k${i}[${c}], x, a${i}_${jj}); b${i}_${jj} = fma(v${i}[${c}], y, b${i}_${jj});`)} }`,
  ),
)}
${pairs((i, jj) => {
  const seen = `j + ${jj}u >= r${i}${jj === 0 ? "" : ` && j + ${jj}u < hi`}`;
  return `      let p${i}_${jj} = select(0.0, exp2(min(${sum4(`a${i}_${jj}`)} - L${jj}, 0.0)), ${seen});
      let s${i}_${jj} = p${i}_${jj} * (${sum4(`b${i}_${jj}`)} - e${jj});`;
})}
${lines(d4, (c) =>
  lines(
    step,
    (jj) => `      { let x = ${get("q", c, jj)}; let y = ${get("g", c, jj)};
${lines(rows, (i) => `        dk${i}[${c}] = fma(A4(s${i}_${jj}), x, dk${i}[${c}]); dv${i}[${c}] = fma(A4(p${i}_${jj}), y, dv${i}[${c}]);`)} }`,
  ),
)}`,
  );
  return entry(
    shape,
    "kvHeads",
    ["q", "g"],
    `${lines(
      rows,
      (i) => `  let at${i} = r${i} * W4 + (u.heads + head) * ${d4}u;
${load(shape, `k${i}`, "qkv", `at${i}`, " * u.scale2")}
${load(shape, `v${i}`, "qkv", `at${i} + u.kvHeads * ${d4}u`)}
  var dk${i}: array<A4, ${d4}>;
  var dv${i}: array<A4, ${d4}>;`,
    )}
  let lo = block.x;
  let hi = block.w;
  for (var qhead = head * group; qhead < (head + 1u) * group; qhead++) {
${body}
  }
${lines(rows, (i) =>
  guarded(
    i,
    `    for (var c = 0u; c < ${d4Of(shape)}; c++) {
      dqkv[at${i} + c] = T4(dk${i}[c] * u.scale);
      dqkv[at${i} + u.kvHeads * ${d4}u + c] = T4(dv${i}[c]);
    }`,
  ),
)}`,
  );
}
