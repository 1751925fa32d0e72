/** GRPO, RLOO and REINFORCE++ as trainers: on policy at the start, what they leave out, resume bit for bit. */

import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { CausalLM, type LoraOptions } from "webrlhf/nn";
import {
  type CriticFreeModels,
  type CriticFreeSettings,
  type GrpoSettings,
  overlongPenalty,
  type Prompt,
  type Response,
  type RewardFunction,
  type RunOptions,
  type TrainEvent,
  trainGrpo,
  trainReinforce,
  trainRloo,
} from "webrlhf/rlhf";
import { ADAPTER_WEIGHTS } from "../../../src/nn/peft.ts";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { collect, collectFailing, metricsOf, prompts, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(gpuReady);

const keep = keeper();

const lengthOf = (r: Response): number => r.ids.length - r.promptLength;
/** Different for every response, so that no group is without spread. */
const firstToken: RewardFunction = async (responses) => responses.map((r) => r.ids[r.promptLength] / 100);

interface Inputs extends CriticFreeModels {
  prompts: readonly Prompt[];
}

function inputsFor(rewards: Inputs["rewards"] = { first: firstToken }): Inputs {
  const policy = keep(new CausalLM(tinyConfig(), "policy").initialize(1));
  const reference = keep(new CausalLM(tinyConfig(), "reference").initialize(1));
  return { policy, reference, rewards, tokenizer, prompts: prompts(4) };
}

type More = Partial<Omit<CriticFreeSettings, "generationBatchSize" | "stepsPerGeneration">>;

const sizes = {
  numGenerations: 4,
  generationBatchSize: 16,
  perDeviceTrainBatchSize: 8,
  gradientAccumulationSteps: 2,
  responseLength: 6,
  learningRate: 1e-2,
  lrSchedulerType: "constant" as const,
  maxSteps: 2,
  seed: 5,
};
const methods = {
  grpo: ({ prompts, ...models }: Inputs, more: Partial<GrpoSettings> = {}, run: RunOptions = {}) =>
    trainGrpo(models, { train: prompts }, { beta: 0.1, ...sizes, ...more }, run),
  rloo: ({ prompts, ...models }: Inputs, more: More = {}, run: RunOptions = {}) =>
    trainRloo(models, { train: prompts }, { ...sizes, ...more }, run),
  reinforce: ({ prompts, ...models }: Inputs, more: More = {}, run: RunOptions = {}) =>
    trainReinforce(models, { train: prompts }, { ...sizes, ...more }, run),
};
const names = ["grpo", "rloo", "reinforce"] as const;

describe.each(names)("%s", (name) => {
  it("starts on policy, clips nothing then, and moves", async () => {
    const [first, second] = metricsOf(await collect(methods[name](inputsFor())));
    expect(Math.abs(first.ratio - 1)).toBeLessThan(1e-6);
    expect(first.kl).toBe(0);
    expect(first["clip_ratio/region_mean"]).toBe(0);
    expect(first.grad_norm).toBeGreaterThan(1e-4);
    expect(first.frac_reward_zero_std).toBe(0);
    expect(first.reward_std).toBeGreaterThan(0);
    expect(Math.abs(second.kl)).toBeGreaterThan(1e-6);
    expect(first.eos_rate).toBeGreaterThanOrEqual(0);
  });

  it("evaluates held-out prompts before the first step, on the way and at the end, and learns the same", async () => {
    const { prompts: train, ...models } = inputsFor();
    const trainers = { grpo: trainGrpo, rloo: trainRloo, reinforce: trainReinforce };
    const data = { train, eval: prompts(3) };
    const folder = { files: memoryFiles(), path: "run" };
    const settings = { ...sizes, beta: 0.1, maxSteps: 3, evalSteps: 2 };
    const events = await collect(trainers[name](models, data, settings, { folder }));
    const evals = events.filter((event) => event.type === "eval");
    expect(evals.map(({ step }) => step)).toEqual([0, 2, 3]);
    for (const { metrics, rows } of evals) {
      expect(metrics.eval_reward).toBeGreaterThan(0);
      expect(metrics).toHaveProperty("eval_mean_length");
      expect(rows).toHaveLength(3);
    }
    expect(evals[0].metrics.eval_kl).toBe(0);
    expect(Math.abs(evals[2].metrics.eval_kl)).toBeGreaterThan(1e-6);
    const alone = await collect(methods[name](inputsFor(), { maxSteps: 3, beta: 0.1 }));
    expect(metricsOf(events)).toEqual(metricsOf(alone));
    const none = trainers[name](models, { train }, settings, { folder: { ...folder, path: "other" } });
    await expect(collect(none)).rejects.toThrow("evalSteps 2 needs held-out prompts");
  });

  it("goes as many times over the prompts as it is told", async () => {
    const events = await collect(methods[name](inputsFor(), { maxSteps: null, numTrainEpochs: 2 }));
    expect(metricsOf(events)).toHaveLength(2); // 4 prompts in each rollout
    expect(events.findLast((event) => event.type === "step")).toMatchObject({ epoch: 2, maxSteps: 2 });
  });

  it("clips once a rollout is used several times", async () => {
    const [first] = metricsOf(
      await collect(
        methods[name](inputsFor(), { numIterations: 4, epsilon: 0.001, maxSteps: 1, gradientAccumulationSteps: 1 }),
      ),
    );
    expect(first["clip_ratio/region_mean"]).toBeGreaterThan(0.1);
    const parts = first["clip_ratio/low_mean"] + first["clip_ratio/high_mean"];
    expect(first["clip_ratio/region_mean"]).toBeCloseTo(parts, 12);
  });

  it("takes the same step however the batch is divided", async () => {
    const trained = async (perDeviceTrainBatchSize: number, gradientAccumulationSteps: number) => {
      const inputs = inputsFor();
      await collect(methods[name](inputs, { perDeviceTrainBatchSize, gradientAccumulationSteps, maxSteps: 1 }));
      return inputs.policy.store.read();
    };
    const [whole, divided] = [await trained(16, 1), await trained(3, 6)];
    let worst = 0;
    for (const [key, values] of whole) {
      const other = divided.get(key) as Float32Array;
      values.forEach((x, i) => {
        worst = Math.max(worst, Math.abs(x - other[i]));
      });
    }
    // A step moves a weight by 1e-2 at most; Adam magnifies rounding where a gradient is nearly 0.
    expect(worst).toBeLessThan(1e-3);
  });

  it("refuses what it cannot do", async () => {
    const run = (more: Partial<Inputs>, options: More = {}) =>
      collect(methods[name]({ ...inputsFor(), ...more }, options));
    await expect(run({ prompts: [] })).rejects.toThrow(/no prompt to respond to/);
    await expect(run({ rewards: {} })).rejects.toThrow(/no reward/);
    await expect(run({ reference: null })).rejects.toThrow(/needs a reference/);
    await expect(run({}, { rewardWeights: [1, 2] })).rejects.toThrow(/2 reward weights for 1 reward/);
    await expect(run({ rewards: { bad: async () => [1] } })).rejects.toThrow(/returned 1 scores for/);
    await expect(run({ rewards: { bad: async (r) => r.map(() => Number.NaN) } })).rejects.toThrow(/NaN/);
  });

  it("resumes bit for bit, with an adapter on the reference", async () => {
    const lora: LoraOptions = { rank: 4, alpha: 16, targets: "all-linear", dropout: 0.1 };
    const start = (folder: RunOptions["folder"], signal?: AbortSignal, resume?: boolean) => {
      const base = keep(new CausalLM(tinyConfig(), "base").initialize(1));
      const policy = keep(new CausalLM({ base, lora }, "policy").initialize(2));
      const entropy = { useAdaptiveEntropy: true, entropyTarget: 10, entropyCoefDelta: 0.01 }; // what it weighs must be kept, too
      const options = { numIterations: 2, gradientAccumulationSteps: 1, maxSteps: 4, ...entropy };
      return methods[name]({ ...inputsFor(), policy, reference: base }, options, { folder, signal, resume });
    };
    const whole = { files: memoryFiles(), path: "run" };
    const straight = metricsOf(await collect(start(whole)));
    for (const stop of [1, 3]) {
      const broken = { files: memoryFiles(), path: "run" };
      const controller = new AbortController();
      for await (const event of start(broken, controller.signal)) {
        if (event.type === "step" && event.step === stop) controller.abort();
      }
      const rest = metricsOf(await collect(start(broken, undefined, true)));
      expect(rest).toEqual(straight.slice(stop));
      const file = `run/${ADAPTER_WEIGHTS}`;
      expect(await whole.files.read(file)).not.toBeNull();
      expect(await broken.files.read(file)).toEqual(await whole.files.read(file));
    }
  });
});

describe("grpo", () => {
  const step = async (inputs: Inputs, more: Partial<GrpoSettings>) => {
    const events = await collect(methods.grpo(inputs, { maxSteps: 1, ...more }));
    return { events, metrics: metricsOf(events)[0] };
  };

  it("needs no reference without a KL penalty, and then reports none", async () => {
    const { metrics } = await step({ ...inputsFor(), reference: null }, { beta: 0 });
    expect(metrics).not.toHaveProperty("kl");
    expect(metrics.loss).toBeTypeOf("number");
  });

  it("leaves groups without spread out, up to whole rollouts", async () => {
    const half: RewardFunction = async (responses) => responses.map((r, i) => (r.prompt < 2 ? 1 : i));
    const { metrics } = await step(inputsFor({ half }), { dynamicFiltering: true, maxNumGenBatches: 1 });
    expect([metrics.frac_reward_zero_std, metrics.n_dropped]).toEqual([0.5, 8]);
    expect((await step(inputsFor({ half }), {})).metrics.n_dropped).toBe(0);

    const inputs = inputsFor({ flat: async (r: readonly Response[]) => r.map(() => 1) });
    const before = await inputs.policy.store.read();
    const { events, message } = await collectFailing(
      methods.grpo(inputs, { maxSteps: 1, dynamicFiltering: true, maxNumGenBatches: 1 }),
    );
    const [none] = metricsOf(events);
    expect([none.frac_reward_zero_std, none.n_dropped]).toEqual([1, 16]);
    expect(none).not.toHaveProperty("loss");
    expect(message).toMatch(
      /nothing was learned in any of 1 steps: within each of the 4 groups all rewards are the same/,
    );
    expect(await inputs.policy.store.read()).toEqual(before);
  });

  it("draws groups to other prompts in place of those without spread, until there are as many, and the same anew", async () => {
    const drawn: string[][] = [];
    const worth = (prompt: number, i: number) => (prompt % 3 === 0 ? i : 1); // two of four groups have any spread
    const seldom: RewardFunction = async (responses) => {
      drawn.push(responses.map((r) => `${r.promptText}|${r.ids.slice(r.promptLength).join(" ")}`));
      return responses.map((r, i) => worth(r.prompt, i));
    };
    const run = async (more: Partial<GrpoSettings> = {}) => {
      drawn.length = 0;
      const inputs = { ...inputsFor({ seldom }), prompts: prompts(12) };
      const { metrics } = await step(inputs, { dynamicFiltering: true, ...more });
      return { metrics, weights: await inputs.policy.store.read(), drawn: drawn.map((one) => [...one]) };
    };
    const { metrics, weights, drawn: first } = await run();
    expect(first.map((one) => one.length)).toEqual([16, 16]);
    expect([metrics.frac_reward_zero_std, metrics.n_dropped, metrics.n_redrawn]).toEqual([0.5, 16, 16]);
    const asked = first.flat().map((one) => one.split("|")[0]);
    expect(new Set(asked).size).toBe(8); // eight groups of other prompts
    const again = await run();
    expect(again.drawn).toEqual(first);
    expect(again.weights).toEqual(weights);
    expect((await run({ maxNumGenBatches: 1 })).drawn).toEqual(first.slice(0, 1));
    // What the metrics say of the policy is of what it drew first: groups that were kept for their spread are no fair sample.
    const sum = first[0].reduce((total, _, i) => total + worth(Math.floor(i / 4), i), 0);
    expect(metrics.reward).toBeCloseTo(sum / 16, 6);
  });

  it("gives up refilling after as many draws as it may have", async () => {
    let draws = 0;
    const flat: RewardFunction = async (responses) => {
      draws++;
      return responses.map(() => 1);
    };
    const { message } = await collectFailing(
      methods.grpo(inputsFor({ flat }), { maxSteps: 1, dynamicFiltering: true, maxNumGenBatches: 3 }),
    );
    expect(draws).toBe(3);
    expect(message).toMatch(/within each of the 12 groups all rewards are the same/);
  });

  it("leaves responses out that were cut off", async () => {
    const own = { maxSteps: 1, maskTruncatedCompletions: true, responseLength: 24 };
    const [metrics] = metricsOf(await collect(methods.grpo(inputsFor(), own)));
    expect(metrics.eos_rate).toBeGreaterThan(0);
    expect(metrics.n_dropped).toBe(Math.round(16 * (1 - metrics.eos_rate)));
  });

  it("adds weighted rewards up and reports each", async () => {
    const rewards = { first: firstToken, length: async (r: readonly Response[]) => r.map(lengthOf) };
    const { metrics } = await step(inputsFor(rewards), { rewardWeights: [2, -0.5] });
    expect(metrics.reward).toBeCloseTo(2 * metrics["rewards/first"] - 0.5 * metrics["rewards/length"], 10);
    expect(metrics["rewards/length"]).toBeCloseTo(metrics.mean_length, 10);
    const { metrics: other } = await step(inputsFor(rewards), { multiObjectiveAggregation: "normalize_then_sum" });
    expect(other.grad_norm).toBeGreaterThan(0);
  });

  it("draws anew for a prompt that comes twice in a rollout", async () => {
    const texts: string[] = [];
    const watch: RewardFunction = async (r) => r.map((x) => texts.push(x.ids.slice(x.promptLength).join(" ")));
    await step({ ...inputsFor({ watch }), prompts: prompts(1) }, {});
    expect(new Set(texts).size).toBeGreaterThan(12); // of 16; a repeated group would leave 4
  });

  it("is a loss of its own as CISPO", async () => {
    const { metrics } = await step(inputsFor(), { lossType: "cispo", epsilonHigh: 5 });
    expect(metrics.cispo_clip_ratio).toBe(0);
    expect(metrics).not.toHaveProperty("clip_ratio/low_mean");
  });

  it("refuses options that contradict each other", () => {
    const options = (more: Partial<GrpoSettings>) => () => methods.grpo(inputsFor(), more);
    expect(options({ numGenerations: 1 })).toThrow(/at least 2/);
    expect(options({ lossType: "cispo" })).toThrow(/epsilonHigh/);
    expect(options({ delta: 1.1 })).toThrow(/greater than 1 \+ epsilonHigh/);
    expect(options({ lossType: "cispo", epsilonHigh: 5, delta: 9 })).toThrow(/delta is no part of lossType cispo/);
    const each = { multiObjectiveAggregation: "normalize_then_sum" } as const;
    expect(options({ ...each, scaleRewards: "none" })).toThrow(/scaleRewards cannot be none/);
    expect(() => overlongPenalty(4, 5)).toThrow(/overlong_buffer_len 5 is more than max_completion_length 4/);
    expect(() => methods.rloo(inputsFor(), { numGenerations: 1 })).toThrow(/at least 2/);
  });

  it("says what it trains and how much", async () => {
    const { events } = await step(inputsFor(), {});
    const [start, data, taken] = events as [
      TrainEvent & { type: "start" },
      TrainEvent & { type: "data" },
      TrainEvent & { type: "step" },
    ];
    expect(data).toMatchObject({ type: "data", part: "train", rows: 4, used: 4, dropped: {}, truncated: 0 });
    expect(start).toMatchObject({ type: "start", stage: "grpo", maxSteps: 1 });
    expect(taken.tokens).toBeGreaterThan(16);
  });
});
