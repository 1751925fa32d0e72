#!/usr/bin/env node
/**
 * Compiles the kernels that a GPU gets for training and decoding, through Dawn, with whatever Vulkan driver there is. On Mesa's
 * RADV it fails where the driver keeps registers or arrays in scratch memory, which makes a kernel several times slower. Nothing
 * is computed, so a driver's null device will do: docs/architecture.md says how to get one.
 *
 *   npm run check:gpu                    every kernel
 *   npm run check:gpu -- --only tiled    those whose name or constants contain a text
 *   npm run check:gpu -- --table         with what RADV makes of each: registers, memory, and its innermost loop with most arithmetic
 */
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({ options: { only: { type: "string" }, table: { type: "boolean" } } });

/** Heads of 64, 128 and 256 columns; one layer has all the kernels of many. */
const shapes = [
  { family: "llama", vocabSize: 49152, hiddenSize: 576, heads: 9, kvHeads: 3, intermediateSize: 1536 },
  { family: "qwen3", vocabSize: 151936, hiddenSize: 1024, heads: 16, kvHeads: 8, headDim: 128, intermediateSize: 3072 },
  {
    family: "gemma3_text",
    vocabSize: 262144,
    hiddenSize: 640,
    heads: 4,
    kvHeads: 1,
    headDim: 256,
    intermediateSize: 2048,
  },
];

if (process.env.WEBRLHF_CHECK_GPU) await fromSource(compileAll);
else process.exitCode = await compileAndRead();

// ---- The child compiles, and marks on stderr which kernel's figures follow: RADV prints them there. ----

async function compileAll(load) {
  const mark = (line) => fs.writeSync(2, `\n@@${line}\n`);
  const { openDevice, device, withStandIn } = await load("/src/gpu/device.ts");
  const caps = await openDevice();
  mark(`ADAPTER ${caps.name}${caps.driver ? `, ${caps.driver}` : ""}`);
  if (caps.unsound) throw new Error(`these are not all kernels: the adapter is without ${caps.unsound.join(", ")}`);
  const gpu = device();
  for (const shape of shapes) {
    await withStandIn(standIn(gpu, mark), () => steps(load, { layers: 1, maxPositions: 2048, ...shape }));
  }
  process.exit(0); // a null device need not be taken down
}

/** The open device, which compiles, as one that neither computes nor allocates. */
function standIn(gpu, mark) {
  const quiet = () => {};
  const nothing = () => ({});
  const pass = { setPipeline: quiet, setBindGroup: quiet, setImmediates: quiet, dispatchWorkgroups: quiet, end: quiet };
  const encoder = { beginComputePass: () => pass, copyBufferToBuffer: quiet, clearBuffer: quiet, finish: nothing };
  return {
    features: gpu.features,
    limits: gpu.limits,
    createBuffer: ({ label, size }) => ({
      ...{ label, size, unmap: quiet, destroy: quiet, mapAsync: async () => {} },
      getMappedRange: (_, bytes) => new ArrayBuffer(bytes),
    }),
    createShaderModule: (what) => gpu.createShaderModule(what),
    createPipelineLayout: (what) => gpu.createPipelineLayout(what),
    createBindGroupLayout: (what) => gpu.createBindGroupLayout(what),
    createBindGroup: nothing,
    createComputePipeline(what) {
      if (options.only && !what.label.includes(options.only)) return {};
      mark(`KERNEL ${what.label}`);
      const made = gpu.createComputePipeline(what);
      mark("END");
      return made;
    },
    createCommandEncoder: () => encoder,
    pushErrorScope: (filter) => gpu.pushErrorScope(filter),
    popErrorScope: () => gpu.popErrorScope(),
    queue: { submit: quiet, writeBuffer: quiet, onSubmittedWorkDone: async () => {} },
    destroy: quiet,
  };
}

/** Training in both precisions, with low-rank adapters, and decoding from every kind of weights. */
async function steps(load, shape) {
  const { AdamW, CausalLM, decoderConfig, generate } = await load("/src/nn/index.ts");
  const { sftStep } = await load("/src/rlhf/sft.ts");
  const { finish, scope } = await load("/src/index.ts");
  const config = decoderConfig(shape);
  const ids = (count) => Uint32Array.from({ length: count }, (_, i) => (i * 31) % config.vocabSize);
  const sequences = Array.from({ length: 8 }, () => ({ ids: ids(512), promptLength: 1 }));
  const train = (model, half = false) => {
    model.half = half;
    const optimizer = new AdamW(model.store, { lossScaling: half });
    scope(() => void sftStep(model, optimizer, [sequences], 1e-4));
  };
  train(new CausalLM(config, "m"));
  train(new CausalLM(config, "m"), true);
  const base = new CausalLM(config, "m", "int4");
  train(new CausalLM({ base, lora: { rank: 16, alpha: 32, targets: "all-linear" } }, "a"));
  const halves = [false, true].map((half) => [half, "auto"]);
  for (const format of ["float32", "int8", "int4"]) {
    const model = new CausalLM(config, "m", format);
    for (const [half, kept] of format === "float32" ? [...halves, [false, "int8"]] : halves) {
      model.half = half;
      model.kvCache = kept;
      for (const rows of [1, 4, 16, 256]) {
        // After a long prompt a few rows attend to their cache in parts.
        const prompts = Array.from({ length: rows }, () => ids(rows === 1 ? 512 : 8));
        await generate(model, prompts, { maxNewTokens: 3, seed: 1, eosIds: [], topK: 50, topP: 0.9 });
      }
    }
  }
  attendToPrefix(await load("/src/tensor/ops/kvcache.ts"), await load("/src/index.ts"), config);
  await finish(); // throws what did not compile
}

