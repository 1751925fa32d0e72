/** GRPO, RLOO and REINFORCE++ as trainers: on policy at the start, what they leave out, resume bit for bit. */
import { beforeAll, describe, expect, it } from "vitest";
import type { LoraOptions } from "../../../src/nn/lora-options.ts";
import { CausalLM } from "../../../src/nn/models.ts";
import { ADAPTER_WEIGHTS } from "../../../src/nn/peft.ts";
import { type GrpoOptions, grpoDefaults, trainGrpo } from "../../../src/rlhf/critic-free/grpo.ts";
import { overlongPenalty } from "../../../src/rlhf/critic-free/overlong.ts";
import { reinforceDefaults, trainReinforce } from "../../../src/rlhf/critic-free/reinforce.ts";
import { rlooDefaults, trainRloo } from "../../../src/rlhf/critic-free/rloo.ts";
import type { CriticFreeInputs, CriticFreeOptions } from "../../../src/rlhf/critic-free/train.ts";
import type { TrainEvent } from "../../../src/rlhf/events.ts";
import type { Response, RewardFunction } from "../../../src/rlhf/rollout.ts";
import { memoryFiles } from "../../../src/runtime/files.ts";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { collect, metricsOf, prompts, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(gpuReady);

const keep = keeper();

const lengthOf = (r: Response): number => r.ids.length - r.promptLength;
/** Different for every response, so that no group is without spread. */
const firstToken: RewardFunction = async (responses) => responses.map((r) => r.ids[r.promptLength] / 100);

function inputsFor(rewards: CriticFreeInputs["rewards"] = { first: firstToken }): CriticFreeInputs {
  const actor = keep(new CausalLM(tinyConfig(), "actor").initialize(1));
  const reference = keep(new CausalLM(tinyConfig(), "reference").initialize(1));
  return { actor, reference, rewards, tokenizer, prompts: prompts(4) };
}

const sizes: Partial<CriticFreeOptions> = {
  promptsPerRollout: 4,
  samplesPerPrompt: 4,
  batchSize: 8,
  accumulation: 2,
  responseLength: 6,
  learningRate: 1e-2,
  schedule: "constant",
  maxSteps: 2,
  seed: 5,
};
const methods = {
  grpo: (inputs: CriticFreeInputs, more: Partial<GrpoOptions> = {}) =>
    trainGrpo(inputs, { ...grpoDefaults, beta: 0.1, ...sizes, ...more }),
  rloo: (inputs: CriticFreeInputs, more: Partial<CriticFreeOptions> = {}) =>
    trainRloo(inputs, { ...rlooDefaults, ...sizes, ...more }),
  reinforce: (inputs: CriticFreeInputs, more: Partial<CriticFreeOptions> = {}) =>
    trainReinforce(inputs, { ...reinforceDefaults, ...sizes, ...more }),
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

  it("clips once a rollout is used several times", async () => {
    const [first] = metricsOf(
      await collect(methods[name](inputsFor(), { epochs: 4, epsilon: 0.001, maxSteps: 1, accumulation: 1 })),
    );
    expect(first["clip_ratio/region_mean"]).toBeGreaterThan(0.1);
    const parts = first["clip_ratio/low_mean"] + first["clip_ratio/high_mean"];
    expect(first["clip_ratio/region_mean"]).toBeCloseTo(parts, 12);
  });

  it("takes the same step however the batch is divided", async () => {
    const trained = async (batchSize: number, accumulation: number) => {
      const inputs = inputsFor();
      await collect(methods[name](inputs, { batchSize, accumulation, maxSteps: 1 }));
      return inputs.actor.store.read();
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
    const run = (more: Partial<CriticFreeInputs>, options: Partial<CriticFreeOptions> = {}) =>
      collect(methods[name]({ ...inputsFor(), ...more }, options));
    await expect(run({ prompts: [] })).rejects.toThrow(/at least one prompt/);
    await expect(run({ rewards: {} })).rejects.toThrow(/no reward/);
    await expect(run({ reference: null })).rejects.toThrow(/needs a reference/);
    await expect(run({}, { rewardWeights: [1, 2] })).rejects.toThrow(/2 weights for 1 rewards/);
    await expect(run({ rewards: { bad: async () => [1] } })).rejects.toThrow(/returned 1 scores for/);
    await expect(run({ rewards: { bad: async (r) => r.map(() => Number.NaN) } })).rejects.toThrow(/NaN/);
  });

  it("resumes bit for bit, with an adapter on the reference", async () => {
    const lora: LoraOptions = { rank: 4, alpha: 16, targets: "all-linear", dropout: 0.1 };
    const start = (run: CriticFreeInputs["run"], signal?: AbortSignal, resume?: boolean) => {
      const base = keep(new CausalLM(tinyConfig(), "base").initialize(1));
      const actor = keep(new CausalLM({ base, lora }, "actor").initialize(2));
      const options = { epochs: 2, accumulation: 1, maxSteps: 4, ...(signal && { signal }) };
      return methods[name]({ ...inputsFor(), actor, reference: base, run, resume }, options);
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
  const step = async (inputs: CriticFreeInputs, more: Partial<GrpoOptions>) => {
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
    const { metrics } = await step(inputsFor({ half }), { dropZeroStd: true });
    expect([metrics.frac_reward_zero_std, metrics.n_dropped]).toEqual([0.5, 8]);
    expect((await step(inputsFor({ half }), {})).metrics.n_dropped).toBe(0);

    const inputs = inputsFor({ flat: async (r) => r.map(() => 1) });
    const before = await inputs.actor.store.read();
    const { metrics: none, events } = await step(inputs, { dropZeroStd: true });
    expect([none.frac_reward_zero_std, none.n_dropped]).toEqual([1, 16]);
    expect(none).not.toHaveProperty("loss");
    expect(events.at(-1)?.type).toBe("end");
    expect(await inputs.actor.store.read()).toEqual(before);
  });

  it("leaves responses out that were cut off", async () => {
    const { metrics } = await step(inputsFor(), { maskTruncated: true });
    expect(metrics.n_dropped).toBe(Math.round(16 * (1 - metrics.eos_rate)));
  });

  it("adds weighted rewards up and reports each", async () => {
    const rewards = { first: firstToken, length: async (r: readonly Response[]) => r.map(lengthOf) };
    const { metrics } = await step(inputsFor(rewards), { rewardWeights: [2, -0.5] });
    expect(metrics.reward).toBeCloseTo(2 * metrics["rewards/first"] - 0.5 * metrics["rewards/length"], 10);
    expect(metrics["rewards/length"]).toBeCloseTo(metrics.mean_length, 10);
    const { metrics: other } = await step(inputsFor(rewards), { aggregation: "normalize_then_sum" });
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
    const options = (more: Partial<GrpoOptions>) => () => methods.grpo(inputsFor(), more);
    expect(options({ samplesPerPrompt: 1 })).toThrow(/at least 2/);
    expect(options({ lossType: "cispo" })).toThrow(/epsilon_high/);
    expect(options({ delta: 1.1 })).toThrow(/greater than 1 \+ epsilon_high/);
    expect(options({ lossType: "cispo", epsilonHigh: 5, delta: 9 })).toThrow(/delta is no part of loss_type cispo/);
    const each = { aggregation: "normalize_then_sum" } as const;
    expect(options({ ...each, scaleRewards: "none" })).toThrow(/scale_rewards cannot be none/);
    expect(() => overlongPenalty(4, 5)).toThrow(/overlong_buffer_len 5 is more than max_completion_length 4/);
    expect(() => methods.rloo(inputsFor(), { samplesPerPrompt: 1 })).toThrow(/at least 2/);
  });

  it("says what it trains and how much", async () => {
    const { events } = await step(inputsFor(), {});
    const [start, taken] = events as [TrainEvent & { type: "start" }, TrainEvent & { type: "step" }];
    expect(start).toMatchObject({ type: "start", stage: "grpo", maxSteps: 1 });
    expect(taken.tokens).toBeGreaterThan(16);
  });
});
