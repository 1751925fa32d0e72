import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { scope, type Tensor, tensor } from "webrlhf";
import { readControl } from "webrlhf/nn";
import { adamwStep, decideStep, lossSeed, optimizerControl } from "../../src/tensor/ops/adamw.ts";
import { type FixtureArray, values as fixtureValues } from "../fixture.ts";
import fixtures from "../fixtures/optimizer.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

type Named = Record<string, FixtureArray>;
const floats = (a: FixtureArray) => Float32Array.from(fixtureValues(a));

interface Slot {
  params: Tensor;
  m: Tensor;
  v: Tensor;
}

const slot = (data: Float32Array): Slot => ({
  params: tensor(data),
  m: tensor(new Float32Array(data.length)),
  v: tensor(new Float32Array(data.length)),
});

const views = ({ params, m, v }: Slot, grads: Tensor) => ({
  params: params.view,
  grads: grads.view,
  m: m.view,
  v: v.view,
  size: params.size,
});

describe("AdamW against torch.optim.AdamW and clip_grad_norm_", () => {
  for (const c of fixtures.cases) {
    it(c.name, async () => {
      const names = Object.keys(c.params) as (keyof typeof c.params)[];
      const state = scope(() => ({
        control: optimizerControl(),
        slots: names.map((n) => slot(floats((c.params as Named)[n]))),
      }));
      const betas: [number, number] = [c.betas[0], c.betas[1]];
      for (const [t, step] of c.steps.entries()) {
        scope(() => {
          const grads = names.map((n) => tensor(floats((step.grads as Named)[n])));
          const ranges = grads.map((g) => ({ view: g.view, size: g.size }));
          decideStep(ranges, state.control, { maxNorm: c.maxNorm, betas });
          state.slots.forEach((s, i) => {
            const weightDecay = c.weightDecay[names[i]];
            adamwStep(views(s, grads[i]), state.control, { lr: step.lr, betas, eps: c.eps, weightDecay });
          });
        });
        const control = readControl(await state.control.read());
        expect(control).toMatchObject({ applied: true, steps: t + 1, skipped: 0 });
        expectClose([control.gradNorm], [step.gradNorm], 1e-6);
        for (const [i, n] of names.entries()) {
          expectClose(
            await state.slots[i].params.read(),
            floats((step.params as Named)[n]),
            2e-6,
            1e-7,
            `step ${t} ${n}`,
          );
        }
      }
      for (const [i, n] of names.entries()) {
        expectClose(await state.slots[i].m.read(), floats((c.expAvg as Named)[n]), 2e-6, 1e-9);
        expectClose(await state.slots[i].v.read(), floats((c.expAvgSq as Named)[n]), 2e-6, 1e-9);
      }
    });
  }
});

describe("decideStep", () => {
  it("adds the squares of several ranges of any size", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(1, 3, 4, 5, 64, 4096, 4100, 9001), { minLength: 1, maxLength: 4 }),
        async (sizes) => {
          const data = sizes.map((n, i) => values(n, i + 1));
          const control = scope(() => {
            const control = optimizerControl();
            const grads = data.map((d) => tensor(d));
            decideStep(
              grads.map((g) => ({ view: g.view, size: g.size })),
              control,
              { maxNorm: 0.5, gradScale: 0.25 },
            );
            return control;
          });
          const norm = 0.25 * Math.sqrt(data.reduce((s, d) => s + d.reduce((a, v) => a + v * v, 0), 0));
          const got = await control.read();
          control.free("test");
          expectClose([got[0], got[1]], [norm, 0.25 * Math.min(1, 0.5 / (norm + 1e-6))], 2e-6);
        },
      ),
      { numRuns: 8, seed: 6 },
    );
  });

  for (const [what, poison] of Object.entries({
    NaN: Number.NaN,
    Infinity: Number.NEGATIVE_INFINITY,
    overflow: 1e30,
  })) {
    it(`skips and counts a step with ${what}`, async () => {
      const start = values(100, 1);
      const bad = values(100, 2);
      bad[37] = poison;
      const { control, s } = scope(() => {
        const control = optimizerControl();
        const s = slot(start);
        for (const data of [bad, values(100, 3)]) {
          const g = tensor(data);
          decideStep([{ view: g.view, size: g.size }], control);
          adamwStep(views(s, g), control, { lr: 0.1 });
        }
        const g = tensor(bad);
        decideStep([{ view: g.view, size: g.size }], control);
        adamwStep(views(s, g), control, { lr: 0.1 });
        return { control, s };
      });
      const gradNorm = what === "NaN" ? Number.NaN : Number.POSITIVE_INFINITY;
      expect(readControl(await control.read())).toMatchObject({ applied: false, steps: 1, skipped: 2, gradNorm });
      // Exactly one update: the first step of Adam moves every parameter by lr in the direction of -gradient.
      const expected = start.map((p, i) => p - 0.1 * Math.sign(values(100, 3)[i]));
      expectClose(await s.params.read(), expected, 1e-4);
    });
  }
});

describe("adamwStep", () => {
  it("decays only the first part of a range", async () => {
    const s = scope(() => {
      const control = optimizerControl();
      const s = slot(new Float32Array(128).fill(1));
      const g = tensor(new Float32Array(128));
      decideStep([{ view: g.view, size: 128 }], control);
      adamwStep({ ...views(s, g), decayed: 64 }, control, { lr: 0.5, weightDecay: 0.5 });
      return s;
    });
    const got = await s.params.read();
    expect([got[0], got[63], got[64], got[127]]).toEqual([0.75, 0.75, 1, 1]);
  });
});

describe("the loss scale", () => {
  it("doubles after a run of good steps, halves with a skipped one, and leaves the update as it was", async () => {
    const control = scope(() => optimizerControl(true));
    const one = slot(Float32Array.of(1, 2, 3, 4));
    const plain = slot(Float32Array.of(1, 2, 3, 4));
    const plainControl = scope(() => optimizerControl());
    const gradient = [0.5, -1, 2, 0.25];
    const scales: (number | null)[] = [];
    for (const overflow of [false, false, false, true, false, false]) {
      const { lossScale } = readControl(await control.read(), control.size);
      scales.push(lossScale);
      scope(() => {
        const seed = lossSeed(control, 0.5) as Tensor;
        const factor = overflow ? Number.POSITIVE_INFINITY : 2 * (lossScale as number) * 0.5;
        const grads = tensor(gradient.map((g) => g * factor));
        decideStep([{ view: grads.view, size: 4 }], control, { growthSteps: 2 });
        adamwStep(views(one, grads), control, { lr: 0.1 });
        if (overflow) return;
        const same = tensor(gradient);
        decideStep([{ view: same.view, size: 4 }], plainControl);
        adamwStep(views(plain, same), plainControl, { lr: 0.1 });
        return seed;
      })?.free("test");
    }
    scales.push(readControl(await control.read(), control.size).lossScale);
    expect(scales).toEqual([65536, 65536, 131072, 131072, 65536, 65536, 131072]);
    expect(await one.params.read()).toEqual(await plain.params.read());
    expect(readControl(await control.read(), control.size)).toMatchObject({ steps: 5, skipped: 1 });
  });

  it("reaches the gradient through the seed, times a factor", async () => {
    const control = scope(() => optimizerControl(true));
    const seed = scope(() => lossSeed(control, 0.25) as Tensor);
    expect([...(await seed.read())]).toEqual([16384]);
    expect(
      lossSeed(
        scope(() => optimizerControl()),
        0.25,
      ),
    ).toBe(0.25);
  });
});
