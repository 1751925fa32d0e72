#!/usr/bin/env node
/**
 * What JavaScript and Dawn take for each dispatch: training steps are enqueued on Dawn's null backend, which does everything
 * but the work. It measures the build: `npm run build` first. The model has the layers of SmolLM2-135M, and so its dispatches, on a GPU's kernels, but narrow ones.
 *
 *   node scripts/dispatch-cost.mjs               with immediates, as every GPU has them in Dawn
 *   node scripts/dispatch-cost.mjs --uniforms    scalars through a uniform buffer, as browsers without immediates do
 *   node scripts/dispatch-cost.mjs --profile N   N steps more, for a profiler
 *
 * Steps have equal lengths, then varying ones. What counts is the time that this process computes, so that it matters little what
 * else the machine does.
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
const { stats } = await load("gpu/stream");
const { AdamW, CausalLM, decoderConfig } = await load("nn/index");
const { sftStep } = await load("rlhf/sft");
const { finish, scope } = await load("index");
await openDevice({ noImmediates: options.uniforms });
Object.assign(caps(), { kind: "hardware", subgroupSize: 32, subgroupSizeMax: 32, maxWorkgroupStorage: 16384 });
const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
await withStandIn(device, async () => {
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
  const sequences = (lengthOf) =>
    Array.from({ length: 8 }, () => {
      const ids = Uint32Array.from({ length: lengthOf() }, () => random(config.vocabSize));
      return { ids, promptLength: 1 };
    });
  for (const [what, lengthOf] of [
    ["equal lengths", () => 256],
    ["varying lengths", () => 128 + random(384)],
  ]) {
    const costs = [];
    let before = stats();
    for (let step = 0; step < WARM + COUNTED; step++) {
      if (step === WARM) before = stats();
      const batch = sequences(lengthOf);
      const [started, from] = [process.cpuUsage(), stats().dispatches];
      scope(() => void sftStep(model, optimizer, [batch], 1e-4));
      await finish();
      const { user, system } = process.cpuUsage(started);
      costs.push((user + system) / (stats().dispatches - from));
    }
    const counted = costs.slice(WARM).sort((a, b) => a - b);
    const after = stats();
    const [hits, misses] = ["bindGroupHits", "bindGroupMisses"].map((name) => after[name] - before[name]);
    const [median, least] = [counted[COUNTED >> 1], counted[0]].map((cost) => cost.toFixed(2));
    const found = ((100 * hits) / (hits + misses)).toFixed(2);
    const dispatches = Math.round((after.dispatches - before.dispatches) / COUNTED);
    console.log(
      `${what}: ${median} µs a dispatch (least ${least}), ${dispatches} a step, ${found} % of bind groups found`,
    );
  }
  for (let i = 0; i < Number(options.profile ?? 0); i++) {
    scope(() => void sftStep(model, optimizer, [sequences(() => 256)], 1e-4));
    await finish();
  }
});
process.exit(0);
