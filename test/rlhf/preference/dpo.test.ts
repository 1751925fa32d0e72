/** DPO, KTO, ORPO and CPO on a tiny model: where they start, where references come from, that they learn and go on. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { caps } from "../../../src/gpu/device.ts";
import { CausalLM, type Model } from "../../../src/nn/models.ts";
import type { TrainEvent } from "../../../src/rlhf/events.ts";
import { cpoDefaults, trainCpo } from "../../../src/rlhf/preference/cpo.ts";
import { type DpoOptions, dpoDefaults, trainDpo } from "../../../src/rlhf/preference/dpo.ts";
import { ktoDefaults, mismatched, trainKto } from "../../../src/rlhf/preference/kto.ts";
import { orpoDefaults, trainOrpo } from "../../../src/rlhf/preference/orpo.ts";
import { precomputeReference } from "../../../src/rlhf/preference/reference.ts";
import { memoryFiles } from "../../../src/runtime/files.ts";
import { gpuReady } from "../../helpers.ts";
import { collect, metricsOf, pairs, tinyConfig } from "../tiny.ts";

beforeAll(gpuReady);

const opened: Model[] = [];
afterEach(() => {
  for (const model of opened.splice(0)) model.destroy();
});
const keep = <M extends Model>(model: M): M => {
  opened.push(model);
  return model;
};
const newModel = (seed = 1) => keep(new CausalLM(tinyConfig()).initialize(seed));
const lora = { rank: 4, alpha: 16, targets: "all-linear", dropout: 0.1 } as const;
const settings = { ...dpoDefaults, learningRate: 1e-2, batchSize: 4, maxSteps: 4 };

describe("DPO", () => {
  it("starts at ln 2 and learns, leaving its reference alone", async () => {
    const [policy, reference] = [newModel(), newModel()];
    const before = await reference.store.read();
    const train = pairs(8);
    const events = await collect(trainDpo({ policy, reference }, { ...settings, maxSteps: 8, train, eval: train }));
    const steps = metricsOf(events);
    expect(steps[0].loss).toBeCloseTo(Math.LN2, 6);
    expect(steps[0]["rewards/margins"]).toBeCloseTo(0, 6);
    expect(steps[0]["rewards/accuracies"]).toBe(0);
    expect(steps[7].loss).toBeLessThan(0.6);
    expect(events.at(-1)).toMatchObject({ metrics: { "eval_rewards/accuracies": 1 } });
    expect(await reference.store.read()).toEqual(before);
  });

  it("is the same with a model, with the adapter off, and with what was computed before", async () => {
    const base = newModel();
    const run = async (reference: "adapter off" | "precomputed" | CausalLM, train = pairs(8)) => {
      const policy = keep(new CausalLM({ base, lora }).initialize(2));
      return metricsOf(await collect(trainDpo({ policy, reference }, { ...settings, train })));
    };
    const off = await run("adapter off");
    expect(off[0].loss).toBeCloseTo(Math.LN2, 6);
    expect(off[3].loss).not.toBeCloseTo(Math.LN2, 3);
    expect(await run(newModel())).toEqual(off);
    const computed = await run("precomputed", await precomputeReference(base, pairs(8)));
    for (const [i, step] of computed.entries()) expect(step.loss).toBeCloseTo(off[i].loss, 5);
  });
});

/** The answers of pairs, good and bad ones in turn. */
const labelled = (n: number) =>
  pairs(n).flatMap(({ chosen, rejected, promptLength }) => [
    { ids: chosen, promptLength, label: true },
    { ids: rejected, promptLength, label: false },
  ]);

