/** DPO, KTO, ORPO and CPO on a tiny model: where they start, where references come from, that they learn and go on. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { caps, finish, memoryFiles, mul, neg, scale, square } from "webrlhf";
import { CausalLM, type Model } from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import {
  cpo,
  dpo,
  precomputeReference,
  preferenceLosses,
  type RunFolder,
  registerPreferenceLoss,
  type TrainEvent,
  trainCpo,
  trainDpo,
  trainKto,
  trainOrpo,
} from "webrlhf/rlhf";
import { poolStats } from "../../src/gpu/pool.ts";
import { mismatched } from "../../src/rlhf/kto.ts";
import { gpuReady } from "../helpers.ts";
import { collect, metricsOf, pairs, tinyConfig, tokenizer } from "./tiny.ts";

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
const settings = { learningRate: 1e-2, perDeviceTrainBatchSize: 4, maxSteps: 4 };

describe("DPO", () => {
  it("starts at ln 2 and learns, leaving its reference alone", async () => {
    const [policy, reference] = [newModel(), newModel()];
    const before = await reference.store.read();
    const train = pairs(8);
    const events = await collect(trainDpo({ policy, reference }, { train, eval: train }, { ...settings, maxSteps: 8 }));
    const steps = metricsOf(events);
    expect(steps[0].loss).toBeCloseTo(Math.LN2, 6);
    expect(steps[0]["rewards/margins"]).toBeCloseTo(0, 6);
    expect(steps[0]["rewards/accuracies"]).toBe(0);
    expect(steps[7].loss).toBeLessThan(0.6);
    const { "rewards/chosen": won, "rewards/rejected": lost, "rewards/margins": margin } = steps[7];
    expect(margin).toBeCloseTo(won - lost, 6);
    expect(margin).toBeGreaterThan(0.1);
    expect(events.at(-1)).toMatchObject({ metrics: { "eval_rewards/accuracies": 1 } });
    expect(await reference.store.read()).toEqual(before);
  });

  it("is the same with a model, with the adapter off, and with what was computed before", async () => {
    const base = newModel();
    const run = async (reference?: CausalLM, precomputeRefLogProbs = false, train = pairs(8)) => {
      const policy = keep(new CausalLM({ base, lora }).initialize(2));
      const models = { policy, ...(reference && { reference }) };
      return metricsOf(await collect(trainDpo(models, train, { ...settings, precomputeRefLogProbs })));
    };
    const off = await run();
    expect(off[0].loss).toBeCloseTo(Math.LN2, 6);
    expect(off[3].loss).not.toBeCloseTo(Math.LN2, 3);
    expect(await run(newModel())).toEqual(off);
    const computed = await run(base, true);
    for (const [i, step] of computed.entries()) expect(step.loss).toBeCloseTo(off[i].loss, 5);
    expect(await run(undefined, true)).toEqual(computed);
    expect(await run(newModel(9), true, await precomputeReference(base, pairs(8)))).toEqual(computed);
  });

  it("measures against a copy of the policy where no reference is given, and says what it computes before", async () => {
    const train = pairs(8);
    const given = await collect(trainDpo({ policy: newModel(), reference: newModel() }, train, settings));
    expect(metricsOf(await collect(trainDpo({ policy: newModel() }, train, settings)))).toEqual(metricsOf(given));
    const [note, start] = await collect(
      trainDpo({ policy: newModel() }, train, { ...settings, precomputeRefLogProbs: true }),
    );
    expect(note).toMatchObject({ type: "note", text: "computed the reference's log-probabilities of 8 pairs" });
    expect(start.type).toBe("start");
  });

  it("makes pairs of a dataset for the policy's tokenizer, and gives back what it made when a consumer leaves", async () => {
    const row = { prompt: "Today Tim the cat wanted a hat.", chosen: " Tim ran.", rejected: " Tim sat." };
    const data = openDataset([row, { ...row, chosen: " Tim sat down." }]);
    const start = () => {
      const policy = newModel();
      policy.tokenizer = tokenizer;
      return trainDpo({ policy }, data, { ...settings, perDeviceTrainBatchSize: 2 });
    };
    expect(metricsOf(await collect(start()))[0].loss).toBeCloseTo(Math.LN2, 6);
    const held = async () => {
      for await (const event of start()) if (event.type === "step" && event.step === 2) break;
      for (const model of opened.splice(0)) model.destroy();
      await finish();
      return poolStats().poolBytes;
    };
    const once = await held();
    expect([await held(), await held()]).toEqual([once, once]);
    await expect(collect(trainDpo({ policy: newModel() }, data, settings))).rejects.toThrow(/need a tokenizer/);
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
    const run = async (more: Parameters<typeof dpo>[0]) => {
      const [policy, reference] = [newModel(), newModel()];
      const chosen = { ...settings, ...more, maxSteps: 3 };
      return metricsOf(await collect(trainDpo({ policy, reference }, pairs(12), chosen)));
    };
    const big = await run({ perDeviceTrainBatchSize: 6 });
    const small = await run({ perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 3 });
    for (const [i, step] of big.entries()) {
      for (const [name, value] of Object.entries(step)) {
        // Means over a batch's tokens, which TRL averages over batches.
        if (!name.startsWith("logits/")) expect(small[i][name], name).toBeCloseTo(value, 3);
      }
    }
  });

  it("weighs every loss and adds the likelihood", async () => {
    const first = async (more: Parameters<typeof dpo>[0]) => {
      const [policy, reference] = [newModel(), newModel()];
      const options = { ...settings, ...more, maxSteps: 1 };
      return metricsOf(await collect(trainDpo({ policy, reference }, pairs(4), options)))[0];
    };
    const { nll_loss: nll } = await first({ lossType: ["sft"] });
    expect(nll).toBeGreaterThan(1);
    const losses = { lossType: ["sigmoid", "hinge", "sft"], lossWeights: [0.5, 2, 0.25] };
    expect((await first(losses)).loss).toBeCloseTo(0.5 * Math.LN2 + 2 + 0.25 * nll, 5);
    const rpo = await first({ rpoAlpha: 0.5, rpoOver: "completion" });
    expect(rpo.loss).toBeCloseTo(Math.LN2 + 0.5 * nll, 5);
    expect((await first({ rpoAlpha: 0.5 })).nll_loss).not.toBeCloseTo(nll, 4);
  });

  it("drops adapters out only where it is asked to", async () => {
    const base = newModel();
    const run = async (disableDropout: boolean) => {
      const policy = keep(new CausalLM({ base, lora }).initialize(2));
      return metricsOf(await collect(trainDpo({ policy }, pairs(4), { ...settings, disableDropout })));
    };
    const [without, again, dropped] = [await run(true), await run(true), await run(false)];
    expect(again).toEqual(without);
    expect(dropped[3].loss).not.toBeCloseTo(without[3].loss, 5);
  });

  it("rounds policy and reference alike in half precision", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const train = pairs(8);
    const more = { ...settings, fp16: true, useWeighting: true };
    const models = { policy: newModel(), reference: newModel() };
    const [first, , , last] = metricsOf(await collect(trainDpo(models, train, more)));
    expect(first["rewards/margins"]).toBe(0);
    expect(last.loss).toBeLessThan(first.loss);
    const before = { ...more, precomputeRefLogProbs: true };
    const [start] = metricsOf(await collect(trainDpo({ policy: newModel() }, train, before)));
    expect(start["rewards/margins"]).toBeCloseTo(0, 5);
    expect(start["rewards/chosen"]).toBeCloseTo(0, 5);
  });

  it("moves the reference to the policy", async () => {
    const [policy, reference] = [newModel(), newModel()];
    const before = await reference.store.read();
    const sync = { syncRefModel: true, refModelSyncSteps: 4, refModelMixupAlpha: 0.25 };
    await collect(trainDpo({ policy, reference }, pairs(8), { ...settings, ...sync }));
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
    const options = { learningRate: 1e-2, perDeviceTrainBatchSize: 8, maxSteps: 10, beta: 0.5 };
    const events = await collect(trainKto({ policy, reference }, { train, eval: train }, options));
    const first = metricsOf(events)[0];
    expect(first.loss).toBeCloseTo(0.5, 6);
    expect(first.kl).toBeCloseTo(0, 5);
    const { metrics } = events.at(-1) as TrainEvent & { type: "end" };
    expect(metrics["eval_rewards/margins"]).toBeGreaterThan(0.1);
  });

  it("ORPO and SimPO need no reference", async () => {
    const train = pairs(8);
    const data = { train, eval: train };
    const more = { ...settings, maxSteps: 10 };
    const simpo = { lossType: "simpo", beta: 2, simpoGamma: 1, cpoAlpha: 0 } as const;
    for (const trainer of [
      trainOrpo({ policy: newModel() }, data, { ...more, beta: 1 }),
      trainCpo({ policy: newModel() }, data, { ...more, ...simpo }),
    ]) {
      const events = await collect(trainer);
      const { metrics } = events.at(-1) as TrainEvent & { type: "end" };
      expect(metrics["eval_rewards/accuracies"]).toBeGreaterThan(0.8);
      expect(metrics.eval_loss).toBeLessThan(metricsOf(events)[0].loss);
    }
  });
});

describe("resume", () => {
  type Start = (folder: RunFolder, signal: AbortSignal, resume: boolean) => AsyncGenerator<TrainEvent>;

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
      (folder, signal, resume) => {
        const models = { policy: newModel(), reference: newModel() };
        const loss = { lossType: ["bco_pair"], beta: 1 };
        const sync = { syncRefModel: true, refModelSyncSteps: 2, refModelMixupAlpha: 0.5 };
        const sizes = { ...settings, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, maxSteps: 5 };
        return trainDpo(models, pairs(6), { ...sizes, ...sync, ...loss }, { folder, signal, resume });
      },
      5,
      ["model.safetensors"],
    ));

  it("DPO of an adapter, with what was computed before", () =>
    compare(
      (folder, signal, resume) => {
        const base = newModel();
        const policy = keep(new CausalLM({ base, lora }).initialize(2));
        const chosen = { ...settings, precomputeRefLogProbs: true };
        return trainDpo({ policy, reference: base }, pairs(6), chosen, { folder, signal, resume });
      },
      4,
      ["adapter_model.safetensors"],
    ));

  it("KTO", () =>
    compare(
      (folder, signal, resume) => {
        const models = { policy: newModel(), reference: newModel() };
        return trainKto(models, labelled(5), settings, { folder, signal, resume });
      },
      4,
      ["model.safetensors"],
    ));
});

describe("losses by name", () => {
  const models = () => ({ policy: newModel(), reference: newModel(4) });
  const first = async (chosen: Parameters<typeof dpo>[0]) =>
    metricsOf(await collect(trainDpo(models(), pairs(4), { ...settings, ...chosen, maxSteps: 1 })))[0].loss;

  // Test files share a process, and others list the losses.
  afterAll(() => {
    for (const own of ["squared", "product"]) delete preferenceLosses[own];
  });

  it("include those of one's own, with what goes with them", async () => {
    registerPreferenceLoss("squared", {
      of: "delta",
      loss: ({ delta }, { beta }) => square(scale(delta, beta)),
    });
    registerPreferenceLoss("product", {
      of: "ratios",
      sorts: true,
      loss: ({ chosenRatio, rejectedRatio }) => neg(mul(chosenRatio, rejectedRatio)),
    });
    const [one, half] = [
      await first({ lossType: ["squared"], beta: 1 }),
      await first({ lossType: ["squared"], beta: 0.5 }),
    ];
    expect(one).toBeGreaterThan(0);
    expect(half).toBeCloseTo(one / 4, 6);
    expect(() => dpo({ lossType: ["squared"], lenPenalty: 1 })).not.toThrow();
    expect(() => dpo({ lossType: ["product"], lenPenalty: 1 })).toThrow(
      /lenPenalty does not apply to the loss product/,
    );
    expect(() => dpo({ lossType: ["product"], useWeighting: true })).toThrow(/useWeighting does not apply.*product/);
    expect(() => dpo({ lossType: ["squared"], labelSmoothing: 0.1 })).toThrow(
      /labelSmoothing does not apply to squared/,
    );
    expect(() => registerPreferenceLoss("ipo", { of: "delta", loss: ({ delta }) => delta })).toThrow(/ipo already/);
  });

  it("say which sort a batch, so that no loss of theirs is a pair's own", () => {
    for (const lossType of [["aot"], ["aot_pair"], ["aot_unpaired"], ["sigmoid", "aot_unpaired"]]) {
      expect(() => dpo({ lossType, useWeighting: true })).toThrow(/useWeighting does not apply to the loss aot/);
      expect(() => dpo({ lossType, labelSmoothing: 0.1 })).not.toThrow();
    }
    expect(() => dpo({ lossType: ["sigmoid", "kto_pair"], useWeighting: true })).not.toThrow();
  });

  it("must exist, and have a weight each", () => {
    expect(() => dpo({ lossType: ["sigmiod"] })).toThrow(
      /lossType: there is no "sigmiod" \(did you mean "sigmoid"\?\)/,
    );
    expect(() => dpo({ lossType: [] })).toThrow(/lossType names no loss/);
    expect(() => dpo({ lossType: ["ipo", "sft"], lossWeights: [1] })).toThrow(/lossWeights must be 2 numbers/);
    expect(() => dpo({ lossType: ["robust"], labelSmoothing: 0.5 })).toThrow(/below 0.5 for robust/);
    expect(() => dpo({ lossType: ["bco_pair"], fDivergenceType: "js_divergence" })).toThrow(
      /fDivergenceType js_divergence does not apply to the loss bco_pair/,
    );
    expect(() => cpo({ lossType: "hinge", labelSmoothing: 0.1 })).toThrow(/labelSmoothing does not apply to hinge/);
  });
});

describe("what cannot be", () => {
  it("names the reason", async () => {
    const train = pairs(4);
    const models = () => ({ policy: newModel(), reference: newModel() });
    await expect(collect(trainDpo(models(), [], settings))).rejects.toThrow(/nothing to train on/);
    const base = newModel();
    const policy = keep(new CausalLM({ base, lora }).initialize(2));
    await expect(collect(trainDpo({ policy }, train, { ...settings, syncRefModel: true }))).rejects.toThrow(
      /syncRefModel needs a reference with weights of its own/,
    );
    const before = { ...settings, precomputeRefLogProbs: true };
    const short = train.map((pair) => ({
      ...pair,
      reference: { chosen: new Float32Array(1), rejected: new Float32Array(1) },
    }));
    await expect(collect(trainDpo(models(), short, before))).rejects.toThrow(
      /1 reference log-probabilities .* precomputeReference/,
    );
    const alone = { perDeviceTrainBatchSize: 1 };
    await expect(collect(trainKto(models(), labelled(2), alone))).rejects.toThrow(
      /perDeviceTrainBatchSize .* at least 2/,
    );
  });
});
