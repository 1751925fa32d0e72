#!/usr/bin/env node
/**
 * What JavaScript and Dawn take for each dispatch: training steps are enqueued on Dawn's null backend, which does everything
 * but the work. It measures the build: `npm run build` first. The model has the layers of SmolLM2-135M, and so its dispatches, on a GPU's kernels, but narrow ones.
 *
 *   node scripts/dispatch-cost.mjs               with immediates, as every GPU has them in Dawn
 *   node scripts/dispatch-cost.mjs --uniforms    scalars through a uniform buffer, as browsers without immediates do
 *   node scripts/dispatch-cost.mjs --profile N   N steps more, for a profiler
 *
 * Steps have equal lengths, then varying ones; then Dawn's own calls of a step alone, and JavaScript alone on a device that does nothing.
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

async function train(where, kinds, { rehearsed = false, more = 0 }) {
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
  const equal = () => step(lengths["equal lengths"]);
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
  for (let i = 0; i < more; i++) await equal();
  if (!rehearsed) await bareCalls(equal);
}

/** What Dawn's calls of a step take by themselves: they are noted down, and made again with nothing in between. */
async function bareCalls(step) {
  const { prototype } = globals.GPUComputePassEncoder;
  const { setPipeline, setBindGroup, setImmediates, dispatchWorkgroups } = prototype;
  const noted = [];
  let [pipeline, group, words, uniforms] = [];
  Object.assign(prototype, {
    setPipeline(given) {
      pipeline = given;
      setPipeline.call(this, given);
    },
    setBindGroup(index, ...given) {
      if (index === 0) group = given[0];
      else uniforms = given;
      setBindGroup.call(this, index, ...given);
    },
    setImmediates(offset, given) {
      words = given.slice(0);
      setImmediates.call(this, offset, given);
    },
    dispatchWorkgroups(...grid) {
      noted.push({ pipeline, group, words, uniforms, grid });
      words = uniforms = undefined;
      dispatchWorkgroups.apply(this, grid);
    },
  });
  await step();
  Object.assign(prototype, { setPipeline, setBindGroup, setImmediates, dispatchWorkgroups });

  const costs = [];
  for (let i = 0; i < COUNTED; i++) {
    const started = microseconds();
    for (let from = 0; from < noted.length; from += 256) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      let latest = null;
      for (let k = from; k < Math.min(from + 256, noted.length); k++) {
        const { pipeline, group, words, uniforms, grid } = noted[k];
        if (pipeline !== latest) pass.setPipeline(pipeline);
        latest = pipeline;
        pass.setBindGroup(0, group);
        if (words) pass.setImmediates(0, words);
        if (uniforms) pass.setBindGroup(1, uniforms[0], uniforms[1]);
        if (grid.length === 1) pass.dispatchWorkgroups(grid[0]);
        else pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
    costs.push((microseconds() - started) / noted.length);
  }
  console.log(`Dawn's own calls alone, the same ones: ${ofSorted(costs.sort((a, b) => a - b))}`);
}

await withStandIn(device, () =>
  train("JavaScript and Dawn", ["equal lengths", "varying lengths"], { more: Number(options.profile ?? 0) }),
);
await rehearse(() => train("JavaScript alone", ["equal lengths"], { rehearsed: true }));
process.exit(0);
