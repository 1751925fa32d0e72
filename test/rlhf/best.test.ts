/** The best evaluation of a run: its weights in the end, its checkpoint, and stopping where nothing gets better. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import { AdamW, CausalLM, ScoreModel } from "webrlhf/nn";
import {
  type BestChoice,
  checkpointSteps,
  type LoopSettings,
  loop,
  type Response,
  type RunFolder,
  type RunOptions,
  type TrainEvent,
  trainDpo,
  trainGrpo,
  trainPpo,
  trainRaft,
  trainReward,
  trainSft,
} from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { collect, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => gpuReady());

const path = "run";
type Started = (settings: object, options: RunOptions) => { events: AsyncGenerator<TrainEvent>; close(): void };

const examples = { maxSteps: 6, evalSteps: 2, learningRate: 1e-2, perDeviceTrainBatchSize: 4 };
const reward = async (responses: readonly Response[]) =>
  responses.map((r) => r.ids.subarray(r.promptLength).reduce((sum, id) => sum + id / 100, 0));

/** Trainers by name, the places of their models in a checkpoint and in a finished run's folder, and how they start. */
const trainers: Record<string, { models: [checkpoint: string, finished: string][]; start: Started }> = {
  sft: {
    models: [["", ""]],
    start(settings, options) {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const data = { train: sequences(8), eval: sequences(12).slice(8) };
      const events = trainSft({ policy }, data, { ...examples, ...settings }, options);
      return { events, close: () => policy.destroy() };
    },
  },
  reward: {
    models: [["", ""]],
    start(settings, options) {
      const model = new ScoreModel(tinyConfig()).initialize(1);
      const data = { train: pairs(8), eval: pairs(16).slice(8) };
      const own = { ...examples, normalizerType: "RunningMeanStd" as const, ...settings };
      return { events: trainReward({ model }, data, own, options), close: () => model.destroy() };
    },
  },
  dpo: {
    models: [["", ""]],
    start(settings, options) {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const reference = new CausalLM(tinyConfig()).initialize(1);
      const data = { train: pairs(8), eval: pairs(16).slice(8) };
      const events = trainDpo({ policy, reference }, data, { ...examples, ...settings }, options);
      const close = () => {
        policy.destroy();
        reference.destroy();
      };
      return { events, close };
    },
  },
  ppo: {
    models: [
      ["policy", ""],
      ["policy", "policy"],
      ["value", "value"],
      ["ema", "ema"],
    ],
    start(settings, options) {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const own = { maxSteps: 6, evalSteps: 2, rolloutBatchSize: 4, perDeviceTrainBatchSize: 4, responseLength: 6 };
      const more = { ...own, learningRate: 0.1, emaBeta: 0.5, seed: 5, ...settings };
      const data = { train: prompts(8), eval: prompts(12).slice(8) };
      const events = trainPpo({ policy, rewards: reward, tokenizer }, data, more, options);
      return { events, close: () => policy.destroy() };
    },
  },
  grpo: {
    models: [["", ""]],
    start(settings, options) {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const own = { maxSteps: 6, evalSteps: 2, numGenerations: 4, perDeviceTrainBatchSize: 8, responseLength: 6 };
      const data = { train: prompts(8), eval: prompts(12).slice(8) };
      const more = { ...own, learningRate: 0.05, beta: 0.1, ...settings };
      const events = trainGrpo({ policy, rewards: reward, tokenizer }, data, more, options);
      return { events, close: () => policy.destroy() };
    },
  },
  raft: {
    models: [["", ""]],
    start(settings, options) {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const own = { maxSteps: 6, evalSteps: 2, raftBatchSize: 8, responseLength: 6, learningRate: 0.05 };
      const data = { train: prompts(24), eval: prompts(28).slice(24) };
      const events = trainRaft({ policy, rewards: reward, tokenizer }, data, { ...own, ...settings }, options);
      return { events, close: () => policy.destroy() };
    },
  },
};

