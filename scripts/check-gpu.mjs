#!/usr/bin/env node
/**
 * Compiles the kernels that a GPU gets for training and decoding, through Dawn, with whatever Vulkan driver there is. On Mesa's
 * RADV it fails where the driver keeps registers or arrays in scratch memory, which makes a kernel several times slower. Nothing
 * is computed, so a driver's null device will do: docs/architecture.md says how to get one.
 *
 *   npm run check:gpu                    every kernel
 *   npm run check:gpu -- --only tiled    those whose name or constants contain a text
 */
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({ options: { only: { type: "string" } } });

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
  for (const format of ["float32", "int8", "int4"]) {
    const model = new CausalLM(config, "m", format);
    for (const rows of [1, 4, 16, 256]) {
      // After a long prompt a few rows attend to their cache in parts.
      const prompts = Array.from({ length: rows }, () => ids(rows === 1 ? 512 : 8));
      await generate(model, prompts, { maxNewTokens: 3, seed: 1, eosIds: [], topK: 50, topP: 0.9 });
    }
  }
  attendToPrefix(await load("/src/tensor/ops/kvcache.ts"), await load("/src/index.ts"), config);
  await finish(); // throws what did not compile
}

/** What later parts of a prompt do: rows that share a slot, in one piece and in parts. */
function attendToPrefix({ cachedAttention }, { scope, tensor, zeros }, { heads, kvHeads, headDim }) {
  scope(() => {
    const ids = () => tensor(new Uint32Array(64));
    const cache = () => zeros([1, 512, kvHeads * headDim]);
    const rows = zeros([64, (heads + 2 * kvHeads) * headDim]);
    for (const splits of [1, 2]) {
      cachedAttention(rows, cache(), cache(), ids(), { heads, kvHeads, headDim, slots: ids(), splits });
    }
  });
}

// ---- The parent reads what was printed. ----

async function compileAndRead() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "check-gpu-"));
  const log = path.join(folder, "log"); // a file takes what two writers write in the order in which they do
  const out = fs.openSync(log, "w");
  const debug = [process.env.RADV_DEBUG, "shaderstats,nocache"].filter(Boolean).join();
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
    const bytes = /^Scratch size: *(\d+)/m.exec(part)?.[1];
    // The driver compiles equal texts once, so that the second of them comes without figures.
    if (bytes !== undefined || !kernels.has(name)) kernels.set(name, bytes === undefined ? null : Number(bytes));
  }
  const known = [...kernels].filter(([, bytes]) => bytes !== null);
  const over = known.filter(([, bytes]) => bytes > 0);
  console.log(/^@@ADAPTER (.*)$/m.exec(head)?.[1]);
  console.log(`${kernels.size} kernels compiled, ${known.length} with figures of the driver`);
  if (kernels.size === 0) return 2;
  if (over.length > 0) console.log("kept in scratch memory (bytes for each wave, kernel):");
  for (const [name, bytes] of over) console.log(`${bytes} ${name}`);
  return over.length > 0 ? 1 : 0;
}
