/** Half precision: f16 through the blocks, f32 master weights, and a loss scale that the GPU adapts. */
import { beforeAll, describe, expect, it } from "vitest";
import { caps, memoryFiles, openDevice, scope } from "webrlhf";
import { AdamW, CausalLM, type Model, readControl, ScoreModel } from "webrlhf/nn";
import {
  type CriticFreeModels,
  modelReward,
  policySampler,
  type Response,
  type RewardFunction,
  type RunOptions,
  type Sampler,
  type sft,
  trainDpo,
  trainGrpo,
  trainPpo,
  trainRaft,
  trainReinforce,
  trainReward,
  trainRloo,
  trainSft,
} from "webrlhf/rlhf";
import { sftStep } from "../../src/rlhf/sft.ts";
import { readChunks } from "../../src/tensor/params.ts";
import { collect, metricsOf, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const bits = async (model: Model): Promise<number[]> =>
  [...(await model.store.read()).values()].flatMap((v) => [...new Uint32Array(v.buffer, v.byteOffset, v.length)]);

/** Relative distance of two vectors. */
function distance(exact: Float32Array, rounded: Float32Array): number {
  const norm = (v: Float32Array) => Math.hypot(...v);
  return norm(exact.map((x, i) => x - rounded[i])) / norm(exact);
}

const settings = { maxSteps: 30, perDeviceTrainBatchSize: 8, learningRate: 5e-3 };
const trained = (policy: CausalLM, more: Parameters<typeof sft>[0], run?: RunOptions) =>
  trainSft({ policy }, sequences(32), { ...settings, ...more }, run);

// Largest difference of a step's loss over 30 steps, measured: 2.5e-4 while it falls from 5.80 to 4.53, and 3.1e-3 while it
// falls from 0.69 to 0.52. A bound is about three times that. Over 20 steps of DPO, whose loss falls from 0.69 to 0.58, 1.4e-5; of
// PPO on the same responses, whose KL rises from 0 to 0.05, 1.5e-4, 8.7e-5 and 2.9e-4. A bound is five to seven times that.
const bounds = { sft: 8e-4, reward: 1e-2, dpo: 1e-4, actor_loss: 1e-3, critic_loss: 5e-4, kl: 1.5e-3 };

describe("half precision", () => {
  it("is refused where the adapter has no f16", ({ skip }) => {
    if (caps().f16) return skip("it has f16");
    const model = new CausalLM(tinyConfig());
    expect(() => {
      model.half = true;
    }).toThrow(/feature shader-f16.*leave fp16 out/);
    model.destroy();
  });

  for (const format of ["float32", "int4"] as const) {
    it(`trains an adapter on a base in ${format} with the gradients of f32`, async ({ skip }) => {
      if (!caps().f16) return skip("no shader-f16");
      const base = new CausalLM(tinyConfig(), "base", format).initialize(3);
      const gradients: Float32Array[] = [];
      for (const half of [false, true]) {
        const lora = { rank: 2, alpha: 4, targets: "all-linear" } as const;
        const model = new CausalLM({ base, lora }, "adapted").initialize(5);
        model.half = half;
        const optimizer = new AdamW(model.store, { lossScaling: half });
        scope(() => sftStep(model, optimizer, [sequences(6)], 0)).watched.values.free("test");
        gradients.push((await optimizer.state()).m[0]);
        optimizer.destroy();
        model.destroy();
      }
      expect(distance(gradients[0], gradients[1])).toBeLessThan(2e-3);
      expect(distance(gradients[0], gradients[1])).toBeGreaterThan(0);
      base.destroy();
    });
  }

  for (const family of ["llama", "gpt2"] as const) {
    it(`gives the gradients of f32 within f16's rounding (${family})`, async ({ skip }) => {
      if (!caps().f16) return skip("no shader-f16");
      const gradients: Float32Array[][] = [];
      for (const half of [false, true]) {
        const model = new CausalLM(tinyConfig(family)).initialize(3);
        model.half = half;
        const optimizer = new AdamW(model.store, { lossScaling: half });
        // A learning rate of 0 leaves m = 0.1 gradients.
        scope(() => sftStep(model, optimizer, [sequences(6), sequences(3)], 0)).watched.values.free("test");
        const { m, control } = await optimizer.state();
        expect(readControl(control, control.length)).toMatchObject({ applied: true, lossScale: half ? 65536 : null });
        gradients.push(m);
        optimizer.destroy();
        model.destroy();
      }
      const [exact, rounded] = gradients.map((chunks) => Float32Array.from(chunks.flatMap((c) => [...c])));
      const error = distance(exact, rounded);
      expect(error).toBeLessThan(1e-3); // measured 3.1e-4 and 2.5e-4; f16 rounds by 2.4e-4 at random
      expect(error).toBeGreaterThan(0);
    });
  }

  it("follows the f32 loss for 30 steps of SFT and of reward training", { timeout: 60_000 }, async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    for (const kind of ["sft", "reward"] as const) {
      const curves: number[][] = [];
      for (const fp16 of [false, true]) {
        const run =
          kind === "sft"
            ? trained(new CausalLM(tinyConfig()).initialize(1), { fp16 })
            : trainReward({ model: new ScoreModel(tinyConfig()).initialize(1) }, pairs(32), {
                ...settings,
                fp16,
                learningRate: 1e-3, // at 5e-3 a step that overflows and is skipped moves the curve by 0.2
              });
        const metrics = metricsOf(await collect(run));
        expect(metrics.every((m) => (fp16 ? m.loss_scale >= 16384 : m.loss_scale === undefined))).toBe(true);
        expect(metrics[29].skipped_steps).toBeLessThanOrEqual(kind === "sft" || !fp16 ? 0 : 2);
        curves.push(metrics.map((m) => m.loss));
      }
      const [exact, half] = curves;
      const worst = exact.reduce((most, v, i) => Math.max(most, Math.abs(v - half[i])), 0);
      expect(worst).toBeLessThan(bounds[kind]);
      expect(half[29]).toBeLessThan(half[0] - 0.1);
    }
  });

  it("skips a step that overflows, halves the scale, and goes on", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = new CausalLM(tinyConfig()).initialize(3);
    model.half = true;
    const optimizer = new AdamW(model.store, { lossScaling: true });
    const state = await optimizer.state();
    state.control[8] = 2 ** 34; // gradients beyond 65,504 become infinite
    optimizer.load(state);
    const before = await bits(model);
    const seen = [];
    for (let i = 0; i < 14; i++) {
      scope(() => sftStep(model, optimizer, [sequences(6)], 1e-3)).watched.values.free("test");
      seen.push(readControl(await optimizer.control.read(), 10));
      if (i === 0) expect(await bits(model)).toEqual(before);
    }
    expect(seen[0]).toMatchObject({ applied: false, skipped: 1, steps: 0, lossScale: 2 ** 33 });
    const first = seen.findIndex((s) => s.applied);
    expect(first).toBeGreaterThan(0);
    seen.slice(0, first).forEach((s, i) => {
      expect(s.lossScale).toBe(2 ** (33 - i));
    });
    expect(seen[13]).toMatchObject({ applied: true, skipped: first, steps: 14 - first, lossScale: 2 ** (34 - first) });
    expect((await readChunks(model.store.chunks.map((c) => c.values)))[0].every(Number.isFinite)).toBe(true);
    optimizer.destroy();
    model.destroy();
  });

  it("resumes bit by bit, and only as it began", { timeout: 60_000 }, async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const whole = new CausalLM(tinyConfig()).initialize(1);
    const curve = metricsOf(await collect(trained(whole, { maxSteps: 6, fp16: true }))).map((m) => m.loss);
    const folder = { files: memoryFiles(), path: "run" };
    const stop = new AbortController();
    const losses: number[] = [];
    const first = new CausalLM(tinyConfig()).initialize(1);
    for await (const event of trained(first, { maxSteps: 6, fp16: true }, { folder, signal: stop.signal })) {
      if (event.type !== "step") continue;
      losses.push(event.metrics.loss);
      if (event.step === 3) stop.abort();
    }
    const again = () => new CausalLM(tinyConfig()).initialize(2);
    const without = collect(trained(again(), { maxSteps: 6 }, { folder, resume: true }));
    await expect(without).rejects.toThrow(/fp16 was true and is false/);
    const second = again();
    const rest = await collect(trained(second, { maxSteps: 6, fp16: true }, { folder, resume: true }));
    for (const m of metricsOf(rest)) losses.push(m.loss);
    expect(losses).toEqual(curve);
    expect(await bits(second)).toEqual(await bits(whole));
  });
});

