import { trainPpo } from "../../src/rlhf/ppo.ts";
import { trainRaft } from "../../src/rlhf/raft.ts";
import { trainReward } from "../../src/rlhf/reward.ts";
import { type Response } from "../../src/rlhf/sampler.ts";
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/gpu/device.ts";
import { CausalLM, type Model, ScoreModel } from "../../src/nn/models.ts";
import { AdamW } from "../../src/nn/optimizer.ts";
import { type TrainEvent } from "../../src/rlhf/events.ts";
import { type PpoOptions, ppoDefaults } from "../../src/rlhf/ppo/options.ts";
import { raftDefaults } from "../../src/rlhf/raft/options.ts";
import { bestOfAll, bestOfEach } from "../../src/rlhf/raft/rank.ts";
import { evaluateSft, sftStep, trainSft } from "../../src/rlhf/sft.ts";
import { trainingDefaults } from "../../src/rlhf/training.ts";
import { memoryFiles } from "../../src/runtime/files.ts";
import { scope } from "../../src/tensor/core.ts";
import { collect, metricsOf, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const values = async (model: Model): Promise<number[]> =>
  [...(await model.store.read()).values()].flatMap((v) => [...v]);

describe("sft", () => {
  it("learns, and reports what it evaluates", async () => {
    const model = new CausalLM(tinyConfig()).initialize(1);
    const train = sequences(32);
    const before = await evaluateSft(model, train);
    expect(before.eval_loss).toBeCloseTo(Math.log(tokenizer.vocabSize), 1);
    const options = { ...trainingDefaults, train, eval: train, maxSteps: 12, batchSize: 16, learningRate: 1e-2 };
    const events = await collect(trainSft(model, options));
    const losses = metricsOf(events).map((m) => m.loss);
    expect(losses).toHaveLength(12);
    expect(losses[0]).toBeCloseTo(Math.log(tokenizer.vocabSize), 1);
    const end = events.at(-1) as TrainEvent & { type: "end" };
    expect(end.metrics.eval_loss).toBeLessThan(before.eval_loss - 0.5);
  });

  it("gives the same update for accumulated micro-batches as for one big batch", async () => {
    const data = sequences(6);
    const updated = async (batches: (typeof data)[]) => {
      const model = new CausalLM(tinyConfig("gpt2")).initialize(3);
      const optimizer = new AdamW(model.store);
      for (let i = 0; i < 3; i++) scope(() => sftStep(model, optimizer, batches, 1e-2)).watch.free("test");
      return values(model);
    };
    const whole = await updated([data]);
    const parts = await updated([data.slice(0, 1), data.slice(1, 4), data.slice(4)]);
    const worst = whole.reduce((most, v, i) => Math.max(most, Math.abs(v - parts[i])), 0);
    expect(worst).toBeLessThan(1e-4);
  });

  it("names the step of a loss that is not finite", async () => {
    const model = new CausalLM(tinyConfig()).initialize(1);
    const weight = model.store.parameters[0].value;
    weight.write(new Float32Array(weight.size).fill(Number.NaN));
    const run = collect(trainSft(model, { ...trainingDefaults, train: sequences(4), maxSteps: 3 }));
    await expect(run).rejects.toThrow(/loss became NaN at step 1/);
  });

  it("refuses an empty dataset", async () => {
    const model = new CausalLM(tinyConfig()).initialize(1);
    await expect(collect(trainSft(model, { ...trainingDefaults, train: [] }))).rejects.toThrow(/nothing to train on/);
  });
});

describe("reward", () => {
  it("starts at ln 2 with a zero head and learns to prefer the chosen answers", async () => {
    const model = new ScoreModel(tinyConfig()).initialize(1);
    model.score.value.write(new Float32Array(model.score.size));
    const train = pairs(48);
    const options = { ...trainingDefaults, train, eval: train, maxSteps: 12, batchSize: 24, learningRate: 1e-2 };
    const events = await collect(trainReward(model, options));
    expect(metricsOf(events)[0].loss).toBeCloseTo(Math.LN2, 5);
    expect((events.at(-1) as TrainEvent & { type: "end" }).metrics.eval_accuracy).toBeGreaterThan(0.6);
  });
});

/** Rewards longer responses; quick to learn and easy to check. */
const lengthReward = async (responses: readonly Response[]) => responses.map((r) => r.ids.length - r.promptLength);

function ppoRun(seed = 1, extra: Partial<PpoOptions> = {}) {
  const actor = new CausalLM(tinyConfig(), "actor").initialize(seed);
  const reference = new CausalLM(tinyConfig(), "reference").initialize(seed);
  const critic = new ScoreModel(tinyConfig(), "critic").initialize(seed + 1);
  const inputs = { actor, reference, critic, reward: lengthReward, tokenizer, prompts: prompts(8) };
  const sizes = { promptsPerRollout: 8, batchSize: 4, responseLength: 6, learningRate: 1e-3, seed: 5 };
  return { inputs, options: { ...ppoDefaults("paddle"), ...sizes, ...extra } };
}

describe("ppo", () => {
  it("starts on policy: ratio 1 and no KL to the reference", async () => {
    const { inputs, options } = ppoRun(1, { maxSteps: 2 });
    const [first, second] = metricsOf(await collect(trainPpo(inputs, options)));
    expect(Math.abs(first.first_ratio - 1)).toBeLessThan(1e-6);
    expect(Math.abs(first.kl)).toBeLessThan(1e-5);
    expect(Math.abs(second.kl)).toBeGreaterThan(1e-6);
  });

  for (const dialect of ["paddle", "safe", "trl"] as const) {
    it(`finds the best arm of a bandit (${dialect})`, async () => {
      const best = 100;
      const reward = async (responses: readonly Response[]) =>
        responses.map((r) => Number(r.ids[r.promptLength] >= best));
      const { inputs } = ppoRun(2);
      const options = {
        ...ppoDefaults(dialect),
        maxSteps: 12,
        promptsPerRollout: 8,
        samplesPerPrompt: 8,
        batchSize: 64,
        responseLength: 1,
        temperature: 1,
        learningRate: 2e-2,
        criticLearningRate: 2e-2,
        klCoef: 0,
        epochs: 2,
      };
      const metrics = metricsOf(await collect(trainPpo({ ...inputs, reward }, options)));
      // 227 of 327 arms pay: chance is 0.69.
      expect(metrics[0].reward).toBeLessThan(0.85);
      expect(metrics.at(-1)?.reward).toBeGreaterThan(0.95);
    });
  }

  it("adapts the KL coefficient towards its target", async () => {
    const { inputs, options } = ppoRun(1, { maxSteps: 3, targetKl: 1e-6, klHorizon: 100 });
    const coefs = metricsOf(await collect(trainPpo(inputs, options))).map((m) => m.kl_coef);
    expect(coefs[2]).not.toBe(coefs[0]);
  });
});

describe("raft", () => {
  it("keeps the best of each prompt, the first on ties, and nothing that is discarded", () => {
    expect(bestOfEach([1, 3, 3, 2, 0, 1], Array(6).fill(true), 3)).toEqual([1, 3]);
    expect(bestOfEach([1, 3, 3, 2, 0, 1], [true, false, true, false, false, false], 3)).toEqual([2]);
    expect(bestOfAll([1, 5, 5, 2], [true, true, true, true], 2)).toEqual([1, 2]);
    expect(bestOfAll([1, 5, 5, 2], [true, false, true, true], 2)).toEqual([2, 3]);
  });

  for (const collectionStrategy of ["local", "top"] as const) {
    it(`raises the reward of what is kept above the policy's (${collectionStrategy})`, async () => {
      const model = new CausalLM(tinyConfig()).initialize(2);
      const reward = async (r: readonly Response[]) => r.map((x) => Number(x.ids[x.promptLength] >= 200));
      const inputs = { model, reward, tokenizer, prompts: prompts(8) };
      const options = {
        ...raftDefaults,
        collectionStrategy,
        maxSteps: 8,
        raftBatchSize: 16,
        topRewardPercentage: 0.25,
        responseLength: 1,
        temperature: 1,
        batchSize: 16,
        learningRate: 2e-2,
        maskPrompt: true,
      };
      const metrics = metricsOf(await collect(trainRaft(inputs, options)));
      expect(metrics[0].train_reward).toBeGreaterThan(metrics[0].reward);
      expect(metrics.at(-1)?.reward).toBeGreaterThan(0.8); // chance is 0.39
      expect(metrics[0].n_kept).toBe(16);
    });
  }

  it("applies clean and discard hooks", async () => {
    const model = new CausalLM(tinyConfig()).initialize(2);
    const seen: string[] = [];
    const inputs = {
      model,
      tokenizer,
      prompts: prompts(4),
      reward: async (r: readonly Response[]) => r.map((x) => seen.push(x.text)),
      clean: () => "clean",
      discard: (r: Response) => r.prompt === 0,
    };
    const options = { ...raftDefaults, maxSteps: 1, raftBatchSize: 4, topRewardPercentage: 0.5, responseLength: 4 };
    const [metrics] = metricsOf(await collect(trainRaft(inputs, options)));
    expect(new Set(seen)).toEqual(new Set(["clean"]));
    expect(metrics.n_kept).toBe(3);
    expect(metrics.n_discarded).toBe(2);
  });
});

describe("resume", () => {
  const stopAfter = async (trainer: (signal: AbortSignal) => AsyncGenerator<TrainEvent>, steps: number) => {
    const controller = new AbortController();
    const events: TrainEvent[] = [];
    for await (const event of trainer(controller.signal)) {
      events.push(event);
      if (event.type === "step" && event.step === steps) controller.abort();
    }
    expect(events.at(-1)?.type).toBe("checkpoint");
  };

  /** Runs to the end once, and once with a stop; both must end with the same files, bit for bit. */
  const compare = async (
    start: (
      run: { files: ReturnType<typeof memoryFiles>; path: string },
      signal?: AbortSignal,
      resume?: boolean,
    ) => {
      events: AsyncGenerator<TrainEvent>;
    },
    model: string,
  ) => {
    const whole = { files: memoryFiles(), path: "run" };
    const straight = metricsOf(await collect(start(whole).events));
    const broken = { files: memoryFiles(), path: "run" };
    await stopAfter((signal) => start(broken, signal).events, 2);
    const rest = metricsOf(await collect(start(broken, undefined, true).events));
    expect(rest).toEqual(straight.slice(-rest.length));
    expect(rest.length).toBeGreaterThan(0);
    expect(rest.length).toBeLessThan(straight.length);
    expect(await broken.files.read(`run/${model}`)).toEqual(await whole.files.read(`run/${model}`));
  };

  it("sft", () =>
    compare((run, signal, resume) => {
      const model = new CausalLM(tinyConfig()).initialize(1);
      const options = { ...trainingDefaults, train: sequences(12), maxSteps: 5, batchSize: 4, learningRate: 1e-2 };
      return { events: trainSft(model, { ...options, run, signal, resume }) };
    }, "model.safetensors"));

  it("reward", () =>
    compare((run, signal, resume) => {
      const model = new ScoreModel(tinyConfig()).initialize(1);
      const options = { ...trainingDefaults, train: pairs(12), maxSteps: 5, batchSize: 4, learningRate: 1e-2 };
      return { events: trainReward(model, { ...options, run, signal, resume }) };
    }, "model.safetensors"));

  it("ppo", () =>
    compare((run, signal, resume) => {
      const { inputs, options } = ppoRun(1, { maxSteps: 4, targetKl: 1, normalizeReward: true });
      return { events: trainPpo({ ...inputs, run, resume }, { ...options, signal }) };
    }, "value/model.safetensors"));

  it("raft", () =>
    compare((run, signal, resume) => {
      const model = new CausalLM(tinyConfig()).initialize(1);
      const inputs = { model, reward: lengthReward, tokenizer, prompts: prompts(8), run, resume };
      const sizes = { maxSteps: 4, raftBatchSize: 8, topRewardPercentage: 0.5, responseLength: 5, batchSize: 4 };
      return { events: trainRaft(inputs, { ...raftDefaults, ...sizes, learningRate: 1e-3, signal }) };
    }, "model.safetensors"));

  it("refuses a checkpoint with a damaged state", async () => {
    const run = { files: memoryFiles(), path: "run" };
    const start = (resume: boolean) => {
      const model = new CausalLM(tinyConfig()).initialize(1);
      return trainSft(model, { ...trainingDefaults, train: sequences(4), maxSteps: 2, saveSteps: 1, run, resume });
    };
    await collect(start(false));
    await run.files.writeFile("run/checkpoint-2/trainer_state.json", "{}");
    await expect(collect(start(true))).rejects.toThrow(/does not describe step 2/);
  });
});
