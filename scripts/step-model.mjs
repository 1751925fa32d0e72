#!/usr/bin/env node
/**
 * What a step gives a GPU to do, and how long that should take on some GPUs. The library's own code runs on a stand-in that has
 * a GPU's capabilities and computes nothing; each dispatch is counted with the bytes that it binds and, where it is a matrix
 * product, with its operations: those that were asked for, and those that its tiles compute.
 *
 *   node scripts/step-model.mjs                  SFT, LoRA and decoding of SmolLM2-135M's shape
 *   node scripts/step-model.mjs --step decode-1  some of sft, lora, decode-SEQUENCES, decode-SEQUENCES-PROMPT, each also with -half for
 *                                                half precision, decoding with -int8 for a cache of keys and values in 8 bits
 *   node scripts/step-model.mjs --kernels        with a line for each kernel
 *   node scripts/step-model.mjs --json
 *
 * The model of time is crude, and there to be proved wrong by `webrlhf gpu-day`: each dispatch takes the longer of its
 * arithmetic and its memory traffic, plus the gap before the next one; fewer workgroups than the GPU has cores get their share of
 * both. Traffic is all that is bound, so that what stays in caches makes it too high. Peaks are the makers' figures; the parts of them that are reached are assumptions, named below.
 */
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({
  options: { step: { type: "string" }, kernels: { type: "boolean" }, json: { type: "boolean" } },
});
const usual = ["sft", "sft-half", "lora", "decode-1", "decode-1-4096", "decode-16", "decode-256"];
const wanted = options.step?.split(",") ?? usual;
for (const step of wanted) {
  if (!/^((sft|lora)(-half)?|decode-\d+(-\d+)?(-half)?(-int8)?)$/.test(step)) {
    throw new Error(`no step ${step}; there are ${usual.join(", ")}`);
  }
}

const smollm2 = {
  ...{ family: "llama", vocabSize: 49152, hiddenSize: 576, layers: 30, heads: 9, kvHeads: 3, intermediateSize: 1536 },
  ...{ maxPositions: 8192, tieEmbeddings: true },
};
const [SEQUENCES, TOKENS, PROMPT] = [8, 1024, 128];
const NEW = 16; // tokens that are counted in decoding

/** Peaks in TFLOP/s (f32 lanes; f16 matrix units, dense) and TB/s; microseconds from one dependent dispatch to the next; cores. */
const gpus = {
  "H200 SXM": { f32: 67, matrix: 989, memory: 4.8, gap: 4, cores: 132 },
  "RTX 4060 laptop": { f32: 11.6, matrix: 46, memory: 0.256, gap: 4, cores: 24 },
  "Apple M2, 10 cores": { f32: 3.6, matrix: 3.6, memory: 0.1, gap: 6, cores: 10 },
  "Radeon 890M": { f32: 5.9, matrix: 23, memory: 0.12, gap: 6, cores: 16 },
};
/**
 * The part of a peak that is reached: products of 8 x 8 sums per invocation wait for workgroup memory, matrix units for staging.
 * Attention reaches half of that of products: between its products are softmax and barriers.
 */
const reached = { f32: 0.45, matrix: 0.2, attention: 0.2, matrixAttention: 0.1, memory: 0.8 };

await fromSource(async (load) => {
  const { caps, device, openDevice, withStandIn } = await load("/src/gpu/device.ts");
  await openDevice();
  Object.assign(caps(), {
    ...{ kind: "hardware", subgroups: true, subgroupSize: 32, subgroupSizeMax: 32, f16: true, immediates: true },
    ...{ matrices: { m: 16, n: 16, k: 16 }, maxInvocations: 1024, maxWorkgroupStorage: 49152 },
    ...{ maxBinding: 2 ** 31 - 4, maxBuffer: 2 ** 40 },
  });
  const results = [];
  for (const step of wanted) {
    const seen = { dispatches: [], submits: 0 };
    await withStandIn(standIn(device(), seen), async () => {
      const { per, unit, tokens } = step.startsWith("decode")
        ? await decode(load, step, seen)
        : await train(load, step, seen);
      results.push({ step, unit, ...summary(seen, per, tokens) });
    });
  }
  if (options.json) console.log(JSON.stringify(results, null, 1));
  else for (const line of lines(results)) console.log(line);
});
process.exit(0);

