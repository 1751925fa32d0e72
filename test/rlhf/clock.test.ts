/** Where the time of a step goes, and the memory that it has: measured without a read, and told where nothing is compared. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, stats, tensor } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { Clock, Loggers, loop, RunLog, type TrainEvent, trainPpo, trainSft } from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { collect, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => gpuReady());

const wait = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
const stepsOf = (events: readonly TrainEvent[]) => events.filter((event) => event.type === "step");
const timesIn = (usage: Record<string, number> = {}) =>
  Object.entries(usage).filter(([name]) => name.startsWith("time/"));
const sum = (entries: readonly (readonly [string, number])[]) => entries.reduce((all, [, own]) => all + own, 0);

describe("a clock", () => {
  it("counts each moment for the innermost part alone, and for parts that end in any order", async () => {
    const clock = new Clock();
    const before = performance.now();
    await clock.during("outer", async () => {
      await wait(30);
      await clock.during("inner", () => wait(40));
      const first = clock.during("first", () => wait(20));
      await Promise.all([first, clock.during("second", () => wait(40))]);
    });
    await expect(clock.during("failing", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    const all = (performance.now() - before) / 1000;
    const { outer, inner, second } = clock.parts;
    expect(outer).toBeGreaterThan(0.02);
    expect(inner).toBeGreaterThan(0.03);
    expect(second).toBeGreaterThan(0.03);
    expect(sum(Object.entries(clock.parts))).toBeLessThanOrEqual(all);
  });
});

describe("a step's usage", () => {
  it("has parts that add up to its seconds, and leaves out what it waited to be heard", async () => {
    const steps = {
      ...{ stage: "test", maxSteps: 2, parameters: 1, kept: {}, finite: [], epoch: (done: number) => done },
      async prepare(_: number, tell: (event: TrainEvent) => Promise<void>, clock: Clock) {
        await wait(30);
        await clock.during("reward", () => wait(40));
        await tell({ type: "note", step: 1, text: "half" });
      },
      async step() {
        await wait(20);
        return { metrics: {}, tokens: 1 };
      },
      evaluate: async () => ({ metrics: { x: 1 } }),
      finished: () => ({}),
      close() {},
    };
    const settings = { seed: 1, saveSteps: 0, saveStrategy: "steps" as const, saveMinutes: 0 };
    const events: TrainEvent[] = [];
    const begun = performance.now();
    let held = 0;
    for await (const event of loop(steps, settings)) {
      events.push(event);
      const heard = performance.now();
      if (event.type === "note") await wait(80);
      held += performance.now() - heard;
    }
    const whole = (performance.now() - begun - held) / 1000;
    for (const { usage, seconds } of stepsOf(events)) {
      expect(timesIn(usage).map(([name]) => name)).toEqual(["time/rollout", "time/reward", "time/learn"]);
      expect(sum(timesIn(usage))).toBeCloseTo(seconds, 6);
      expect(usage?.["time/reward"]).toBeGreaterThan(0.03);
    }
    // What somebody thought over is in none of them, however slow the machine is.
    expect(stepsOf(events).reduce((all, { seconds }) => all + seconds, 0)).toBeLessThanOrEqual(whole + 0.001);
    expect(events.find((event) => event.type === "eval")?.seconds).toBeGreaterThanOrEqual(0);
  });

  it("is told of trainers, with the GPU's memory, and costs no read", async () => {
    const reward = async (all: readonly { text: string }[]) => all.map(({ text }) => text.length);
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const own = { maxSteps: 2, rolloutBatchSize: 4, responseLength: 6, perDeviceTrainBatchSize: 4 };
    const [first, second] = stepsOf(await collect(trainPpo({ policy, tokenizer, rewards: [reward] }, prompts(8), own)));
    expect(Object.keys(second.usage ?? {}).sort()).toEqual([
      ...["memory/allocated", "memory/peak", "memory/reserved", "memory/stores"],
      ...["time/learn", "time/reward", "time/rollout", "time/values"],
    ]);
    const { "memory/allocated": allocated, "memory/peak": peak, "memory/reserved": reserved } = first.usage ?? {};
    expect(peak).toBeGreaterThanOrEqual(allocated);
    expect(reserved).toBeGreaterThanOrEqual(allocated);
    expect(first.usage?.["memory/stores"]).toBeGreaterThan(4 * policy.store.count);
    const before = stats().reads;
    const [event] = stepsOf(
      await collect(trainSft({ policy }, sequences(4), { maxSteps: 1, perDeviceTrainBatchSize: 4 })),
    );
    expect(Object.keys(event.usage ?? {})[0]).toBe("time/learn");
    expect(stats().reads - before).toBeLessThanOrEqual(2); // the step's metrics, and the account at the end
    policy.destroy();
  });

  it("counts what tensors and stores take and give back", async () => {
    const clock = async () =>
      stepsOf(await collect(trainSft({ policy }, sequences(4), { maxSteps: 1 })))[0].usage ?? {};
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const before = (await clock())["memory/allocated"];
    const held = tensor(new Float32Array(1 << 18));
    await held.read();
    expect((await clock())["memory/allocated"] - before).toBeGreaterThanOrEqual(4 << 18);
    held.free();
    expect((await clock())["memory/allocated"]).toBe(before);
    policy.destroy();
  });

  it("goes to timing.jsonl and to trackers, and never to metrics.jsonl", async () => {
    const files = memoryFiles();
    const heard: object[] = [];
    const log = new RunLog(files, "out", {}, new Loggers([(_, metrics) => void heard.push(metrics)], () => {}));
    const usage = { "time/learn": 2, "memory/peak": 7 };
    await log.add({ type: "start", stage: "sft", step: 0, maxSteps: 2, parameters: 1 });
    await log.add({
      ...{ type: "step", step: 1, maxSteps: 2, epoch: 1, metrics: { loss: 3 }, tokens: 8, seconds: 2 },
      usage,
    } as TrainEvent);
    await log.add({ type: "eval", step: 1, metrics: { loss: 4 }, seconds: 0.5 });
    await log.add({ type: "checkpoint", step: 1, name: "checkpoint-1", seconds: 0.25 });
    const text = async (name: string) => new TextDecoder().decode((await files.read(`out/${name}`)) as Uint8Array);
    const rows = async (name: string) =>
      (await text(name))
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
    expect(await rows("timing.jsonl")).toEqual([
      { step: 1, seconds: 2, tokens: 8, ...usage },
      { step: 1, "time/eval": 0.5 },
      { step: 1, "time/save": 0.25 },
    ]);
    expect(await text("metrics.jsonl")).not.toMatch(/time|memory|seconds/);
    expect(heard).toEqual([
      { epoch: 1, loss: 3, tokens: 8, ...usage, tokens_per_second: 4 },
      { eval_loss: 4, "time/eval": 0.5 },
    ]);
  });
});