/** Runs a trainer to its end, or to a stop asked for at a step. */
async function train(
  start: Started,
  settings: object,
  folder?: Partial<RunFolder>,
  options: RunOptions = {},
  stopAt = 0,
) {
  const stop = new AbortController();
  const own = folder?.files && { folder: { files: folder.files, path, ...folder } };
  const run = start(settings, { ...own, signal: stop.signal, ...options });
  const events: TrainEvent[] = [];
  try {
    for await (const event of run.events) {
      events.push(event);
      if (event.type === "step" && event.step === stopAt) stop.abort();
    }
  } finally {
    run.close();
  }
  return events;
}

type Event<K extends TrainEvent["type"]> = TrainEvent & { type: K };
const only = <K extends TrainEvent["type"]>(events: readonly TrainEvent[], type: K) =>
  events.filter((event) => event.type === type) as Event<K>[];
const endOf = (events: readonly TrainEvent[]) => events.at(-1) as Event<"end">;
const textOf = async (files: Files, file: string) => new TextDecoder("latin1").decode((await files.read(file))!);

/** Every file under a folder, as text. */
async function everything(files: Files, folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await files.list(folder)) {
    if ((await files.read(`${folder}/${name}`)) !== null) found[name] = await textOf(files, `${folder}/${name}`);
    else
      for (const [inner, text] of Object.entries(await everything(files, `${folder}/${name}`)))
        found[`${name}/${inner}`] = text;
  }
  return found;
}

describe.each(Object.entries(trainers))("the best evaluation of %s", (_, { models, start }) => {
  /** A metric and a direction by which the last of a run's evaluations is not the best, and which one is. */
  async function chosen() {
    const all = only(await train(start, {}), "eval").filter(({ step }) => step > 0);
    const metric = Object.keys(all[0].metrics).find((name) => new Set(all.map((e) => e.metrics[name])).size > 1)!;
    for (const greaterIsBetter of [true, false]) {
      const sign = greaterIsBetter ? 1 : -1;
      const best = all.reduce((a, b) => (sign * b.metrics[metric] > sign * a.metrics[metric] ? b : a));
      if (best.step < 6) {
        const found = { metric, value: best.metrics[metric], step: best.step };
        return { settings: { loadBestModelAtEnd: true, metricForBestModel: metric, greaterIsBetter }, found };
      }
    }
    throw new Error("its numbers do not move");
  }

  it("gives a finished run its weights, to the bit those of a run that stopped there", async () => {
    const { settings, found } = await chosen();
    const [files, stopped] = [memoryFiles(), memoryFiles()];
    const events = await train(start, settings, { files });
    const checkpoint = `checkpoint-${found.step}`;
    expect(endOf(events)).toMatchObject({ type: "end", step: 6, best: { ...found, checkpoint } });
    expect(only(events, "note").at(-1)?.text).toMatch(`those of step ${found.step}, which evaluated best`);
    await train(start, {}, { files: stopped }, {}, found.step);
    for (const [from, to] of models) {
      for (const name of ["config.json", "model.safetensors"]) {
        const wanted = await textOf(stopped, `${path}/${checkpoint}/${from && `${from}/`}${name}`);
        expect(await textOf(files, `${path}/${to && `${to}/`}${name}`), `${to}/${name}`).toBe(wanted);
      }
    }
    expect(await checkpointSteps(files, path)).toEqual([found.step]);
    expect(JSON.parse(await textOf(files, `${path}/run.json`))).toMatchObject({ state: "finished", best: found });
  });

  it("is the same after a kill and a resume", async () => {
    const { settings } = await chosen();
    const whole = memoryFiles();
    await train(start, { ...settings, saveSteps: 1 }, { files: whole });
    const expected = await everything(whole, path);
    for (const stopAt of [3, 5]) {
      const files = memoryFiles();
      await train(start, { ...settings, saveSteps: 1 }, { files }, {}, stopAt);
      await train(start, { ...settings, saveSteps: 1 }, { files }, { resume: true });
      expect(await everything(files, path), `stopped at ${stopAt}`).toEqual(expected);
    }
  });
});