function standIn({ features, limits }, seen) {
  const quiet = () => {};
  const nothing = () => ({});
  let label;
  let group;
  let scalars;
  const pass = {
    setPipeline: (to) => {
      label = to.label;
    },
    setBindGroup: (_, to) => {
      group = to;
    },
    setImmediates: (_, data, start, count) => {
      scalars = new Uint32Array(data.slice(start, start + count));
    },
    dispatchWorkgroups(x, y = 1, z = 1) {
      const sizes = group.entries.map(({ resource }) => resource.size);
      const all = sizes.reduce((sum, size) => sum + size, 0);
      // Of the table that it gathers from, a dispatch reads what it writes.
      const bytes = label.startsWith("gather_rows") ? 2 * (all - Math.max(...sizes)) : all;
      seen.dispatches.push({ label, groups: [x, y, z], scalars, bytes });
      scalars = undefined;
    },
    end: quiet,
  };
  const encoder = { beginComputePass: () => pass, copyBufferToBuffer: quiet, clearBuffer: quiet, finish: nothing };
  const queue = { submit: () => seen.submits++, writeBuffer: quiet, onSubmittedWorkDone: async () => {} };
  const buffer = ({ label, size }) => ({
    ...{ label, size, unmap: quiet, destroy: quiet, mapAsync: async () => {} },
    getMappedRange: (_, bytes) => new ArrayBuffer(bytes),
  });
  return {
    ...{ features, limits, queue, destroy: quiet, pushErrorScope: quiet, popErrorScope: async () => null },
    ...{ createShaderModule: nothing, createPipelineLayout: nothing, createBindGroupLayout: nothing },
    createBuffer: buffer,
    createBindGroup: ({ entries }) => ({ entries }),
    createComputePipeline: ({ label }) => ({ label }),
    createCommandEncoder: () => encoder,
  };
}

function idsOf(length, sequence) {
  return Uint32Array.from({ length }, (_, i) => 1 + ((i * 31 + sequence * 7919) % (smollm2.vocabSize - 1)));
}

async function train(load, step, seen) {
  const { AdamW, CausalLM, decoderConfig } = await load("/src/nn/index.ts");
  const { sftStep } = await load("/src/rlhf/sft.ts");
  const { finish, scope } = await load("/src/index.ts");
  const base = new CausalLM(decoderConfig(smollm2), "m");
  const lora = { rank: 16, alpha: 32, targets: "all-linear" };
  const model = step.startsWith("lora") ? new CausalLM({ base, lora }, "a") : base;
  model.half = step.endsWith("-half");
  const optimizer = new AdamW(model.store, { lossScaling: model.half });
  const sequences = Array.from({ length: SEQUENCES }, (_, s) => ({ ids: idsOf(TOKENS, s), promptLength: 1 }));
  const one = () => scope(() => void sftStep(model, optimizer, [sequences], 1e-4));
  one(); // the first step also makes the optimizer's state
  await finish();
  Object.assign(seen, { dispatches: [], submits: 0 });
  one();
  await finish();
  return { per: 1, unit: `step of ${SEQUENCES} x ${TOKENS} tokens`, tokens: SEQUENCES * TOKENS };
}

async function decode(load, step, seen) {
  const words = step.split("-");
  const [rows, prompt = PROMPT] = words.filter((word) => /^\d+$/.test(word)).map(Number);
  const { CausalLM, decoderConfig, generate } = await load("/src/nn/index.ts");
  const model = new CausalLM(decoderConfig(smollm2), "m");
  model.half = words.includes("half");
  if (words.includes("int8")) model.kvCache = "int8";
  const samples = rows * prompt > model.tokensPerPass ? rows : 1; // prompts that do not fit into one pass are one
  const prompts = Array.from({ length: rows / samples }, (_, s) => idsOf(prompt, s));
  const run = (maxNewTokens) => generate(model, prompts, { maxNewTokens, samples, seed: 1, eosIds: [] });
  await run(1 + NEW);
  Object.assign(seen, { dispatches: [], submits: 0 });
  await run(1);
  const first = { dispatches: seen.dispatches.length, submits: seen.submits };
  Object.assign(seen, { dispatches: [], submits: 0 });
  await run(1 + NEW);
  seen.dispatches.splice(0, first.dispatches);
  seen.submits -= first.submits;
  return { per: NEW, unit: `token of ${rows} sequences after ${prompt}`, tokens: rows };
}

function up(x, to) {
  return Math.ceil(x / to) * to;
}

