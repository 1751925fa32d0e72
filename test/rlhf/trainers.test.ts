import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice, scope } from "webrlhf";
import { AdamW, CausalLM, type Model, ScoreModel } from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import {
  evaluateSft,
  type ppo,
  type Response,
  type RunOptions,
  type raft,
  type TrainEvent,
  trainPpo,
  trainRaft,
  trainReward,
  trainSft,
} from "webrlhf/rlhf";
import { bestOfAll, bestOfEach } from "../../src/rlhf/raft/rank.ts";
import { sftStep } from "../../src/rlhf/sft.ts";
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
    const settings = { maxSteps: 12, perDeviceTrainBatchSize: 16, learningRate: 1e-2 };
    const events = await collect(trainSft({ policy: model }, { train, eval: train }, settings));
    const losses = metricsOf(events).map((m) => m.loss);
    expect(losses).toHaveLength(12);
    expect(losses[0]).toBeCloseTo(Math.log(tokenizer.vocabSize), 1);
    expect(metricsOf(events)[0].entropy).toBeCloseTo(Math.log(tokenizer.vocabSize), 1);
    const end = events.at(-1) as TrainEvent & { type: "end" };
    expect(end.metrics.eval_loss).toBeLessThan(before.eval_loss - 0.5);
  });

  it("gives the same update for accumulated micro-batches as for one big batch", async () => {
    const data = sequences(6);
    const updated = async (batches: (typeof data)[]) => {
      const model = new CausalLM(tinyConfig("gpt2")).initialize(3);
      const optimizer = new AdamW(model.store);
      for (let i = 0; i < 3; i++) scope(() => sftStep(model, optimizer, batches, 1e-2)).watched.values.free("test");
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
    const run = collect(trainSft({ policy: model }, sequences(4), { maxSteps: 3 }));
    await expect(run).rejects.toThrow(/loss became NaN at step 1/);
  });

  it("refuses an empty dataset", async () => {
    const model = new CausalLM(tinyConfig()).initialize(1);
    await expect(collect(trainSft({ policy: model }, []))).rejects.toThrow(/nothing to train on/);
  });

  it("makes sequences of a dataset, of which it learns what the settings say", async () => {
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const data = openDataset([{ prompt: "Today Tim the cat", completion: " Tim ran." }]);
    const first = async (chosen: object) => {
      const [metrics] = metricsOf(
        await collect(trainSft({ policy, tokenizer }, data, { learningRate: 0, maxSteps: 1, ...chosen })),
      );
      return metrics.loss;
    };
    const loss = async (promptLength: number, ids: number[]) =>
      (await evaluateSft(policy, [{ ids: Uint32Array.from(ids), promptLength }])).eval_loss;
    const [prompt, answer] = [
      tokenizer.encode("Today Tim the cat"),
      tokenizer.encode(" Tim ran.", { continued: true }),
    ];
    const ended = [...prompt, ...answer, tokenizer.eosId as number];
    expect(await first({})).toBeCloseTo(await loss(prompt.length, ended), 5);
    expect(await first({ appendEos: false })).toBeCloseTo(await loss(prompt.length, [...prompt, ...answer]), 5);
    expect(await first({ completionOnlyLoss: false })).toBeCloseTo(await loss(0, ended), 5);
    expect(await first({ maxLength: prompt.length + 1 })).toBeCloseTo(
      await loss(prompt.length, ended.slice(0, prompt.length + 1)),
      5,
    );
    await expect(first({ maxLength: 65 })).rejects.toThrow(
      /maxLength 65 is more than the model's context of 64 tokens/,
    );
  });
});

describe("reward", () => {
  it("starts at ln 2 with a zero head and learns to prefer the chosen answers", async () => {
    const model = new ScoreModel(tinyConfig()).initialize(1);
    model.score.value.write(new Float32Array(model.score.size));
    const train = pairs(48);
    const settings = { maxSteps: 12, perDeviceTrainBatchSize: 24, learningRate: 1e-2 };
    const events = await collect(trainReward({ model }, { train, eval: train }, settings));
    expect(metricsOf(events)[0].loss).toBeCloseTo(Math.LN2, 5);
    expect((events.at(-1) as TrainEvent & { type: "end" }).metrics.eval_accuracy).toBeGreaterThan(0.6);
  });
});