it("brings the best weights back where nothing is saved", async () => {
  const [policy, other] = [1, 1].map((seed) => new CausalLM(tinyConfig()).initialize(seed));
  const data = { train: sequences(8), eval: sequences(12).slice(8) };
  // Of a falling loss the highest is the first one.
  const settings = { ...examples, loadBestModelAtEnd: true, greaterIsBetter: true };
  const end = endOf(await collect(trainSft({ policy }, data, settings)));
  expect(end.best).toMatchObject({ metric: "eval_loss", step: 2 });
  expect(end.best).not.toHaveProperty("checkpoint");
  const stop = new AbortController();
  for await (const event of trainSft({ policy: other }, data, examples, { signal: stop.signal })) {
    if (event.type === "step" && event.step === 2) stop.abort();
  }
  const values = async (model: CausalLM) => [...(await model.store.read()).values()].flatMap((v) => [...v]);
  expect(await values(policy)).toEqual(await values(other));
  policy.destroy();
  other.destroy();
});

/** A trainer of ten steps whose evaluations give these numbers, one after each step. */
function scripted(
  numbers: readonly number[],
  settings: BestChoice & Partial<LoopSettings>,
  options: RunOptions = {},
  metric = "eval_loss",
) {
  const model = new CausalLM(tinyConfig()).initialize(1);
  const optimizer = new AdamW(model.store);
  const all = { seed: 1, saveSteps: 0, saveStrategy: "steps" as const, saveMinutes: 0, evalSteps: 1, ...settings };
  return loop(
    {
      stage: "test",
      maxSteps: numbers.length,
      parameters: 1,
      kept: { "": { model, optimizer } },
      epoch: (done) => done,
      step: async () => ({ metrics: { loss: 1 }, tokens: 1 }),
      finite: [],
      evaluate: async (done) => ({ metrics: { [metric]: numbers[done - 1], eval_other: 1 } }),
      finished: () => ({ "": model }),
      close() {
        optimizer.destroy();
        model.destroy();
      },
    },
    all,
    options,
  );
}