/** Operations of a product, those asked for and those computed; null for other kernels. */
function product({ label, groups: [, , z], scalars }) {
  const [name] = label.split(" ");
  if (!/^matmul_(tiled|skinny|matrix)/.test(name) || !scalars) return null;
  const [m, n, k, , , , splits] = scalars;
  const constant = (key) => Number(new RegExp(`\\b${key}=(\\d+)`).exec(label)?.[1]);
  const useful = 2 * m * n * k * (z / Math.max(1, splits));
  const half = name.startsWith("matmul_matrix");
  if (name.startsWith("matmul_skinny")) return { half, useful, executed: (useful * up(n, 8)) / n };
  const [bm, bn] = [constant("BM"), constant("BN")];
  if (!(bm > 0 && bn > 0)) return { half, useful, executed: Number.NaN };
  return { half, useful, executed: (useful * up(m, bm) * up(n, bn)) / (m * n) };
}

/** Operations of attention over whole sequences; decoding's are few beside its reads. */
function attention(name) {
  // A product over half of each square, of as many columns as all heads have.
  const one = SEQUENCES * TOKENS * TOKENS * smollm2.hiddenSize;
  const matrix = /^attention_\w+_matrix_/.test(name);
  if (name.startsWith("attention_fwd")) return (matrix ? 3 : 2) * one; // with matrix units, scores are computed twice
  if (name.startsWith("attention_dq")) return 3 * one;
  if (name.startsWith("attention_dkv")) return 4 * one;
  return 0;
}

function summary(seen, per, tokens) {
  const kernels = new Map();
  const total = { useful: 0, executed: 0, bytes: 0 };
  const seconds = Object.fromEntries(Object.keys(gpus).map((name) => [name, 0]));
  for (const dispatch of seen.dispatches) {
    const [name] = dispatch.label.split(" ");
    const kernel = kernels.get(name) ?? { name, dispatches: 0, useful: 0, executed: 0, bytes: 0 };
    kernels.set(name, kernel);
    const found = product(dispatch);
    const { bytes } = dispatch;
    const [useful, executed] = [found?.useful ?? 0, found?.executed ?? 0];
    for (const sum of [kernel, total]) {
      sum.useful += useful / per;
      sum.executed += executed / per;
      sum.bytes += bytes / per;
    }
    kernel.dispatches += 1 / per;
    const groups = dispatch.groups.reduce((x, y) => x * y);
    for (const [gpu, { f32, matrix, memory, gap, cores }] of Object.entries(gpus)) {
      const busy = Math.min(1, groups / cores);
      const lanes = f32 * reached.f32;
      const rate = found?.half ? Math.max(lanes, matrix * reached.matrix) : lanes;
      const ofLanes = f32 * reached.attention;
      const attending = /_matrix_/.test(name) ? Math.max(ofLanes, matrix * reached.matrixAttention) : ofLanes;
      const arithmetic = executed / rate + attention(name) / attending;
      seconds[gpu] += (Math.max(arithmetic, bytes / (memory * reached.memory)) / busy / 1e12 + gap / 1e6) / per;
    }
  }
  return {
    dispatches: seen.dispatches.length / per,
    submits: seen.submits / per,
    usefulGflop: total.useful / 1e9,
    executed: total.executed / total.useful,
    boundGiB: total.bytes / 2 ** 30,
    tokensPerSecond: Object.fromEntries(Object.entries(seconds).map(([gpu, taken]) => [gpu, tokens / taken])),
    kernels: [...kernels.values()].sort((one, other) => other.dispatches - one.dispatches),
  };
}

function lines(results) {
  const row = (cells) =>
    `${cells[0].padEnd(20)}${cells
      .slice(1)
      .map((cell) => cell.padStart(12))
      .join("")}`;
  const counted = results.flatMap(({ step, dispatches, submits, usefulGflop, executed, boundGiB, kernels, unit }) => [
    `${row([step, dispatches.toFixed(0), submits.toFixed(1), usefulGflop.toFixed(2), `${executed.toFixed(2)}x`, boundGiB.toFixed(2)])}  ${unit}`,
    ...(options.kernels ? kernels.map(({ name, dispatches }) => `${dispatches.toFixed(1).padStart(23)} ${name}`) : []),
  ]);
  const predicted = Object.keys(gpus).map((gpu) =>
    [
      gpu.padEnd(20),
      ...results.map((r) => Math.round(r.tokensPerSecond[gpu]).toLocaleString("en-US").padStart(20)),
    ].join(""),
  );
  return [
    row(["step", "dispatches", "submits", "GFLOP", "executed", "bound GiB"]),
    ...counted,
    "",
    "tokens a second, as the model has it:",
    ["".padEnd(20), ...results.map(({ step }) => step.padStart(20))].join(""),
    ...predicted,
  ];
}
