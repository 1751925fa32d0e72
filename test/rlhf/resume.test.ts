/** Where runs go on, what they refuse to go on with, and what of time never shows in a result. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import { CausalLM, type Model, ScoreModel } from "webrlhf/nn";
import {
  checkpointSteps,
  type Response,
  type RunOptions,
  type TrainEvent,
  trainPpo,
  trainReward,
  trainSft,
} from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import { collect, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => gpuReady());

const path = "run";
/** A run of six steps; `stopAt` stops it there. */
async function run(files: Files, options: RunOptions = {}, settings = {}, stopAt = 0, config = tinyConfig()) {
  const policy = new CausalLM(config).initialize(1);
  const stop = new AbortController();
  const own = { maxSteps: 6, learningRate: 1e-3, perDeviceTrainBatchSize: 2, ...settings };
  const events: TrainEvent[] = [];
  const all = trainSft({ policy }, sequences(8), own, { folder: { files, path }, signal: stop.signal, ...options });
  for await (const event of all) {
    events.push(event);
    if (event.type === "step" && event.step === stopAt) stop.abort();
  }
  policy.destroy();
  return events.flatMap((event) => (event.type === "note" ? [event.text] : []));
}
const weights = async (files: Files) => `${await files.read(`${path}/model.safetensors`)}`;

describe("resuming", () => {
  it("says where it starts, and does nothing where all is done", async () => {
    const files = memoryFiles();
    expect(await run(files, { resume: true }, {}, 3)).toEqual(["no checkpoint in run: starting at step 1"]);
    const [step] = await checkpointSteps(files, path);
    expect(await run(files, { resume: true })).toEqual([`resuming from checkpoint-${step} of 6`]);
    const before = await weights(files);
    expect(await run(files, { resume: true })).toEqual(["run: finished, nothing to do"]);
    expect(await weights(files)).toBe(before);
    await expect(run(files, { resume: true }, { maxSteps: 9 })).rejects.toThrow(
      /finished at step 6 and kept no checkpoint/,
    );
    await expect(run(files)).rejects.toThrow(/run holds a finished run of sft/);
    expect(await run(files, { overwrite: true })).toEqual(["run: a finished run of sft is overwritten"]);
    expect(await weights(files)).toBe(before);
  });

  it.each([
    [{ learningRate: 2e-3 }, /learning_rate was 0.001 and is 0.002/],
    [
      { seed: 7, perDeviceTrainBatchSize: 4 },
      /per_device_train_batch_size was 2 and is 4; seed was 42 and is 7|seed was 42 and is 7; per_device/,
    ],
  ])("names changes that make another run: %j", async (changed, message) => {
    const files = memoryFiles();
    await run(files, {}, {}, 3);
    await expect(run(files, { resume: true }, changed)).rejects.toThrow(message);
    const told = await run(files, { resume: true, acceptChanges: true }, changed);
    expect(told[0]).toMatch(message);
  });

  it("accepts what changes nothing, and more steps, and says so", async () => {
    const files = memoryFiles();
    await run(files, {}, {}, 3);
    const told = await run(files, { resume: true }, { saveSteps: 2, maxSteps: 8 });
    expect(told[0]).toMatch(/max_steps was 6 and is 8/);
    expect(told[0]).toMatch(/save_steps was 0 and is 2/);
  });

  it("refuses weights of the same shapes for another function", async () => {
    const files = memoryFiles();
    await run(files, {}, {}, 3);
    const { heads } = tinyConfig();
    const other = { ...tinyConfig(), heads: heads / 2, kvHeads: heads / 2, headDim: tinyConfig().headDim * 2 };
    await expect(run(files, { resume: true }, {}, 0, other)).rejects.toThrow(
      /is of another model: .*num_attention_heads/,
    );
  });

  it("goes on from an older checkpoint where the newest is damaged, and names the file", async () => {
    const files = memoryFiles();
    await run(files, { folder: { files, path, keep: 0 } }, { saveSteps: 1 }, 3);
    const steps = await checkpointSteps(files, path);
    const [newest, older] = [steps.at(-1), steps.at(-2)];
    const file = `${path}/checkpoint-${newest}/training_state.safetensors`;
    const bytes = (await files.read(file))!.slice();
    bytes[bytes.length - 5] ^= 1;
    await files.writeFile(file, bytes);
    const told = await run(files, { resume: true }, { saveSteps: 1 });
    expect(told[0]).toMatch(/training_state.safetensors is damaged.*; an older checkpoint is taken/);
    expect(told[1]).toBe(`resuming from checkpoint-${older} of 6`);
  });
});

