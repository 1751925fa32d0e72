/** Runs at work that somebody pauses, stops or changes, and that changes can be made again. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import {
  type Change,
  checkpointSteps,
  FolderControls,
  group,
  leaveWish,
  live,
  loop,
  type RunOptions,
  readChanges,
  settings,
  standingOf,
  type TrainEvent,
  trainDpo,
  trainGrpo,
  trainKto,
  trainPpo,
  trainRloo,
  trainSft,
  type Wish,
  waitingWishes,
} from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { collect, metricsOf, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => gpuReady());

const path = "run";
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Wishes that come when a step has been told. */
class Script {
  readonly #wishes: Wish[] = [];
  readonly controls = {
    stand: async () => {},
    look: async () => this.#wishes.splice(0),
    wait: async () => this.#wishes.splice(0),
  };
  readonly #at: Record<number, Wish[]>;
  constructor(at: Record<number, Wish[]>) {
    this.#at = at;
  }
  hear(event: TrainEvent): void {
    if (event.type === "step") this.#wishes.push(...(this.#at[event.step] ?? []));
  }
}

type Train = (policy: CausalLM, run: RunOptions) => AsyncGenerator<TrainEvent>;
const small = { maxSteps: 7, learningRate: 1e-2, perDeviceTrainBatchSize: 2, saveSteps: 3 };
const sampled = {
  ...{
    maxSteps: 4,
    learningRate: 1e-2,
    perDeviceTrainBatchSize: 4,
    saveSteps: 2,
    responseLength: 6,
    numGenerations: 2,
  },
};
const reward = async (all: readonly { text: string }[]) => all.map(({ text }) => text.length % 5);
const labelled = sequences(8).map((sequence, i) => ({ ...sequence, label: i % 2 === 0 }));
const set = (setting: string, value: number): Wish => ({ ask: "set", setting, value });

const methods: [string, Train, Wish[]][] = [
  ["sft", (policy, run) => trainSft({ policy }, sequences(8), small, run), [set("learning_rate", 1e-3)]],
  ["dpo", (policy, run) => trainDpo({ policy }, pairs(8), small, run), [set("beta", 2)]],
  ["kto", (policy, run) => trainKto({ policy }, labelled, small, run), [set("beta", 2)]],
  [
    "ppo",
    (policy, run) =>
      trainPpo(
        { policy, tokenizer, rewards: [reward] },
        prompts(8),
        { ...sampled, rolloutBatchSize: 4, targetKl: 0.1 },
        run,
      ),
    [set("kl_coef", 2), set("critic_learning_rate", 1e-4)],
  ],
  [
    "grpo",
    (policy, run) => trainGrpo({ policy, tokenizer, rewards: [reward] }, prompts(8), { ...sampled, beta: 0.1 }, run),
    [set("beta", 2)],
  ],
  [
    "rloo",
    (policy, run) => trainRloo({ policy, tokenizer, rewards: [reward] }, prompts(8), { ...sampled, beta: 0.1 }, run),
    [set("beta", 2), set("learning_rate", 0)],
  ],
];

/** Trains in a folder, with wishes; `killAt` leaves the run in the middle when that step was told. */
async function train(method: Train, files: Files, run: RunOptions = {}, at: Record<number, Wish[]> = {}, killAt = 0) {
  const policy = new CausalLM(tinyConfig()).initialize(1);
  const script = new Script(at);
  const events: TrainEvent[] = [];
  for await (const event of method(policy, { folder: { files, path, keep: 0 }, controls: script.controls, ...run })) {
    events.push(event);
    script.hear(event);
    if (event.type === "step" && event.step === killAt) break;
  }
  policy.destroy();
  return events;
}
const weights = async (files: Files) => `${await files.read(`${path}/model.safetensors`)}`;