describe("what goes into a step", () => {
  it("adds micro-batches up to the big batch", async () => {
    const run = async (more: Partial<DpoOptions>) => {
      const [policy, reference] = [newModel(), newModel()];
      const train = pairs(12);
      return metricsOf(await collect(trainDpo({ policy, reference }, { ...settings, ...more, train, maxSteps: 3 })));
    };
    const big = await run({ batchSize: 6 });
    const small = await run({ batchSize: 2, accumulation: 3 });
    for (const [i, step] of big.entries()) {
      for (const [name, value] of Object.entries(step)) {
        // Means over a batch's tokens, which TRL averages over batches.
        if (!name.startsWith("logits/")) expect(small[i][name], name).toBeCloseTo(value, 3);
      }
    }
  });

  it("weighs every loss and adds the likelihood", async () => {
    const first = async (more: Partial<DpoOptions>) => {
      const [policy, reference] = [newModel(), newModel()];
      const options = { ...settings, ...more, train: pairs(4), maxSteps: 1 };
      return metricsOf(await collect(trainDpo({ policy, reference }, options)))[0];
    };
    const { nll_loss: nll } = await first({ losses: [{ type: "sft", weight: 1 }] });
    expect(nll).toBeGreaterThan(1);
    const losses = [
      { type: "sigmoid", weight: 0.5 },
      { type: "hinge", weight: 2 },
      { type: "sft", weight: 0.25 },
    ] as const;
    expect((await first({ losses })).loss).toBeCloseTo(0.5 * Math.LN2 + 2 + 0.25 * nll, 5);
    const rpo = await first({ rpoAlpha: 0.5, rpoOver: "completion" });
    expect(rpo.loss).toBeCloseTo(Math.LN2 + 0.5 * nll, 5);
    expect((await first({ rpoAlpha: 0.5 })).nll_loss).not.toBeCloseTo(nll, 4);
  });

  it("drops adapters out only where it is asked to", async () => {
    const base = newModel();
    const run = async (disableDropout: boolean) => {
      const policy = keep(new CausalLM({ base, lora }).initialize(2));
      const options = { ...settings, train: pairs(4), disableDropout };
      return metricsOf(await collect(trainDpo({ policy, reference: "adapter off" }, options)));
    };
    const [without, again, dropped] = [await run(true), await run(true), await run(false)];
    expect(again).toEqual(without);
    expect(dropped[3].loss).not.toBeCloseTo(without[3].loss, 5);
  });

  it("rounds policy and reference alike in half precision", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const train = pairs(8);
    const more = { ...settings, fp16: true, useWeighting: true, train };
    const [first, , , last] = metricsOf(await collect(trainDpo({ policy: newModel(), reference: newModel() }, more)));
    expect(first["rewards/margins"]).toBe(0);
    expect(last.loss).toBeLessThan(first.loss);
    const policy = newModel();
    const computed = { ...more, train: await precomputeReference(policy, train, { fp16: true }) };
    const [start] = metricsOf(await collect(trainDpo({ policy, reference: "precomputed" }, computed)));
    expect(start["rewards/margins"]).toBeCloseTo(0, 5);
    expect(start["rewards/chosen"]).toBeCloseTo(0, 5);
  });

  it("moves the reference to the policy", async () => {
    const [policy, reference] = [newModel(), newModel()];
    const before = await reference.store.read();
    const options = { ...settings, train: pairs(8), syncReference: true, syncSteps: 4, mixupAlpha: 0.25 };
    await collect(trainDpo({ policy, reference }, options));
    const [own, moved] = [await policy.store.read(), await reference.store.read()];
    for (const [name, values] of moved) {
      values.forEach((value, i) => {
        const expected = 0.25 * own.get(name)![i] + 0.75 * before.get(name)![i];
        expect(Math.abs(value - expected)).toBeLessThan(1e-6);
      });
    }
  });

  it("puts each KTO answer behind the prompt after its own", () => {
    const ids = (...values: number[]) => Uint32Array.from(values);
    const batch = [
      { ids: ids(1, 2, 10, 11), promptLength: 2 },
      { ids: ids(3, 20), promptLength: 1 },
      { ids: ids(4, 5, 6, 30, 31, 32), promptLength: 3 },
    ];
    expect(mismatched(batch, 5)).toEqual([
      { ids: ids(1, 2, 30, 31, 32), promptLength: 2 },
      { ids: ids(3, 10, 11), promptLength: 1 },
      { ids: ids(4, 5, 6, 20), promptLength: 3 },
    ]);
  });
});

describe("the others learn", () => {
  it("KTO starts at a half and comes to prefer good answers", async () => {
    const [policy, reference] = [newModel(), newModel()];
    const train = labelled(8);
    const options = { ...ktoDefaults, learningRate: 1e-2, batchSize: 8, maxSteps: 10, train, eval: train, beta: 0.5 };
    const events = await collect(trainKto({ policy, reference }, options));
    const first = metricsOf(events)[0];
    expect(first.loss).toBeCloseTo(0.5, 6);
    expect(first.kl).toBeCloseTo(0, 5);
    const { metrics } = events.at(-1) as TrainEvent & { type: "end" };
    expect(metrics["eval_rewards/margins"]).toBeGreaterThan(0.1);
  });

  it("ORPO and SimPO need no reference", async () => {
    const train = pairs(8);
    const more = { learningRate: 1e-2, batchSize: 4, maxSteps: 10, train, eval: train };
    const simpo = { lossType: "simpo", beta: 2, simpoGamma: 1, cpoAlpha: 0 } as const;
    for (const trainer of [
      trainOrpo(newModel(), { ...orpoDefaults, ...more, beta: 1 }),
      trainCpo(newModel(), { ...cpoDefaults, ...more, ...simpo }),
    ]) {
      const events = await collect(trainer);
      const { metrics } = events.at(-1) as TrainEvent & { type: "end" };
      expect(metrics["eval_rewards/accuracies"]).toBeGreaterThan(0.8);
      expect(metrics.eval_loss).toBeLessThan(metricsOf(events)[0].loss);
    }
  });
});

