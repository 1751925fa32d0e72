#!/usr/bin/env node
/**
 * What JavaScript and Dawn take for each dispatch: training steps are enqueued on Dawn's null backend, which does everything
 * but the work. It measures the build: `npm run build` first. The model has the layers of SmolLM2-135M, and so its dispatches, on a GPU's kernels, but narrow ones.
 *
 *   node scripts/dispatch-cost.mjs               with immediates, as every GPU has them in Dawn
 *   node scripts/dispatch-cost.mjs --uniforms    scalars through a uniform buffer, as browsers without immediates do
 *   node scripts/dispatch-cost.mjs --profile N   N steps more, for a profiler
 *
 * Steps have equal lengths, then varying ones; then JavaScript alone, on a device that does nothing, and Dawn's own calls alone.
 * What counts is the time that this process computes, so that it matters little what else the machine does.
 */
import { parseArgs } from "node:util";
import { create, globals } from "webgpu";

const { values: options } = parseArgs({ options: { uniforms: { type: "boolean" }, profile: { type: "string" } } });

Object.assign(globalThis, globals);
const dawn = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
const adapter = await dawn.requestAdapter();
if (!adapter) throw new Error("this Dawn has no null backend");
const requiredFeatures = ["immediates", "subgroups"].filter((name) => adapter.features.has(name));
const requiredLimits = adapter.features.has("immediates") ? { maxImmediateSize: 64 } : {};

const WARM = 20; // steps after which buffers and bind groups are there
const COUNTED = 200;

const load = (file) => import(new URL(`../dist/${file}.js`, import.meta.url).href);
const { caps, openDevice, withStandIn } = await load("gpu/device");
const { rehearse } = await load("gpu/rehearsal");
const { stats } = await load("gpu/stream");
const { AdamW, CausalLM, decoderConfig } = await load("nn/index");
const { sftStep } = await load("rlhf/sft");
const { finish, scope } = await load("index");
await openDevice({ noImmediates: options.uniforms });
Object.assign(caps(), { kind: "hardware", subgroupSize: 32, subgroupSizeMax: 32, maxWorkgroupStorage: 16384 });
const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });

const microseconds = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};
const ofSorted = (costs) => `${costs[costs.length >> 1].toFixed(2)} µs a dispatch (least ${costs[0].toFixed(2)})`;

async function train(where, kinds, more = 0) {
  const config = decoderConfig({
    ...{ family: "llama", vocabSize: 512, hiddenSize: 36, layers: 30, heads: 9, kvHeads: 3, intermediateSize: 96 },
    ...{ maxPositions: 512, tieEmbeddings: true },
  });
  const model = new CausalLM(config, "m");
  const optimizer = new AdamW(model.store);
  let state = 1;
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const lengths = { "equal lengths": () => 256, "varying lengths": () => 128 + random(384) };
  const sequences = (lengthOf) =>
    Array.from({ length: 8 }, () => {
      const ids = Uint32Array.from({ length: lengthOf() }, () => random(config.vocabSize));
      return { ids, promptLength: 1 };
    });
  const step = async (lengthOf) => {
    const batch = sequences(lengthOf);
    const [started, from] = [microseconds(), stats().dispatches];
    scope(() => void sftStep(model, optimizer, [batch], 1e-4));
    await finish();
    return (microseconds() - started) / (stats().dispatches - from);
  };
  for (const kind of kinds) {
    const costs = [];
    let before = stats();
    for (let i = 0; i < WARM + COUNTED; i++) {
      if (i === WARM) before = stats();
      costs.push(await step(lengths[kind]));
    }
    const counted = costs.slice(WARM).sort((a, b) => a - b);
    const after = stats();
    const [hits, misses] = ["bindGroupHits", "bindGroupMisses"].map((name) => after[name] - before[name]);
    const found = ((100 * hits) / (hits + misses)).toFixed(2);
    const dispatches = Math.round((after.dispatches - before.dispatches) / COUNTED);
    console.log(`${where}, ${kind}: ${ofSorted(counted)}, ${dispatches} a step, ${found} % of bind groups found`);
  }
  for (let i = 0; i < more; i++) await step(lengths["equal lengths"]);
}

/** The four calls of a dispatch, over as many pipelines, bind groups and buffers as a step has. */
function bareCalls() {
  const layout = device.createBindGroupLayout({
    entries: [0, 1, 2, 3].map((binding) => ({ binding, visibility: 4, buffer: { type: "storage" } })),
  });
  const immediates = requiredLimits.maxImmediateSize > 0;
  const code = `${immediates ? "var<immediate> u: mat4x4f;" : ""} @group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn main() { y[0] = ${immediates ? "u[0].x" : "1"}; }`;
  const module = device.createShaderModule({ code });
  const shared = device.createPipelineLayout({
    bindGroupLayouts: [layout],
    ...(immediates && { immediateSize: requiredLimits.maxImmediateSize }),
  });
  const pipelines = Array.from({ length: 16 }, () =>
    device.createComputePipeline({ layout: shared, compute: { module, entryPoint: "main" } }),
  );
  const buffers = Array.from({ length: 1000 }, () => device.createBuffer({ size: 1024, usage: 128 }));
  const groups = Array.from({ length: 767 }, (_, i) =>
    device.createBindGroup({
      layout,
      entries: [0, 1, 2, 3].map((binding) => ({
        binding,
        resource: { buffer: buffers[(3 * i + 7 * binding) % buffers.length] },
      })),
    }),
  );
  const words = new ArrayBuffer(64);
  const costs = [];
  for (let step = 0; step < COUNTED; step++) {
    const started = microseconds();
    for (let from = 0; from < groups.length; from += 256) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (let i = from; i < Math.min(from + 256, groups.length); i++) {
        pass.setPipeline(pipelines[i % pipelines.length]);
        pass.setBindGroup(0, groups[i]);
        if (immediates) pass.setImmediates(0, words, 0, 60);
        pass.dispatchWorkgroups(4);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
    costs.push((microseconds() - started) / groups.length);
  }
  console.log(`Dawn's own calls alone: ${ofSorted(costs.sort((a, b) => a - b))}`);
}

await withStandIn(device, () =>
  train("JavaScript and Dawn", ["equal lengths", "varying lengths"], Number(options.profile ?? 0)),
);
await rehearse(() => train("JavaScript alone", ["equal lengths"]));
bareCalls();
process.exit(0);
