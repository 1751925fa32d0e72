/** Runs of trainers in a worker: they end as undisturbed ones, and give their memory back. */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Files, finish, memoryFiles, overlayFiles, stats } from "webrlhf";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { type RunEstimate, tokenizerFiles } from "webrlhf/open";
import type { TrainEvent } from "webrlhf/rlhf";
import { type Run, type RunState, type TrainInput, trainEstimate, trainProgram } from "webrlhf/worker";
import { gpuReady } from "../helpers.ts";
import { losingAt } from "../losing.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { withoutClock } from "../without-clock.ts";
import { desk, Vault } from "./desk.ts";

let files: Files;
beforeAll(async () => {
  await gpuReady();
  files = memoryFiles();
  const model = new CausalLM(tinyConfig()).initialize(1);
  await files.writeFolder("base", { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
});
beforeEach(() => gpuReady());

const sft: TrainInput = {
  method: "sft",
  settings: {
    modelNameOrPath: "base",
    maxSteps: 6,
    saveSteps: 2,
    maxTrainSamples: 24,
    maxEvalSamples: 4,
    evalSteps: 3,
  },
};
const ppo: TrainInput = {
  method: "ppo",
  settings: {
    ...{ modelNameOrPath: "base", rewardModelPath: "builtin:world", maxTrainSamples: 12, responseLength: 6 },
    ...{ maxSteps: 3, saveSteps: 1, rolloutBatchSize: 4, perDeviceTrainBatchSize: 2, showRollouts: 2 },
  },
};

const sit = (vault?: Vault | null) =>
  desk({ programs: { train: trainProgram }, estimates: { train: trainEstimate }, files }, vault);
type TrainRun = Run<TrainEvent>;

/** What a run told, without the clock and what was said of how it went on. */
const told = (run: TrainRun) =>
  run.events.flatMap(({ event }): TrainEvent[] => {
    if (event.type === "note" || event.type === "warning") return [];
    return [withoutClock(event)];
  });

async function over(run: TrainRun, state: RunState = "done"): Promise<TrainRun> {
  for await (const _ of run);
  expect(run.state).toBe(state);
  return run;
}

const until = (run: TrainRun, what: (run: TrainRun) => boolean) =>
  new Promise<void>((resolve) => {
    const end = run.subscribe((now) => {
      if (!what(now)) return;
      setTimeout(() => end());
      resolve();
    });
  });

const stepsOf = ({ events }: TrainRun) => events.filter(({ event }) => event.type === "step").length;

describe("an estimate", () => {
  it("says what a run takes, also while one is at work, which ends as without", { timeout: 120_000 }, async () => {
    const { session } = sit();
    const spec = { program: "train", input: sft };
    const expected = told(await over(session.run<TrainInput, TrainEvent>(spec)));
    const alone = (await session.estimate(spec)) as RunEstimate;
    expect(alone).toMatchObject({ fits: true, download: 0, trained: alone.parameters });
    expect(alone.memory.byKind.weights).toBeGreaterThanOrEqual(4 * (alone.parameters as number));
    expect(alone.memory.total).toBeGreaterThan(4 * alone.memory.byKind.weights - 1); // gradients and both moments
    const run = session.run<TrainInput, TrainEvent>(spec);
    await until(run, (now) => stepsOf(now) >= 1);
    expect(await session.estimate(spec)).toEqual(alone);
    expect(told(await over(run))).toEqual(expected);
    await expect(session.estimate({ program: "train", input: { method: "sft" } })).rejects.toThrow(
      "model_name_or_path",
    );
    await expect(session.estimate({ program: "other", input: null })).rejects.toThrow('a run of "other"');
    await session.close();
  });
});

describe.each([
  ["sft", sft],
  ["ppo", ppo],
])("a run of %s in a worker", { timeout: 180_000 }, (_, input) => {
  const spec = { program: "train", input };
  const undisturbed = async () => {
    const { session } = sit();
    const events = told(await over(session.run<TrainInput, TrainEvent>(spec)));
    await session.close();
    return events;
  };

  it("ends as an undisturbed one after its worker was ended, and after a reload", async () => {
    const expected = await undisturbed();
    const vault = new Vault();
    const first = sit(vault);
    const run = first.session.run<TrainInput, TrainEvent>(spec);
    await until(run, (now) => stepsOf(now) >= 1);
    first.workers[0].end();
    await until(run, (now) => now.state === "running" && stepsOf(now) >= 2);
    run.pause();
    await until(run, ({ state }) => state === "paused");
    await first.session.close();

    const { session } = sit(vault);
    const [saved] = await session.unfinished();
    expect(saved.id).toBe(run.id);
    const again = session.goOn<TrainEvent>(saved.id);
    await over(again);
    expect(told(again)).toEqual(expected);
    expect(again.events.slice(0, run.events.length)).toEqual(run.events);
    await session.close();
  });

  it("goes on when the device is lost, and says so", async () => {
    const { session } = sit();
    let expected: TrainEvent[] = [];
    const submits = await losingAt(
      () => false,
      async () => {
        expected = told(await over(session.run<TrainInput, TrainEvent>(spec)));
      },
    );
    const run = session.run<TrainInput, TrainEvent>(spec);
    await losingAt(
      (submit) => [6, submits >> 1].includes(submit),
      async () => void (await over(run)),
    );
    expect(told(run)).toEqual(expected);
    expect(run.notices.map(({ type }) => type)).toEqual(["renewed", "renewed"]);
    await session.close();
  });

  it("gives its memory back when it is cancelled, wherever it stands", async () => {
    const { session } = sit();
    const whole = session.run<TrainInput, TrainEvent>(spec);
    await over(whole);
    await finish();
    const before = stats().poolBytes;
    const moments = new Set([0, 1, 2, 3, Math.floor(whole.events.length / 2), whole.events.length - 2]);
    for (const moment of moments) {
      for (const paused of [false, true]) {
        const run = session.run<TrainInput, TrainEvent>(spec, paused ? { mode: "step", granularity: "phase" } : {});
        while (run.events.length < moment && run.state !== "done") {
          await until(run, (now) => now.events.length >= moment || ["paused", "done"].includes(now.state));
          if (run.state === "paused" && run.events.length < moment) run.step("phase");
        }
        await run.cancel();
        await finish();
        expect([moment, stats().poolBytes]).toEqual([moment, before]);
      }
    }
    await session.close();
  });

  it("goes on from a snapshot", async () => {
    const expected = await undisturbed();
    const { session } = sit();
    const run = session.run<TrainInput, TrainEvent>(spec, { mode: "step" });
    await until(run, ({ state }) => state === "paused");
    run.step();
    await until(run, (now) => stepsOf(now) === 2 && now.state === "paused");
    const blob = await run.snapshot();
    await run.cancel();
    const again = await session.restore<TrainEvent>(blob);
    await over(again);
    expect(again.id).not.toBe(run.id);
    expect(told(again)).toEqual(expected);
    const finished = await session.restore<TrainEvent>(await again.snapshot());
    await over(finished);
    expect(finished.events.map(({ event }) => event)).toEqual(again.events.map(({ event }) => event));
    await session.close();
  });
});

it("says how far its model is on its way to the GPU", async () => {
  const heard: [string, number, number][] = [];
  const context = {
    ...{ runId: "run-1", files: overlayFiles(files), folder: "run", resumed: false, told: [] },
    ...{ signal: new AbortController().signal, rest: async () => {} },
    progress: (what: string, done: number, total: number) => void heard.push([what, done, total]),
  };
  for await (const event of trainProgram.run(sft, context)) if (event.type === "start") break;
  const loading = heard.filter(([what]) => what === "loading base");
  const [, done, total] = loading.at(-1) as [string, number, number];
  expect(total).toBeGreaterThan(0);
  expect(done).toBe(total);
});