describe("half precision in every trainer", () => {
  /** Draws once, and gives the same responses again: curves then differ by rounding alone. */
  function sampledOnce(policy: CausalLM): { drawing: Sampler; again: Sampler } {
    const drawn: Response[][] = [];
    const draw = policySampler(policy, tokenizer);
    let at = 0;
    return {
      async drawing(...asked) {
        drawn.push(await draw(...asked));
        return drawn[drawn.length - 1];
      },
      again: async () => drawn[at++],
    };
  }
  const rewards = (responses: readonly Response[]) => responses.map(({ text }) => text.split("a").length / 4);
  const largest = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));

  it("follows the f32 curves for 20 steps of DPO and of PPO", { timeout: 60_000 }, async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const model = () => new CausalLM(tinyConfig()).initialize(1);
    const steps = { maxSteps: 20, perDeviceTrainBatchSize: 4, learningRate: 2e-3 };
    const dpo: number[][] = [];
    for (const fp16 of [false, true]) {
      const policy = model();
      const metrics = metricsOf(await collect(trainDpo({ policy }, pairs(16), { ...steps, fp16 })));
      dpo.push(metrics.map((m) => m.loss));
      expect(policy.half).toBe(false);
      policy.destroy();
    }
    expect(largest(dpo[0], dpo[1])).toBeLessThan(bounds.dpo);
    expect(dpo[1][19]).toBeLessThan(dpo[1][0] - 0.02);

    const ppo: Record<string, number>[][] = [];
    const first = model();
    const { drawing, again } = sampledOnce(first);
    for (const fp16 of [false, true]) {
      const policy = fp16 ? model() : first;
      const critic = new ScoreModel(tinyConfig(), "critic").initialize(2);
      const run = trainPpo({ policy, critic, rewards, tokenizer, sampler: fp16 ? again : drawing }, prompts(8), {
        ...steps,
        rolloutBatchSize: 4,
        responseLength: 8,
        numPpoEpochs: 2,
        klCoef: 0.1,
        fp16,
      });
      ppo.push(metricsOf(await collect(run)));
      expect([policy.half, critic.half]).toEqual([false, false]);
      critic.destroy();
      policy.destroy();
    }
    const [exact, half] = ppo;
    for (const name of ["actor_loss", "critic_loss", "kl"] as const) {
      const [a, b] = [exact, half].map((curve) => curve.map((m) => m[name]));
      expect(largest(a, b), name).toBeLessThan(bounds[name]);
      expect(largest(a, b), name).toBeGreaterThan(0);
    }
    expect(exact[19].kl).toBeGreaterThan(0.02); // it moved
    for (const m of half) expect([m.loss_scale, m.critic_loss_scale].every((s) => s >= 16384)).toBe(true);
    expect(exact[0].loss_scale).toBeUndefined();
  });

  it("is there in the methods without a critic and in RAFT", { timeout: 60_000 }, async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const judge = new ScoreModel(tinyConfig(), "judge").initialize(3);
    const judged: boolean[] = [];
    const score = modelReward(judge);
    const reward: RewardFunction = Object.assign(
      (responses: readonly Response[]) => {
        judged.push(judge.half);
        return score(responses);
      },
      { models: score.models },
    );
    const common = { maxSteps: 2, responseLength: 6, learningRate: 1e-3, fp16: true } as const;
    const group = { ...common, numGenerations: 2, perDeviceTrainBatchSize: 4, beta: 0.1 };
    const runs = {
      grpo: (models: CriticFreeModels) => trainGrpo(models, prompts(4), group),
      rloo: (models: CriticFreeModels) => trainRloo(models, prompts(4), group),
      reinforce: (models: CriticFreeModels) => trainReinforce(models, prompts(4), { ...group, numGenerations: 1 }),
      raft: (models: CriticFreeModels) =>
        trainRaft({ ...models, reference: undefined }, prompts(4), {
          ...common,
          raftBatchSize: 2,
          topRewardPercentage: 0.5,
          perDeviceTrainBatchSize: 2,
        }),
    };
    for (const [name, train] of Object.entries(runs)) {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const before = await bits(policy);
      const metrics = metricsOf(await collect(train({ policy, rewards: reward, tokenizer })));
      expect(
        metrics.map((m) => m.loss_scale >= 1024),
        name,
      ).toEqual([true, true]);
      expect(await bits(policy), name).not.toEqual(before);
      expect([policy.half, judge.half], name).toEqual([false, false]);
      policy.destroy();
    }
    expect(judged.length).toBeGreaterThan(0);
    expect(judged.every((half) => half)).toBe(true);
    judge.destroy();
  });
});
