#!/usr/bin/env node
/**
 * What versions of a model that is trained whole take on their way to workers: bytes of `deltaOf` against those of the weights, after
 * real steps of AdamW on the built-in world.
 *
 *   node scripts/delta-bytes.mjs            at several learning rates
 *   node scripts/delta-bytes.mjs --time 64  how fast it is, on so many MiB of them in a row
 */
import path from "node:path";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const { values: options } = parseArgs({ options: { time: { type: "string" } } });
const model = path.resolve(import.meta.dirname, "../models/world-sft");

await fromSource(async (load) => {
  const { openDevice, diskFiles } = await load("/src/index.ts");
  const { loadCausalLM } = await load("/src/nn/index.ts");
  const { worldPrompts } = await load("/src/data/index.ts");
  const { openTokenizer } = await load("/src/open/tokenizer.ts");
  const { worldGold } = await load("/src/open/rewards.ts");
  const { trainGrpo } = await load("/src/rlhf/index.ts");
  const { PolicyPublisher } = await load("/src/cluster/policy.ts");
  const { deltaOf, applied } = await load("/src/cluster/delta.ts");
  await openDevice();
  const tokenizer = await openTokenizer(model);
  const prompts = worldPrompts(64, 1, "train").map((text) => ({ text, ids: Uint32Array.from(tokenizer.encode(text)) }));
  const rewards = async (responses) => responses.map((response) => worldGold(response));
  const weights = async (policy) => {
    const { ref, get } = await new PolicyPublisher().take(policy);
    return get(ref.base.find(({ name }) => name.endsWith(".safetensors")));
  };
  console.log("| learning rate | step | delta | of the weights' bytes | ratio |\n|---|---|---|---|---|");
  let last = null;
  for (const learningRate of [1e-6, 1e-5, 1e-4]) {
    const policy = await loadCausalLM(await diskFiles(), model, "policy");
    const settings = { maxSteps: 8, responseLength: 16, saveMinutes: 0, showSamples: 0, learningRate, seed: 1 };
    const sizes = {
      numGenerations: 8,
      generationBatchSize: 48,
      perDeviceTrainBatchSize: 48,
      lrSchedulerType: "constant",
    };
    let before = await weights(policy);
    for await (const event of trainGrpo({ policy, tokenizer, rewards }, prompts, { ...settings, ...sizes })) {
      if (event.type !== "step") continue;
      const after = await weights(policy);
      const delta = await deltaOf(before, after);
      const again = delta && Buffer.from(await applied(before, delta)).equals(Buffer.from(after));
      if (!again) throw new Error(`step ${event.step}: ${delta ? "the delta leads to other weights" : "no delta"}`);
      if ([1, 2, 4, 8].includes(event.step)) {
        const ratio = after.length / delta.length;
        console.log(
          `| ${learningRate} | ${event.step} | ${delta.length} | ${((100 * delta.length) / after.length).toFixed(0)} % | ${ratio.toFixed(2)} |`,
        );
      }
      last = { before, after };
      before = after;
    }
    policy.destroy();
  }
  if (!options.time) return;
  const times = Math.ceil((Number(options.time) * 2 ** 20) / last.after.length);
  const long = (bytes) => Buffer.concat(Array.from({ length: times }, () => bytes.subarray(0, bytes.length & ~3)));
  const [from, to] = [long(last.before), long(last.after)];
  const timed = async (what, work) => {
    const began = performance.now();
    const found = await work();
    console.log(
      `${what}: ${(to.length / 2 ** 20 / ((performance.now() - began) / 1000)).toFixed(0)} MiB of weights a second`,
    );
    return found;
  };
  const delta = await timed("made", () => deltaOf(from, to));
  await timed("applied", () => applied(from, delta));
});