describe("a run that is changed on its way", () => {
  it.each(methods)(
    "%s equals, bit for bit, one that is given the changes, and one that was killed across them",
    async (_, method, wishes) => {
      const [changed, given, killed, plain] = [memoryFiles(), memoryFiles(), memoryFiles(), memoryFiles()];
      const first = await train(method, changed, {}, { 1: wishes });
      const changes = await readChanges(changed, `${path}/changes.jsonl`);
      expect(changes.map(({ setting, to }) => [setting, to])).toEqual(
        wishes.map((w) => "value" in w && [w.setting, w.value]),
      );
      expect(first.filter(({ type }) => type === "change")).toHaveLength(wishes.length);

      const again = await train(method, given, { changes });
      expect(metricsOf(again)).toEqual(metricsOf(first));
      expect(await weights(given)).toBe(await weights(changed));
      expect(await readChanges(given, `${path}/changes.jsonl`)).toEqual(changes);

      // The checkpoint that is gone on from is older than the change.
      await train(method, killed, {}, { 1: wishes }, changes[0].step);
      for (const step of await checkpointSteps(killed, path)) {
        if (step >= changes[0].step) await killed.remove(`${path}/checkpoint-${step}`);
      }
      await train(method, killed, { resume: true });
      expect(await weights(killed)).toBe(await weights(changed));

      await train(method, plain);
      expect(await weights(plain)).not.toBe(await weights(changed));
    },
  );

  it("goes on with what was changed before its checkpoint, and drops it where it begins anew", async () => {
    const [, method, wishes] = methods[0];
    const [whole, killed] = [memoryFiles(), memoryFiles()];
    await train(method, whole, {}, { 1: wishes });
    const { step } = (await readChanges(whole, `${path}/changes.jsonl`))[0];
    await train(method, killed, {}, { 1: wishes }, 7);
    expect((await checkpointSteps(killed, path)).at(-1)).toBeGreaterThan(step);
    await train(method, killed, { resume: true });
    expect(await weights(killed)).toBe(await weights(whole));
    await train(method, killed, { overwrite: true });
    expect(await readChanges(killed, `${path}/changes.jsonl`)).toEqual([]);
  });

  it("is changed before it stops where both are heard at once", async () => {
    const [, method, wishes] = methods[0];
    const [whole, stopped] = [memoryFiles(), memoryFiles()];
    await train(method, whole, {}, { 1: wishes });
    const events = await train(method, stopped, {}, { 1: [...wishes, { ask: "stop" }] });
    expect(events.map(({ type }) => type)).not.toContain("end");
    expect(events.filter(({ type }) => type === "checkpoint")).toHaveLength(1);
    const kept = await readChanges(stopped, `${path}/changes.jsonl`);
    expect(kept).toEqual(await readChanges(whole, `${path}/changes.jsonl`));
    await train(method, stopped, { resume: true });
    expect(await weights(stopped)).toBe(await weights(whole));
  });

  it("is changed again after a write of its changes was cut off", async () => {
    const [, method, wishes] = methods[0];
    const files = memoryFiles();
    await train(method, files, {}, { 1: wishes }, 4);
    await files.append(`${path}/changes.jsonl`, '{"step":');
    await train(method, files, { resume: true }, { 4: [set("learning_rate", 0)] });
    const changes = await readChanges(files, `${path}/changes.jsonl`);
    expect(changes.map(({ to }) => to)).toEqual([1e-3, 0]);
  });

  it("goes on as it was where a change cannot be written", async () => {
    const [, method] = methods[3];
    const [plain, full] = [memoryFiles(), memoryFiles()];
    const before = await train(method, plain);
    const { writeFile } = full;
    full.writeFile = async (to, content) => {
      if (to.endsWith("changes.jsonl")) throw new Error("no space is left");
      await writeFile(to, content);
    };
    const events = await train(method, full, {}, { 1: [set("kl_coef", 2)] });
    expect(events).toContainEqual(expect.objectContaining({ type: "warning", text: "not changed: no space is left" }));
    expect(metricsOf(events)).toEqual(metricsOf(before));
    expect(await weights(full)).toBe(await weights(plain));
    expect(await readChanges(full, `${path}/changes.jsonl`)).toEqual([]);
  });

  it("says what it refuses, and goes on", async () => {
    const files = memoryFiles();
    const wishes = [set("seed", 3), set("learning_rate", -1), set("beta", 1)];
    const events = await train(methods[4][1], files, {}, { 1: [wishes[0], wishes[1]] });
    const warned = events.flatMap((event) => (event.type === "warning" ? [event.text] : []));
    expect(warned).toEqual([
      "not changed: seed does not change while a run is at work; there may change beta and learning_rate",
      "not changed: learningRate must be a number of at least 0, not -1",
    ]);
    expect(events.at(-1)?.type).toBe("end");
    const free: Train = (policy, run) => trainGrpo({ policy, tokenizer, rewards: [reward] }, prompts(8), sampled, run);
    const told = await train(free, memoryFiles(), {}, { 1: [wishes[2]] });
    expect(told).toContainEqual(
      expect.objectContaining({ type: "warning", text: expect.stringContaining("no reference to measure the KL") }),
    );
  });

  it("refuses changes that it is given and cannot make, before its first step", async () => {
    const given = (change: Partial<Change>) =>
      train(methods[0][1], memoryFiles(), {
        changes: [{ step: 2, setting: "learning_rate", from: 1, to: 2, ...change }],
      });
    await expect(given({ setting: "kl_coef" })).rejects.toThrow("kl_coef does not change while a run is at work");
    await expect(given({ to: -1 })).rejects.toThrow("must be a number of at least 0");
    const files = memoryFiles();
    await files.writeFile("changes.jsonl", '{"step":2,"setting":"beta","from":1,"to":2}\n{"step":0}\n{"st');
    await expect(readChanges(files, "changes.jsonl")).rejects.toThrow("changes.jsonl line 2 is no change");
  });
});