/** Rewards longer responses; quick to learn and easy to check. */
const lengthReward = async (responses: readonly Response[]) => responses.map((r) => r.ids.length - r.promptLength);

function ppoRun(seed = 1, extra: Parameters<typeof ppo>[0] = {}) {
  const policy = new CausalLM(tinyConfig(), "policy").initialize(seed);
  const reference = new CausalLM(tinyConfig(), "reference").initialize(seed);
  const critic = new ScoreModel(tinyConfig(), "critic").initialize(seed + 1);
  const models = { policy, reference, critic, rewards: lengthReward, tokenizer };
  const sizes = { rolloutBatchSize: 8, perDeviceTrainBatchSize: 4, responseLength: 6, learningRate: 1e-3, seed: 5 };
  return { models, settings: { ...sizes, ...extra } };
}

describe("ppo", () => {
  it("starts on policy: ratio 1 and no KL to the reference", async () => {
    const { models, settings } = ppoRun(1, { maxSteps: 2 });
    const [first, second] = metricsOf(await collect(trainPpo(models, prompts(8), settings)));
    expect(Math.abs(first.first_ratio - 1)).toBeLessThan(1e-6);
    expect(Math.abs(first.kl)).toBeLessThan(1e-5);
    expect(Math.abs(second.kl)).toBeGreaterThan(1e-6);
  });

  for (const dialect of ["paddle", "safe", "trl"] as const) {
    it(`finds the best arm of a bandit (${dialect})`, async () => {
      const best = 100;
      const rewards = async (responses: readonly Response[]) =>
        responses.map((r) => Number(r.ids[r.promptLength] >= best));
      const { models } = ppoRun(2);
      const settings = {
        dialect,
        maxSteps: 12,
        rolloutBatchSize: 8,
        numGenerations: 8,
        perDeviceTrainBatchSize: 64,
        responseLength: 1,
        temperature: 1,
        learningRate: 2e-2,
        criticLearningRate: 2e-2,
        klCoef: 0,
        numPpoEpochs: 2,
      };
      const metrics = metricsOf(await collect(trainPpo({ ...models, rewards }, prompts(8), settings)));
      // 227 of 327 arms pay: chance is 0.69.
      expect(metrics[0].reward).toBeLessThan(0.85);
      expect(metrics.at(-1)?.reward).toBeGreaterThan(0.95);
    });
  }

  it("adapts the KL coefficient towards its target", async () => {
    const { models, settings } = ppoRun(1, { maxSteps: 3, targetKl: 1e-6, klHorizon: 100 });
    const coefs = metricsOf(await collect(trainPpo(models, prompts(8), settings))).map((m) => m.kl_coef);
    expect(coefs[2]).not.toBe(coefs[0]);
  });
});

/** Without LMFlow's rules for texts, of which one drops the shortest responses. */
const plainTexts = { cleanText: "none", discardSample: "none" } as const satisfies Parameters<typeof raft>[0];