describe("stopping early", () => {
  it.each([
    // As transformers' EarlyStoppingCallback: [numbers, settings, the last step, the best one].
    [[5, 4, 4, 4, 3, 2], { earlyStoppingPatience: 2 }, 4, 2],
    [[5, 4, 4, 3, 3, 3, 1], { earlyStoppingPatience: 2 }, 6, 4],
    [[5, 4.9, 4.8, 4.7, 3], { earlyStoppingPatience: 2, earlyStoppingThreshold: 0.5 }, 3, 3],
    [[5, 4, 3, 2, 1], { earlyStoppingPatience: 1 }, 5, 5],
    [[5, 4, 3, 2, 1], { earlyStoppingPatience: 2, greaterIsBetter: true }, 3, 1],
    [[Number.NaN, 4, Number.NaN, Number.NEGATIVE_INFINITY, 5], { earlyStoppingPatience: 2 }, 4, 2],
    [[5, 6, 7, 4], {}, 4, 4],
  ])("%j with %j ends at step %i", async (numbers, settings, last, best) => {
    const events = await collect(scripted(numbers, { loadBestModelAtEnd: true, ...settings }));
    const end = endOf(events);
    expect(end.step).toBe(last);
    expect(end.best).toEqual({ metric: "eval_loss", value: numbers[best - 1], step: best });
    expect(end.stoppedEarly ?? false).toBe(last < numbers.length);
    const notes = only(events, "note").map(({ text }) => text);
    expect(notes.some((text) => text.startsWith("stopped early"))).toBe(last < numbers.length);
  });

  it.each([
    ["eval_loss", null, 2],
    ["eval_accuracy", null, 1],
    ["eval_reward", "reward", 1],
    ["eval_rewards/margins", "eval_rewards/margins", 1],
    ["eval/reward", "reward", 1],
    ["eval_mean_token_accuracy", "accuracy", 1],
    ["eval_ptx_loss", "ptx_loss", 2],
    ["eval_kl", "kl", 2],
  ])("takes the highest of %s unless it is a loss or a divergence", async (metric, metricForBestModel, best) => {
    const events = await collect(scripted([3, 2], { earlyStoppingPatience: 5, metricForBestModel }, {}, metric));
    expect(endOf(events).best).toMatchObject({ metric, step: best });
  });

  it("leaves the last weights where no evaluation is finite, and says so", async () => {
    const events = await collect(scripted([Number.NaN, Number.NaN], { loadBestModelAtEnd: true }));
    expect(only(events, "warning").map(({ text }) => text)).toEqual([expect.stringMatching(/no evaluation gave/)]);
    expect(endOf(events)).not.toHaveProperty("best");
  });

  it("is finished, also for a resume, unless a setting of it changes", async () => {
    const files = memoryFiles();
    const folder = { files, path };
    const settings = { loadBestModelAtEnd: true, earlyStoppingPatience: 2 };
    const numbers = [5, 4, 6, 6, 3, 7];
    const again = (own: BestChoice) => collect(scripted(numbers, own, { folder, resume: true }));
    await collect(scripted(numbers, settings, { folder }));
    const record = JSON.parse(await textOf(files, `${path}/run.json`));
    expect(record).toMatchObject({ state: "finished", steps: 4, stoppedEarly: true, best: { value: 4, step: 2 } });
    const [note, end] = await again(settings);
    expect(note).toMatchObject({
      type: "note",
      text: expect.stringMatching(/finished, nothing to do \(it stopped early/),
    });
    expect(end).toMatchObject({ type: "end", step: 4, stoppedEarly: true });
    expect(await checkpointSteps(files, path)).toEqual([2]);
    expect(endOf(await again({ ...settings, earlyStoppingPatience: 4 }))).toMatchObject({ step: 6, best: { step: 5 } });
    expect(await checkpointSteps(files, path)).toEqual([5]);
  });

  it("counts on where a run was stopped", async () => {
    const settings = { earlyStoppingPatience: 3, saveSteps: 1 };
    const numbers = [5, 4, 6, 6, 6, 6, 6];
    for (const stopAt of [1, 3, 4, 5]) {
      const folder = { files: memoryFiles(), path };
      const stop = new AbortController();
      for await (const event of scripted(numbers, settings, { folder, signal: stop.signal }))
        if (event.type === "eval" && event.step === stopAt) stop.abort();
      const events = await collect(scripted(numbers, settings, { folder, resume: true }));
      expect(only(events, "start")[0].best).toMatchObject({ step: Math.min(stopAt, 2) });
      expect(endOf(events)).toMatchObject({ step: 5, best: { step: 2 }, stoppedEarly: true });
    }
  });
});

describe("checkpoints of the best", () => {
  /** What is there after each checkpoint. */
  async function keptOf(settings: BestChoice & Partial<LoopSettings>, keep: number) {
    const files = memoryFiles();
    const numbers = [5, 4, 6, 6, 6, 3, 7, 7];
    const kept: number[][] = [];
    for await (const event of scripted(numbers, settings, { folder: { files, path, keep } })) {
      if (event.type === "checkpoint") kept.push(await checkpointSteps(files, path));
    }
    return { kept, last: await checkpointSteps(files, path) };
  }

  it("are written whatever is due, and spared", async () => {
    const rare = await keptOf({ loadBestModelAtEnd: true }, 1);
    expect(rare).toEqual({ kept: [[1], [2], [6]], last: [6] });
    const often = await keptOf({ loadBestModelAtEnd: true, saveSteps: 1 }, 1);
    expect(often.kept).toEqual([[1], [2], [2, 3], [2, 4], [2, 5], [6], [6, 7], [6, 8]]);
    const several = await keptOf({ loadBestModelAtEnd: true, saveSteps: 1 }, 3);
    expect(several.kept.at(-4)).toEqual([2, 4, 5]);
    expect(several.last).toEqual([6, 7, 8]);
    expect((await keptOf({ earlyStoppingPatience: 9 }, 1)).kept).toEqual([]);
  });

  it("that are missing on a resume are said to be, and looked for anew", async () => {
    const files = memoryFiles();
    const folder = { files, path };
    const settings = { loadBestModelAtEnd: true, saveSteps: 1 };
    const numbers = [5, 2, 6, 6, 4, 6];
    const stop = new AbortController();
    for await (const event of scripted(numbers, settings, { folder, signal: stop.signal }))
      if (event.type === "eval" && event.step === 4) stop.abort();
    await files.remove(`${path}/checkpoint-2`);
    const events = await collect(scripted(numbers, settings, { folder, resume: true }));
    expect(only(events, "warning").map(({ text }) => text)).toEqual([
      "checkpoint-2 is missing, the best until here (eval_loss 2): the best is looked for anew from here",
    ]);
    expect(endOf(events).best).toMatchObject({ step: 5 });
  });

  it("of another run's folder are taken from there", async () => {
    const files = memoryFiles();
    const settings = { loadBestModelAtEnd: true, saveSteps: 1 };
    const numbers = [5, 2, 6, 6, 4, 6];
    const stop = new AbortController();
    for await (const event of scripted(numbers, settings, { folder: { files, path: "one" }, signal: stop.signal }))
      if (event.type === "eval" && event.step === 4) stop.abort();
    const resume = "one/checkpoint-4";
    const events = await collect(scripted(numbers, settings, { folder: { files, path: "two" }, resume }));
    expect(only(events, "warning")).toEqual([]);
    expect(endOf(events).best).toEqual({ metric: "eval_loss", value: 2, step: 2, checkpoint: "one/checkpoint-2" });
  });

  it("that are damaged fail the end of a run, by name", async () => {
    const files = memoryFiles();
    const damage = async () => {
      const file = `${path}/checkpoint-1/model.safetensors`;
      const bytes = (await files.read(file))!.slice();
      bytes[bytes.length - 1] ^= 1;
      await files.writeFile(file, bytes);
    };
    const run = async () => {
      for await (const event of scripted([1, 2, 3], { loadBestModelAtEnd: true }, { folder: { files, path } }))
        if (event.type === "eval" && event.step === 2) await damage();
    };
    await expect(run()).rejects.toThrow(/checkpoint-1\/model.safetensors is damaged.*evaluated best/);
  });

  it("are compared anew where another metric is asked for", async () => {
    const folder = { files: memoryFiles(), path };
    const numbers = [1, 2, 3, 2];
    const stop = new AbortController();
    const first = { loadBestModelAtEnd: true };
    for await (const event of scripted(numbers, first, { folder, signal: stop.signal }))
      if (event.type === "eval" && event.step === 2) stop.abort();
    const other = { ...first, greaterIsBetter: true };
    const events = await collect(scripted(numbers, other, { folder, resume: true }));
    expect(only(events, "warning")[0].text).toMatch(/by another metric than before/);
    expect(endOf(events).best).toMatchObject({ value: 3, step: 3 });
  });
});

describe("what cannot be", () => {
  it.each([
    [{ loadBestModelAtEnd: true, evalSteps: 0 }, /loadBestModelAtEnd needs evaluations on the way: set evalSteps, or/],
    [{ earlyStoppingPatience: 2, evalStrategy: "no" as const }, /earlyStoppingPatience 2 needs evaluations on the way/],
    [
      { loadBestModelAtEnd: true, metricForBestModel: "bleu" },
      /metricForBestModel bleu is not among what is evaluated: evaluations of this run report eval_loss, eval_other/,
    ],
  ])("%j is refused", async (settings, message) => {
    await expect(collect(scripted([1, 2], settings))).rejects.toThrow(message);
  });

  it("without held-out data is refused", async () => {
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const settings = { ...examples, loadBestModelAtEnd: true };
    const run = collect(trainSft({ policy }, sequences(8), settings));
    await expect(run).rejects.toThrow(/loadBestModelAtEnd needs held-out data: name some \(evalDatasetName/);
    policy.destroy();
  });

  it("a number that nobody reports by its name must be named", async () => {
    const run = collect(scripted([1, 2], { loadBestModelAtEnd: true }, {}, "eval_fun"));
    await expect(run).rejects.toThrow(/metricForBestModel must be named: .* report eval_fun, eval_other/);
  });
});