/** A trainer whose steps take a moment. */
const own = settings("slow", { learningRate: group("x").float(1, "x", { min: 0, live: true }) });
const slow = (files: Files, controls: FolderControls, seen: number[] = [], maxSteps = 400) => {
  const o = { ...live(own()), seed: 1, saveSteps: 0, saveStrategy: "steps" as const, saveMinutes: 0 };
  return loop(
    {
      stage: "slow",
      maxSteps,
      parameters: 1,
      kept: {},
      epoch: (done) => done,
      async step() {
        await wait(5);
        seen.push(o.learningRate);
        return { metrics: {}, tokens: 1 };
      },
      finite: [],
      finished: () => ({}),
      close() {},
    },
    o,
    { folder: { files, path }, controls },
  );
};

describe("wishes in a run's folder", () => {
  it("pause, change, save and stop a run, which says how it stands", async () => {
    const files = memoryFiles();
    const controls = new FolderControls(files, path);
    const seen: number[] = [];
    await files.writeFile(`${path}/control/wish-0.json`, '{"ask":"stop"}'); // of an earlier run
    const events = collect(slow(files, controls, seen));
    const until = async (what: () => Promise<boolean>) => {
      while (!(await what())) await wait(20);
    };
    await until(async () => (await standingOf(files, path)) !== null);
    await leaveWish(files, path, { ask: "pause" });
    expect(await waitingWishes(files, path)).toEqual([{ ask: "pause" }]);
    await until(async () => (await standingOf(files, path))?.state === "paused");
    const at = (await standingOf(files, path))?.step as number;
    await files.writeFile(`${path}/control/wish-1.json`, "x".repeat(5000));
    await files.writeFile(`${path}/control/wish-2.json`, '{"ask":"set","setting":"../x","value":1}');
    await leaveWish(files, path, { ask: "save" });
    await leaveWish(files, path, set("learning_rate", 5));
    await until(async () => (await standingOf(files, path))?.settings.learning_rate === 5);
    expect(await checkpointSteps(files, path)).toEqual([at]);
    expect(await readChanges(files, `${path}/changes.jsonl`)).toEqual([
      { step: at + 1, setting: "learning_rate", from: 1, to: 5 },
    ]);
    expect(seen).toHaveLength(at);
    await expect(leaveWish(files, path, set("beta", 1))).rejects.toThrow(
      "beta is none of what may change there: learning_rate",
    );
    await leaveWish(files, path, { ask: "continue" });
    await until(async () => seen.length > at);
    expect(seen.at(-1)).toBe(5);
    await leaveWish(files, path, { ask: "stop" });
    const told = await events;
    expect(told.at(-1)?.type).toBe("checkpoint");
    expect(controls.signal.aborted).toBe(true);
    await controls.close();
    expect((await files.list(path)).filter((name) => name === "control")).toEqual([]);
    await expect(leaveWish(files, path, { ask: "stop" })).rejects.toThrow("no run is at work here");
  });

  it("are no more than a run can hear at once, and a run whose folder fails goes on", async () => {
    const files = memoryFiles();
    await new FolderControls(files, path).stand({ state: "running", step: 0, settings: {} });
    for (let i = 0; i < 32; i++) await leaveWish(files, path, { ask: "save" });
    await expect(leaveWish(files, path, { ask: "save" })).rejects.toThrow("32 wishes wait already");
    const broken = { ...memoryFiles(), list: async () => Promise.reject(new Error("no disk")) };
    const events = await collect(slow(memoryFiles(), new FolderControls(broken, path), [], 3));
    expect(events).toContainEqual(
      expect.objectContaining({ type: "warning", text: expect.stringContaining("no disk") }),
    );
    expect(events.at(-1)?.type).toBe("end");
  });
});