describe("resume", () => {
  type Run = { files: ReturnType<typeof memoryFiles>; path: string };
  type Start = (run: Run, signal: AbortSignal, resume: boolean) => AsyncGenerator<TrainEvent>;

  /** Runs once to its end, and once with a stop after every step: the same metrics and files, bit for bit. */
  const compare = async (start: Start, steps: number, files: readonly string[]) => {
    const never = new AbortController().signal;
    const whole = { files: memoryFiles(), path: "run" };
    const straight = metricsOf(await collect(start(whole, never, false)));
    const broken = { files: memoryFiles(), path: "run" };
    const parts: Record<string, number>[] = [];
    for (let i = 0; parts.length < steps; i++) {
      const controller = new AbortController();
      for await (const event of start(broken, controller.signal, i > 0)) {
        if (event.type === "start") controller.abort();
        if (event.type === "step") parts.push(event.metrics);
      }
      for (const model of opened.splice(0)) model.destroy();
    }
    await collect(start(broken, never, true));
    expect(parts).toEqual(straight);
    for (const file of files) {
      expect(await broken.files.read(`run/${file}`)).toEqual(await whole.files.read(`run/${file}`));
    }
  };

  it("DPO, with the running mean of bco_pair and a reference that moves", () =>
    compare(
      (run, signal, resume) => {
        const inputs = { policy: newModel(), reference: newModel() };
        const losses = [{ type: "bco_pair", weight: 1 }] as const;
        const sync = { syncReference: true, syncSteps: 2, mixupAlpha: 0.5 };
        const sizes = { batchSize: 2, accumulation: 2, maxSteps: 5, train: pairs(6) };
        return trainDpo(inputs, { ...settings, ...sizes, ...sync, losses, beta: 1, run, signal, resume });
      },
      5,
      ["model.safetensors"],
    ));

  it("DPO of an adapter, with what was computed before", () =>
    compare(
      async function* (run, signal, resume) {
        const base = newModel();
        const policy = keep(new CausalLM({ base, lora }).initialize(2));
        const train = await precomputeReference(base, pairs(6));
        yield* trainDpo({ policy, reference: "precomputed" }, { ...settings, train, run, signal, resume });
      },
      4,
      ["adapter_model.safetensors"],
    ));

  it("KTO", () =>
    compare(
      (run, signal, resume) => {
        const inputs = { policy: newModel(), reference: newModel() };
        const sizes = { learningRate: 1e-2, batchSize: 4, maxSteps: 4, train: labelled(5) };
        return trainKto(inputs, { ...ktoDefaults, ...sizes, run, signal, resume });
      },
      4,
      ["model.safetensors"],
    ));
});

describe("what cannot be", () => {
  const inputs = () => ({ policy: newModel(), reference: newModel() });
  const next = (trainer: AsyncGenerator<TrainEvent>) => collect(trainer);
  const train = pairs(4);

  it("names the reason", async () => {
    await expect(
      next(trainDpo({ policy: newModel(), reference: "adapter off" }, { ...settings, train })),
    ).rejects.toThrow(/the policy has none: give a model/);
    await expect(
      next(trainDpo({ policy: newModel(), reference: "precomputed" }, { ...settings, train })),
    ).rejects.toThrow(/no reference log-probabilities .* precomputeReference/);
    await expect(next(trainDpo(inputs(), { ...settings, train: [] }))).rejects.toThrow(/nothing to train on/);
    const base = newModel();
    const adapted = { policy: keep(new CausalLM({ base, lora }).initialize(2)), reference: "adapter off" } as const;
    await expect(next(trainDpo(adapted, { ...settings, train, syncReference: true }))).rejects.toThrow(
      /sync_ref_model needs a reference with weights of its own/,
    );
    const alone = { ...ktoDefaults, train: labelled(2), batchSize: 1 };
    await expect(next(trainKto(inputs(), alone))).rejects.toThrow(/at least 2/);
  });
});
