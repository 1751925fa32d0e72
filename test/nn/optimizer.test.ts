/** The optimizer over a parameter store against torch.optim.AdamW after clip_grad_norm_. */
import { beforeAll, describe, expect, it } from "vitest";
import { Parameter, ParameterStore } from "webrlhf";
import { AdamW, learningRateAt, readControl, type ScheduleName } from "webrlhf/nn";
import { type FixtureArray, values } from "../fixture.ts";
import fixtures from "../fixtures/optimizer.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

type Named = Record<string, FixtureArray>;
const floats = (a: FixtureArray) => values(a) as Float32Array;

function storeOf(initial: Named): ParameterStore {
  const parameters = Object.entries(initial).map(([name, a]) => {
    const parameter = new Parameter(a.shape, { constant: 0 });
    parameter.name = name;
    return parameter;
  });
  const store = new ParameterStore(parameters, "test");
  for (const p of parameters) p.value.write(floats(initial[p.name]));
  return store;
}

describe("AdamW over a parameter store", () => {
  it.each(fixtures.cases.map((c) => [c.name, c] as const))("%s", async (_, reference) => {
    const store = storeOf(reference.params as Named);
    const [beta1, beta2] = reference.betas;
    const optimizer = new AdamW(store, {
      betas: [beta1, beta2],
      eps: reference.eps,
      weightDecay: reference.weightDecay.weight,
      maxGradNorm: reference.maxNorm,
    });
    // Half of the gradients doubled and a scale of one half: what two accumulated micro-batches give.
    for (const [i, step] of reference.steps.entries()) {
      const factor = i % 2 === 0 ? 1 : 2;
      for (const p of store.parameters) {
        p.value.grad?.write(floats((step.grads as Named)[p.name]).map((g) => g * factor));
      }
      optimizer.step(step.lr, 1 / factor);
      const control = readControl(await optimizer.control.read());
      expect(control).toMatchObject({ applied: true, steps: i + 1, skipped: 0 });
      expectClose([control.gradNorm], [step.gradNorm], 1e-6, 0, `gradient norm of step ${i}`);
      const found = await store.read();
      for (const [name, a] of Object.entries(step.params as Named)) {
        expectClose(found.get(name) as Float32Array, floats(a), 2e-6, 0, `${name} after step ${i}`);
      }
    }
    const state = await optimizer.state();
    for (const [name, moment] of store.split(state.m)) {
      expectClose(moment, floats((reference.expAvg as Named)[name]), 1e-5, 0, `first moment of ${name}`);
    }
    for (const [name, moment] of store.split(state.v)) {
      expectClose(moment, floats((reference.expAvgSq as Named)[name]), 1e-5, 0, `second moment of ${name}`);
    }
    optimizer.destroy();
    store.destroy();
  });
});

describe("learning rates as transformers schedules them", () => {
  it.each(fixtures.schedules.map((s) => [`${s.name}, warm-up ${s.warmup}`, s] as const))("%s", (_, reference) => {
    const { total, warmup, minRatio } = reference;
    const schedule = {
      name: reference.name as ScheduleName,
      learningRate: 0.5,
      total,
      warmup,
      minRatio: minRatio ?? undefined,
    };
    const found = reference.rates.map((_, step) => learningRateAt(schedule, step));
    expectClose(found, reference.rates, 1e-8, 0);
  });
});
