/** AdamW with moments of 8 bits: against the same steps in float64, and against AdamW with whole moments. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { backward, mul, Parameter, ParameterStore, scope, sub, sum, type Tensor, tensor } from "webrlhf";
import { AdamW } from "webrlhf/nn";
import { decideStep, optimizerControl } from "../../src/tensor/ops/adamw.ts";
import { adamwStep8bit } from "../../src/tensor/ops/adamw-8bit.ts";
import { forceRowVariant } from "../../src/tensor/ops/rows.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);
afterEach(() => forceRowVariant(null));

/** All values that codes stand for, by code, as the format is defined. */
function valuesOfCodes(top: number): number[] {
  const all = [0];
  for (let e = 0; e <= top; e++) {
    const items = 2 ** e;
    for (let i = 1; i <= items; i++) all.push(10 ** (e - top) * (0.1 + (0.9 * i) / items));
  }
  return all;
}
const FIRST = valuesOfCodes(6);
const SECOND = valuesOfCodes(7);

const nearest = (all: readonly number[], x: number): number => {
  let best = 0;
  for (let c = 1; c < all.length; c++) if (Math.abs(all[c] - x) < Math.abs(all[best] - x)) best = c;
  return best;
};

const BLOCK = 64;
const [BETA1, BETA2, EPS] = [0.9, 0.999, 1e-8];

/** Moments as the GPU has them, read back. */
async function momentsOf(m: Tensor, v: Tensor, scales: Tensor) {
  const bytes = async (t: Tensor) => new Uint8Array((await t.readIds()).buffer);
  return { m: await bytes(m), v: await bytes(v), scales: await scales.read() };
}

const magnitude = (code: number) => FIRST[code & 127] * (code > 127 ? -1 : 1);

describe("adamwStep8bit", () => {
  it("has 128 and 256 values, from a millionth and a ten-millionth of the largest to itself", () => {
    expect([FIRST.length, SECOND.length]).toEqual([128, 256]);
    expect([FIRST[1], FIRST[127], SECOND[1], SECOND[255]].map((x) => Number(x.toPrecision(6)))).toEqual([
      1e-6, 1, 1e-7, 1,
    ]);
  });

  for (const variant of [null, "workgroup", "serial"] as const) {
    it(`takes each step as float64 does from the same codes (${variant ?? "as the adapter has it"})`, async () => {
      forceRowVariant(variant);
      const blocks = 37;
      const n = blocks * BLOCK;
      const p = Float64Array.from(values(n, 1));
      const [tp, tm, tv, ts] = [
        tensor(Float32Array.from(p)),
        tensor(new Uint32Array(n / 4)),
        tensor(new Uint32Array(n / 4)),
        tensor(new Float32Array(2 * blocks)),
      ];
      const control = optimizerControl();
      const [lr, weightDecay] = [1e-2, 0.1];
      for (let t = 1; t <= 6; t++) {
        const before = await momentsOf(tm, tv, ts);
        const weights = await tp.read();
        // Gradients of very different sizes within and between blocks; one block has none.
        const g = Float32Array.from(values(n, 10 + t), (x, i) =>
          i < BLOCK ? 0 : x * 10 ** (((i * 7) % 9) - 6) * 10 ** (-Math.floor(i / BLOCK) % 5),
        );
        scope(() => {
          const grads = tensor(g);
          decideStep([{ view: grads.view, size: n }], control, { maxNorm: 0, betas: [BETA1, BETA2] });
          const range = { params: tp.view, grads: grads.view, m: tm.view, v: tv.view, scales: ts.view, size: n };
          adamwStep8bit(range, control, { lr, betas: [BETA1, BETA2], eps: EPS, weightDecay });
        });
        const after = await momentsOf(tm, tv, ts);
        const moved = await tp.read();
        const expected = new Float64Array(n);
        for (let b = 0; b < blocks; b++) {
          const at = (i: number) => b * BLOCK + i;
          const m: number[] = [];
          const v: number[] = [];
          for (let i = 0; i < BLOCK; i++) {
            const gi = g[at(i)];
            m.push(BETA1 * magnitude(before.m[at(i)]) * before.scales[2 * b] + (1 - BETA1) * gi);
            v.push(BETA2 * SECOND[before.v[at(i)]] * before.scales[2 * b + 1] + (1 - BETA2) * gi * gi);
            const step = (lr / (1 - BETA1 ** t)) * (m[i] / (Math.sqrt(v[i] / (1 - BETA2 ** t)) + EPS));
            expected[at(i)] = weights[at(i)] * (1 - lr * weightDecay) - step;
          }
          const [most, mostV] = [Math.max(...m.map(Math.abs)), Math.max(...v)];
          expectClose(after.scales.subarray(2 * b, 2 * b + 2), [most, mostV], 0, 1e-5 * most + 1e-6 * mostV);
          for (let i = 0; i < BLOCK; i++) {
            // Where a value lies between two codes, rounding of f32 may choose either.
            const near = (all: readonly number[], code: number, x: number) => {
              const best = nearest(all, x);
              const error = Math.abs(all[code] - x) - Math.abs(all[best] - x);
              if (x < all[1]) return expect(code).toBeLessThanOrEqual(1); // the border lies at 0.55 of the least
              expect(error, `code ${code} for ${x}, nearest is ${best}`).toBeLessThan(2e-5 * x);
            };
            if (most > 0) near(FIRST, after.m[at(i)] & 127, Math.abs(m[i]) / most);
            if (most > 0 && after.m[at(i)] & 127) expect(after.m[at(i)] > 127).toBe(m[i] < 0);
            if (v[i] > 0) expect(after.v[at(i)]).toBeGreaterThan(0);
            if (v[i] > 1e-7 * mostV) near(SECOND, after.v[at(i)], v[i] / mostV);
          }
          if (most === 0) expect(after.m.subarray(at(0), at(BLOCK)).every((code) => code === 0)).toBe(true);
        }
        expectClose(moved, expected, 1e-5, 1e-6, `step ${t}`);
      }
      for (const one of [tp, tm, tv, ts, control]) one.free("test");
    });
  }

  it("changes nothing in a step that is skipped", async () => {
    const n = 2 * BLOCK;
    const [tp, tm, tv, ts] = [
      tensor(values(n, 1)),
      tensor(new Uint32Array(n / 4).fill(0x01020304)),
      tensor(new Uint32Array(n / 4).fill(0x05060708)),
      tensor(new Float32Array(4).fill(2)),
    ];
    const control = optimizerControl();
    scope(() => {
      const grads = tensor(new Float32Array(n).fill(Number.NaN));
      decideStep([{ view: grads.view, size: n }], control);
      const range = { params: tp.view, grads: grads.view, m: tm.view, v: tv.view, scales: ts.view, size: n };
      adamwStep8bit(range, control, { lr: 1 });
    });
    expect(await tp.read()).toEqual(values(n, 1));
    expect([...(await tm.readIds()), ...(await tv.readIds())]).toEqual([
      ...new Array(32).fill(0x01020304),
      ...new Array(32).fill(0x05060708),
    ]);
    expect([...(await ts.read())]).toEqual([2, 2, 2, 2]);
    for (const one of [tp, tm, tv, ts, control]) one.free("test");
  });
});