describe("raft", () => {
  it("keeps the best of each prompt, the first on ties, and nothing that is discarded", () => {
    expect(bestOfEach([1, 3, 3, 2, 0, 1], Array(6).fill(true), 3)).toEqual([1, 3]);
    expect(bestOfEach([1, 3, 3, 2, 0, 1], [true, false, true, false, false, false], 3)).toEqual([2]);
    expect(bestOfAll([1, 5, 5, 2], [true, true, true, true], 2)).toEqual([2, 1]);
    expect(bestOfAll([1, 5, 5, 2], [true, false, true, true], 2)).toEqual([2, 3]);
  });

  for (const collectionStrategy of ["local", "top"] as const) {
    it(`raises the reward of what is kept above the policy's (${collectionStrategy})`, async () => {
      const policy = new CausalLM(tinyConfig()).initialize(2);
      const rewards = async (r: readonly Response[]) => r.map((x) => Number(x.ids[x.promptLength] >= 200));
      const settings = {
        ...plainTexts,
        collectionStrategy,
        maxSteps: 8,
        raftBatchSize: 16,
        topRewardPercentage: 0.25,
        responseLength: 1,
        temperature: 1,
        perDeviceTrainBatchSize: 16,
        learningRate: 2e-2,
        maskPrompt: true,
      };
      const metrics = metricsOf(await collect(trainRaft({ policy, rewards, tokenizer }, prompts(8), settings)));
      expect(metrics[0].train_reward).toBeGreaterThan(metrics[0].reward);
      expect(metrics.at(-1)?.reward).toBeGreaterThan(0.8); // chance is 0.39
      expect(metrics[0].n_kept).toBe(16);
    });
  }

  it("applies clean and discard hooks", async () => {
    const seen: string[] = [];
    const models = {
      policy: new CausalLM(tinyConfig()).initialize(2),
      tokenizer,
      rewards: async (r: readonly Response[]) => r.map((x) => seen.push(x.text)),
      clean: () => "clean",
      discard: (r: Response) => r.prompt === 0,
    };
    const settings = { maxSteps: 1, raftBatchSize: 4, topRewardPercentage: 0.5, responseLength: 4 };
    const [metrics] = metricsOf(await collect(trainRaft(models, prompts(4), settings)));
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
  const compare = async (start: (run: RunOptions) => AsyncGenerator<TrainEvent>, model: string) => {
    const whole = { files: memoryFiles(), path: "run" };
    const straight = metricsOf(await collect(start({ folder: whole })));
    const broken = { files: memoryFiles(), path: "run" };
    await stopAfter((signal) => start({ folder: broken, signal }), 2);
    const rest = metricsOf(await collect(start({ folder: broken, resume: true })));
    expect(rest).toEqual(straight.slice(-rest.length));
    expect(rest.length).toBeGreaterThan(0);
    expect(rest.length).toBeLessThan(straight.length);
    expect(await broken.files.read(`run/${model}`)).toEqual(await whole.files.read(`run/${model}`));
  };

  const sizes = { maxSteps: 5, perDeviceTrainBatchSize: 4, learningRate: 1e-2 };

  it("sft", () =>
    compare((run) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      return trainSft({ policy }, sequences(12), sizes, run);
    }, "model.safetensors"));

  it("reward", () =>
    compare((run) => {
      const model = new ScoreModel(tinyConfig()).initialize(1);
      return trainReward({ model }, pairs(12), sizes, run);
    }, "model.safetensors"));

  it("ppo", () =>
    compare((run) => {
      const { models, settings } = ppoRun(1, { maxSteps: 4, targetKl: 1, normalizeReward: true });
      return trainPpo(models, prompts(8), settings, run);
    }, "value/model.safetensors"));

  it("raft", () =>
    compare((run) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const own = { maxSteps: 4, raftBatchSize: 8, topRewardPercentage: 0.5, responseLength: 5, learningRate: 1e-3 };
      const settings = { ...plainTexts, ...sizes, ...own };
      return trainRaft({ policy, rewards: lengthReward, tokenizer }, prompts(8), settings, run);
    }, "model.safetensors"));

  it("refuses a checkpoint with a damaged state", async () => {
    const folder = { files: memoryFiles(), path: "run" };
    const start = (resume: boolean, maxSteps: number) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      return trainSft({ policy }, sequences(4), { maxSteps, saveSteps: 1 }, { folder, resume });
    };
    await collect(start(false, 2));
    await folder.files.writeFile("run/checkpoint-2/trainer_state.json", "{}");
    await expect(collect(start(true, 3))).rejects.toThrow(/checkpoint-2\/trainer_state.json is damaged/);
    await folder.files.remove("run/checkpoint-2/checksums.json"); // as older versions left it
    await expect(collect(start(true, 3))).rejects.toThrow(/does not describe step 2/);
  });
});
