/** Folders of checkpoints: which stay, which is the newest, and which are taken for whole. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, scope } from "webrlhf";
import { AdamW, CausalLM } from "webrlhf/nn";
import { checkpointSteps, type RunFolder, restoreCheckpoint, saveCheckpoint } from "webrlhf/rlhf";
import { sftStep } from "../../src/rlhf/sft.ts";
import { gpuReady } from "../helpers.ts";
import { tinyConfig } from "./tiny.ts";

let model: CausalLM;
beforeAll(async () => {
  await gpuReady();
  model = new CausalLM(tinyConfig()).initialize(1);
});
afterAll(() => model.destroy());

/** A run's folder with a checkpoint of each step, which keeps `keep` of them. */
async function saved(steps: readonly number[], keep?: number): Promise<RunFolder> {
  const run = { files: memoryFiles(), path: "run", ...(keep !== undefined && { keep }) };
  for (const step of steps) await saveCheckpoint(run, step, { "": { model } }, { of: step });
  return run;
}

describe("checkpoints", () => {
  it.each([
    [undefined, [10]],
    [1, [10]],
    [2, [9, 10]],
    [0, [8, 9, 10]],
  ])("keep %s: the newest stay", async (keep, left) => {
    const { files, path } = await saved([8, 9, 10], keep);
    expect(await checkpointSteps(files, path)).toEqual(left);
  });

  it("are restored from the newest, by number", async () => {
    const run = await saved([9, 10], 0);
    expect(await restoreCheckpoint(run, { "": { model } })).toEqual({ step: 10, state: { of: 10 }, damaged: [] });
  });

  it.each([
    ["adamw_torch", {}, { muon: true }],
    ["adamw_8bit", { eightBit: true }, {}],
    ["muon", { muon: true }, { eightBit: true }],
  ])("bring an optimizer back bit for bit (%s)", async (_, how, otherwise) => {
    const trained = new CausalLM(tinyConfig()).initialize(2);
    const [optimizer, other] = [new AdamW(trained.store, how), new AdamW(model.store, how)];
    const ids = Uint32Array.from({ length: 12 }, (_, i) => i + 1);
    const steps = [[{ ids, promptLength: 1 }]];
    for (let i = 0; i < 3; i++) scope(() => void sftStep(trained, optimizer, steps, 1e-3));
    const run = { files: memoryFiles(), path: "run" };
    await saveCheckpoint(run, 3, { "": { model: trained, optimizer } }, {});
    await restoreCheckpoint(run, { "": { model, optimizer: other } });
    expect(await other.state()).toEqual(await optimizer.state());
    const wrong = new AdamW(trained.store, otherwise);
    await expect(restoreCheckpoint(run, { "": { model: trained, optimizer: wrong } })).rejects.toThrow(
      /with optim (adamw|muon)/,
    );
    for (const one of [optimizer, other, wrong, trained]) one.destroy();
  });

  it("are refused where they describe another step, or none", async () => {
    const run = await saved([2]);
    const info = "run/checkpoint-2/trainer_state.json";
    await run.files.remove("run/checkpoint-2/checksums.json"); // as older versions left it
    for (const other of [{ global_step: 1, state: {} }, { global_step: 2 }, { global_step: 2, state: null }]) {
      await run.files.writeFile(info, JSON.stringify(other));
      await expect(restoreCheckpoint(run, { "": { model } })).rejects.toThrow(/does not describe step 2/);
    }
  });
});