/** Least squares: the loss of `steps` steps, and the optimizer, which may go on from another one's state. */
async function descend(eightBit: boolean, steps: number, from?: { store: ParameterStore; optimizer: AdamW }) {
  const goal = values(96 * 50, 3);
  const weight = new Parameter([96, 50], { normal: 0.02 });
  const bias = new Parameter([70], { constant: 0.5 });
  [weight.name, bias.name] = ["weight", "bias"];
  const store = new ParameterStore([weight, bias], "test").initialize(1);
  const optimizer = new AdamW(store, { eightBit, maxGradNorm: 0 });
  if (from) {
    const found = await from.store.read();
    for (const p of store.parameters) p.value.write(found.get(p.name) as Float32Array);
    optimizer.load(await from.optimizer.state());
  }
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    const loss = scope(() => {
      const apart = sub(weight.value, tensor(goal, [96, 50]));
      const loss = sum(mul(apart, apart));
      backward(loss);
      backward(sum(mul(bias.value, bias.value)));
      optimizer.step(0.02);
      return loss;
    });
    losses.push((await loss.read())[0]);
    loss.free("test");
  }
  return { store, optimizer, losses };
}

describe("AdamW with eightBit", () => {
  it("descends as AdamW does, keeps vectors' moments whole, and takes a quarter of the memory", async () => {
    const [plain, small] = [await descend(false, 120), await descend(true, 120)];
    expect(small.losses[119]).toBeLessThan(0.02 * small.losses[0]);
    for (const [i, loss] of plain.losses.entries()) {
      expect(Math.abs(small.losses[i] - loss)).toBeLessThan(0.03 * plain.losses[0]);
    }
    const [whole, codes] = [await plain.optimizer.state(), await small.optimizer.state()];
    const bias = whole.m[0].subarray(4800, 4800 + 70); // 96 x 50 comes first, in whole blocks
    expectClose(codes.m[0].subarray(0, 70), bias, 1e-6);
    const bytes = (arrays: readonly { byteLength: number }[] = []) => arrays.reduce((all, a) => all + a.byteLength, 0);
    const all = bytes(codes.codes) + bytes(codes.m) + bytes(codes.v);
    expect(all).toBe(2 * 4800 + (4800 / 64) * 8 + 2 * 4 * 128);
    for (const { store, optimizer } of [plain, small]) {
      optimizer.destroy();
      store.destroy();
    }
  });

  it("goes on from its state bit for bit, and refuses that of whole moments", async () => {
    const straight = await descend(true, 9);
    const half = await descend(true, 5);
    const rest = await descend(true, 4, half);
    expect(rest.losses).toEqual(straight.losses.slice(5));
    const plain = await descend(false, 1);
    const state = await plain.optimizer.state();
    expect(() => half.optimizer.load(state)).toThrow(/a run with optim adamw_torch, and this one has adamw_8bit/);
    const codes = await half.optimizer.state();
    expect(() => plain.optimizer.load(codes)).toThrow(/a run with optim adamw_8bit, and this one has adamw_torch/);
    for (const { store, optimizer } of [straight, half, rest, plain]) {
      optimizer.destroy();
      store.destroy();
    }
  });
});
