/** Trainers with adapters on one base: they learn, leave the base alone, and resume bit for bit. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, scope } from "webrlhf";
import { AdamW, CausalLM, type LoraOptions, type Model, ScoreModel, withDropout } from "webrlhf/nn";
import {
  type Experience,
  evaluateReward,
  evaluateSft,
  modelReward,
  ppo,
  type Response,
  type RunOptions,
  readWatched,
  type TrainEvent,
  trainPpo,
  trainRaft,
  trainReward,
  trainSft,
} from "webrlhf/rlhf";
import { ADAPTER_WEIGHTS } from "../../src/nn/peft.ts";
import { policyPass, valuePass } from "../../src/rlhf/ppo.ts";
import { rewardStep } from "../../src/rlhf/reward.ts";
import { sftStep } from "../../src/rlhf/sft.ts";
import { gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import { collect, metricsOf, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(gpuReady);

const keep = keeper();

const lora: LoraOptions = { rank: 4, alpha: 16, targets: "all-linear", dropout: 0.1 };
const newBase = () => keep(new CausalLM(tinyConfig(), "base").initialize(1));
const actorOn = (base: CausalLM) => keep(new CausalLM({ base, lora }, "actor").initialize(2));
const scorerOn = (base: Model, seed = 3) => keep(new ScoreModel({ base, lora }, "scorer").initialize(seed));

const lengthReward = async (responses: readonly Response[]) => responses.map((r) => r.ids.length - r.promptLength);

describe("training an adapter", () => {
  it("lowers the loss and leaves the base as it was", async () => {
    const base = newBase();
    const before = await base.store.read();
    // A random head says nothing, whatever the adapter tells it; so it is trained, too.
    const model = keep(new CausalLM({ base, lora: { ...lora, modulesToSave: ["lm_head"] } }).initialize(2));
    const train = sequences(32);
    const start = (await evaluateSft(model, train)).eval_loss;
    expect(start).toBe((await evaluateSft(base, train)).eval_loss);
    const settings = { maxSteps: 10, perDeviceTrainBatchSize: 16, learningRate: 2e-2 };
    const events = await collect(trainSft({ policy: model }, { train, eval: train }, settings));
    expect(events[0]).toMatchObject({ parameters: model.store.count });
    expect((events.at(-1) as TrainEvent & { type: "end" }).metrics.eval_loss).toBeLessThan(start - 0.3);
    expect(await base.store.read()).toEqual(before);
    expect((await evaluateSft(base, train)).eval_loss).toBe(start);
  });

  it("teaches a reward model", async () => {
    const model = scorerOn(newBase());
    const train = pairs(32);
    const settings = { maxSteps: 12, perDeviceTrainBatchSize: 16, learningRate: 2e-2 };
    await collect(trainReward({ model }, { train, eval: train }, settings));
    expect((await evaluateReward(model, train)).eval_accuracy).toBeGreaterThan(0.6);
  });

  it("runs PPO with actor, critic, reward model and reference on one base", async () => {
    const base = newBase();
    const before = await base.store.read();
    const [policy, critic, judge] = [actorOn(base), scorerOn(base), scorerOn(base, 4)];
    const models = { policy, reference: base, critic, rewards: modelReward(judge), tokenizer };
    const sizes = { rolloutBatchSize: 8, perDeviceTrainBatchSize: 4, responseLength: 6, maxSteps: 2 };
    const [first, second] = metricsOf(await collect(trainPpo(models, prompts(8), { ...sizes, learningRate: 1e-2 })));
    expect(Math.abs(first.first_ratio - 1)).toBeLessThan(1e-6);
    expect(first.kl).toBe(0);
    expect(Math.abs(second.kl)).toBeGreaterThan(1e-6);
    expect(await base.store.read()).toEqual(before);
  });
});

describe("gradient accumulation averages its passes", () => {
  const worst = (a: Map<string, Float32Array>, b: Map<string, Float32Array>) =>
    Math.max(...[...a].map(([name, v]) => v.reduce((most, x, i) => Math.max(most, Math.abs(x - b.get(name)![i])), 0)));

  it("for pairs", async () => {
    const data = pairs(6);
    const updated = async (...batches: (typeof data)[]) => {
      const model = keep(new ScoreModel(tinyConfig(), "scorer").initialize(3));
      const optimizer = new AdamW(model.store);
      const loss = { kind: "sequence-wise", padId: 0 } as const;
      for (let i = 0; i < 3; i++) {
        scope(() => rewardStep(model, optimizer, batches, 1e-2, loss)).watched.values.free("test");
      }
      return model.store.read();
    };
    const whole = await updated(data);
    expect(worst(whole, await updated(data.slice(0, 2), data.slice(2, 4), data.slice(4)))).toBeLessThan(1e-4);
    // The passes' means are averaged, however many pairs each has.
    const uneven = await updated(data.slice(0, 1), data.slice(1));
    expect(worst(whole, uneven)).toBeGreaterThan(1e-3);
    const repeated = [data.slice(0, 1), data.slice(0, 1), data.slice(0, 1), data.slice(0, 1), data.slice(0, 1)].flat();
    expect(worst(await updated([...repeated, ...data.slice(1)]), uneven)).toBeLessThan(1e-4);
  });

  it.each(["token", "sequence"] as const)("for PPO's losses averaged over each %s", async (average) => {
    const experience: Experience[] = sequences(5).map(({ ids, promptLength }, i) => {
      const n = ids.length - promptLength;
      const flat = (v: number) => new Float32Array(n).fill(v);
      const response = { ids, promptLength, prompt: i, sample: 0, promptText: "", text: "", ended: true };
      const estimates = { values: flat(0.1), advantages: flat(i - 2), returns: flat(i) };
      return { response, logProbs: flat(-5.8), refLogProbs: flat(-5.8), ...estimates };
    });
    const settings = ppo({ lossAverage: average });
    const updated = async (parts: Experience[][]) => {
      const actor = keep(new CausalLM(tinyConfig(), "actor").initialize(1));
      const critic = keep(new ScoreModel(tinyConfig(), "critic").initialize(2));
      const optimizers = [new AdamW(actor.store), new AdamW(critic.store)];
      const size = (part: Experience[]) =>
        average === "token" ? part.reduce((n, e) => n + e.logProbs.length, 0) : part.length;
      const shares = parts.map((part) => size(part) / size(parts.flat()));
      for (const [i, part] of parts.entries()) {
        scope(() => policyPass(actor, part, shares[i], 0, settings)).values.free("test");
        scope(() => valuePass(critic, part, shares[i], settings)).values.free("test");
      }
      for (const optimizer of optimizers) optimizer.step(1e-2);
      return new Map([...(await actor.store.read()), ...(await critic.store.read())]);
    };
    const parts = [experience.slice(0, 1), experience.slice(1, 3), experience.slice(3)];
    expect(worst(await updated([experience]), await updated(parts))).toBeLessThan(1e-4);
  });
});

describe("dropout in training", () => {
  it("differs by micro-batch, and does not depend on the clock", async () => {
    const data = sequences(4);
    const loss = async (dropout: { seed: number; step: number } | null) => {
      const model = actorOn(newBase());
      for (const p of model.store.parameters) {
        p.value.write(Float32Array.from({ length: p.size }, (_, i) => Math.sin(i)));
      }
      const optimizer = new AdamW(model.store);
      const { watched } = scope(() => sftStep(model, optimizer, [data, data], 0, dropout));
      const [, ...passes] = await readWatched(watched);
      return passes.map((numbers) => numbers.loss[0]);
    };
    const [a, b] = await loss({ seed: 1, step: 2 });
    expect(a).not.toBe(b);
    expect(await loss({ seed: 1, step: 2 })).toEqual([a, b]);
    expect((await loss({ seed: 1, step: 3 }))[0]).not.toBe(a);
    const [c, d] = await loss(null);
    expect(c).toBe(d);
    expect(withDropout(null, () => 1)).toBe(1);
  });

  it("finds the same masks when a block is computed again for its gradient", async () => {
    const data = sequences(4);
    const updated = async (checkpointing: boolean) => {
      const base = newBase();
      const model = actorOn(base);
      (base.decoder as { checkpointing: boolean }).checkpointing = checkpointing;
      const optimizer = new AdamW(model.store);
      for (let step = 0; step < 3; step++) {
        scope(() => sftStep(model, optimizer, [data], 1e-2, { seed: 1, step })).watched.values.free("test");
      }
      return model.store.read();
    };
    const [plain, again] = [await updated(false), await updated(true)];
    for (const [name, values] of plain) expect(again.get(name)).toEqual(values);
  });
});

describe("resume", () => {
  type Start = (run: RunOptions) => AsyncGenerator<TrainEvent>;

  /** Runs to the end once, and once with a stop; both must end with the same adapters, bit for bit. */
  const compare = async (start: Start, adapters: string[]) => {
    const whole = { files: memoryFiles(), path: "run" };
    const straight = metricsOf(await collect(start({ folder: whole })));
    const broken = { files: memoryFiles(), path: "run" };
    const controller = new AbortController();
    for await (const event of start({ folder: broken, signal: controller.signal })) {
      if (event.type === "step" && event.step === 2) controller.abort();
    }
    const rest = metricsOf(await collect(start({ folder: broken, resume: true })));
    expect(rest.length).toBeGreaterThan(0);
    expect(rest.length).toBeLessThan(straight.length);
    expect(rest).toEqual(straight.slice(-rest.length));
    for (const name of adapters) {
      const file = `run/${name}${ADAPTER_WEIGHTS}`;
      expect(await whole.files.read(file)).not.toBeNull();
      expect(await broken.files.read(file)).toEqual(await whole.files.read(file));
      expect(await whole.files.read(`run/${name}model.safetensors`)).toBeNull();
    }
  };

  it("sft with dropout", () =>
    compare(
      (run) => {
        const sizes = { maxSteps: 5, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, learningRate: 1e-2 };
        return trainSft({ policy: actorOn(newBase()) }, sequences(12), sizes, run);
      },
      [""],
    ));

  it("reward", () =>
    compare(
      (run) => {
        const sizes = { maxSteps: 5, perDeviceTrainBatchSize: 4, learningRate: 1e-2 };
        return trainReward({ model: scorerOn(newBase()) }, pairs(12), sizes, run);
      },
      [""],
    ));

  it("ppo", () =>
    compare(
      (run) => {
        const base = newBase();
        const models = { policy: actorOn(base), reference: base, critic: scorerOn(base), rewards: lengthReward };
        const sizes = { rolloutBatchSize: 8, perDeviceTrainBatchSize: 4, responseLength: 6, maxSteps: 4 };
        return trainPpo({ ...models, tokenizer }, prompts(8), { ...sizes, learningRate: 1e-3 }, run);
      },
      ["", "value/"],
    ));

  it("raft with dropout", () =>
    compare(
      (run) => {
        const base = newBase();
        const models = { policy: actorOn(base), reference: base, rewards: lengthReward, tokenizer };
        const sizes = { maxSteps: 4, raftBatchSize: 8, topRewardPercentage: 0.5, responseLength: 5 };
        const more = {
          perDeviceTrainBatchSize: 4,
          learningRate: 1e-3,
          cleanText: "none",
          discardSample: "none",
        } as const;
        return trainRaft(models, prompts(8), { ...sizes, ...more }, run);
      },
      [""],
    ));
});