it("saving by time changes no byte and leaves no checkpoint", async () => {
  const [never, often] = [memoryFiles(), memoryFiles()];
  await run(never, {}, { saveMinutes: 0 });
  const policy = new CausalLM(tinyConfig()).initialize(1);
  const own = { maxSteps: 6, learningRate: 1e-3, perDeviceTrainBatchSize: 2, saveMinutes: 1e-9 };
  const events = await collect(trainSft({ policy }, sequences(8), own, { folder: { files: often, path } }));
  expect(events.filter(({ type }) => type === "checkpoint").length).toBeGreaterThan(0);
  expect(await weights(often)).toBe(await weights(never));
  expect(await checkpointSteps(often, path)).toEqual([]);
});

describe("resuming what is finished", () => {
  const keep = keeper();
  const files = memoryFiles();
  const inFolder = (name: string) => ({ folder: { files, path: name }, resume: true });
  const read = async ({ store }: Model) => {
    store.resident.restore(); // a run that was told to leave the GPU has left it
    return store.read();
  };
  const steps = { maxSteps: 2, perDeviceTrainBatchSize: 4, learningRate: 1e-2 };
  const base = () => keep(new CausalLM(tinyConfig()).initialize(1));

  /** Trains in a folder, then resumes it with models that know nothing: they must hold the same. */
  async function holdsTheSame<M extends Record<string, Model>>(
    name: string,
    make: () => M,
    train: (models: M, run: RunOptions) => AsyncGenerator<TrainEvent>,
  ): Promise<[M, M]> {
    const [first, second] = [make(), make()];
    await collect(train(first, inFolder(name)));
    const events = await collect(train(second, inFolder(name)));
    expect(events.map(({ type }) => type)).toEqual(["note", "end"]);
    const fresh = make();
    for (const key of Object.keys(first)) {
      expect(await read(first[key])).not.toEqual(await read(fresh[key]));
      expect(await read(second[key])).toEqual(await read(first[key]));
    }
    return [first, second];
  }

  it("loads a whole model", async () => {
    await holdsTheSame(
      "whole",
      () => ({ policy: base() }),
      (models, run) => trainSft(models, sequences(8), steps, run),
    );
  });

  it("loads an adapter", async () => {
    const below = base();
    const lora = { rank: 4, alpha: 16, targets: "all-linear" as const };
    const adapter = () => ({ policy: keep(new CausalLM({ base: below, lora }).initialize(2)) });
    await holdsTheSame("adapter", adapter, (models, run) => trainSft(models, sequences(8), steps, run));
  });

  it.each([[[]], [["train_model"]]])("loads PPO's policy and critic, where %j leaves the GPU", async (offloadLevel) => {
    const make = () => ({ policy: base(), critic: keep(new ScoreModel(tinyConfig()).initialize(3)) });
    const rewards = async (responses: readonly Response[]) => responses.map((r) => r.ids.length);
    await holdsTheSame(`ppo ${offloadLevel}`, make, (models, run) => {
      const settings = { ...steps, rolloutBatchSize: 8, responseLength: 6, offloadLevel };
      return trainPpo({ ...models, reference: base(), rewards, tokenizer }, prompts(8), settings, run);
    });
  });

  it("loads a scorer's statistics", async () => {
    const make = () => ({ model: keep(new ScoreModel(tinyConfig()).initialize(3)) });
    const settings = { ...steps, normalizerType: "RunningMeanStd" as const, normalizeScoreDuringTraining: true };
    const [first, second] = await holdsTheSame("scorer", make, (models, run) =>
      trainReward(models, pairs(8), settings, run),
    );
    expect(first.model.scoring.normalizer?.count).toBe(16);
    expect(second.model.scoring).toEqual(first.model.scoring);
  });

  it("says so where it is not there any more", async () => {
    const train = () => collect(trainSft({ policy: base() }, sequences(8), steps, inFolder("gone")));
    await train();
    await files.remove("gone/model.safetensors");
    await expect(train()).rejects.toThrow(
      /^gone is finished, but what it trained cannot be loaded: .+: bring it back, or overwrite the run$/,
    );
  });
});