/** What later parts of a prompt do: rows that share a slot, in one piece and in parts. */
function attendToPrefix({ cachedAttention }, { scope, tensor, zeros }, { heads, kvHeads, headDim }) {
  scope(() => {
    const ids = () => tensor(new Uint32Array(64));
    const numbers = () => zeros([1, 512, kvHeads * headDim]);
    const codes = () =>
      tensor(new Uint32Array(512 * kvHeads * (headDim / 4 + 1)), [1, 512, kvHeads * (headDim / 4 + 1)]);
    const rows = zeros([64, (heads + 2 * kvHeads) * headDim]);
    for (const cache of [numbers, codes]) {
      for (const splits of [1, 2]) {
        cachedAttention(rows, cache(), cache(), ids(), { heads, kvHeads, headDim, slots: ids(), splits });
      }
    }
  });
}

// ---- The parent reads what was printed. ----

async function compileAndRead() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "check-gpu-"));
  const log = path.join(folder, "log"); // a file takes what two writers write in the order in which they do
  const out = fs.openSync(log, "w");
  const debug = [process.env.RADV_DEBUG, "shaderstats,nocache", options.table && "asm"].filter(Boolean).join();
  const env = { ...process.env, WEBRLHF_CHECK_GPU: "1", WEBRLHF_ADAPTER_KIND: "hardware", RADV_DEBUG: debug };
  env.MESA_SHADER_CACHE_DISABLE = "true"; // a kernel out of the cache comes without figures
  if (process.platform === "linux") env.XDG_RUNTIME_DIR ??= os.tmpdir();
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    env,
    stdio: ["ignore", out, out],
  });
  const code = await new Promise((resolve) => child.on("close", (status, signal) => resolve(signal ?? status)));
  const [head, ...parts] = fs.readFileSync(log, "utf8").split("\n@@KERNEL ");
  fs.rmSync(folder, { recursive: true });
  if (code !== 0) {
    console.error((parts.at(-1) ?? head).slice(-4000));
    console.error(`check:gpu: the process that compiles ended with ${code}`);
    return 2;
  }
  const kernels = new Map();
  for (const part of parts) {
    const [name] = part.split("\n", 1);
    const figures = figuresOf(part);
    // The driver compiles equal texts once, so that the second of them comes without figures.
    if (figures || !kernels.has(name)) kernels.set(name, figures);
  }
  const known = [...kernels].filter(([, figures]) => figures !== null);
  const over = known.filter(([, { scratch }]) => scratch > 0);
  console.log(/^@@ADAPTER (.*)$/m.exec(head)?.[1]);
  console.log(`${kernels.size} kernels compiled, ${known.length} with figures of the driver`);
  if (kernels.size === 0) return 2;
  if (options.table) printTable(known);
  if (over.length > 0) console.log("kept in scratch memory (bytes for each wave, kernel):");
  for (const [name, { scratch }] of over) console.log(`${scratch} ${name}`);
  return over.length > 0 ? 1 : 0;
}

/** What the driver says of a kernel; null where it says nothing. */
function figuresOf(part) {
  const get = (label) => Number(new RegExp(`^${label}: *(\\d+)`, "m").exec(part)?.[1] ?? Number.NaN);
  const scratch = get("Scratch size");
  if (Number.isNaN(scratch)) return null;
  return {
    registers: get("VGPRs"),
    spilled: get("Spilled VGPRs"),
    scratch,
    shared: get("LDS size"),
    code: get("Code size"),
    ...(options.table && loopOf(part)),
  };
}

/** Multiply-adds and loads from workgroup memory in the innermost loop with most of the arithmetic. */
function loopOf(part) {
  const multiplyAdds = /^v_(dual_|pk_)?(fma|fmac|fmamk|fmaak|mad|mac|dot2|dot2c)_\w*f(16|32)/;
  const lines = part.split("\n").flatMap((line) => line.trim().split(" :: "));
  const labels = new Map();
  lines.forEach((line, i) => {
    const label = /^(BB\d+):/.exec(line)?.[1];
    if (label) labels.set(label, i);
  });
  const loops = lines.flatMap((line, end) => {
    const start = labels.get(/^s_c?branch\w* (BB\d+)/.exec(line)?.[1]);
    return start !== undefined && start < end ? [{ start, end }] : [];
  });
  const inner = loops.filter((a) => !loops.some((b) => b !== a && b.start >= a.start && b.end < a.end));
  const found = inner.map(({ start, end }) => {
    const body = lines.slice(start, end);
    const count = (what) => body.filter((line) => what.test(line)).length;
    return { fma: count(multiplyAdds), mma: count(/^v_wmma_/), lds: count(/^ds_(load|read)/) };
  });
  return found.sort((a, b) => b.fma + 1000 * b.mma - a.fma - 1000 * a.mma)[0] ?? { fma: 0, mma: 0, lds: 0 };
}

function printTable(known) {
  const names = ["registers", "spilled", "scratch", "shared", "code", "fma", "mma", "lds"];
  const rows = known.map(([name, figures]) => {
    const { fma, mma, lds } = figures;
    return [...names.map((key) => figures[key]), fma + mma > 0 ? (lds / (mma || fma)).toFixed(2) : "-", name];
  });
  for (const row of [[...names, "lds/fma", "kernel"], ...rows]) {
    console.log(row.map((cell, i) => (i < row.length - 1 ? String(cell).padStart(9) : ` ${cell}`)).join(""));
  }
}
