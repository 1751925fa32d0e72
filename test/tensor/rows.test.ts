import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { caps, layerNorm, logSoftmax, rmsNorm, scope, softmax, tensor, tokenLogProbs } from "webrlhf";
import { slotOptions, slotState } from "../../src/nn/sampling.ts";
import { forceRowVariant, rowPlan } from "../../src/tensor/ops/rows.ts";
import { Slots } from "../../src/tensor/ops/sample.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { byRow, checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);
afterEach(() => forceRowVariant(null));

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const rms = (row: Float64Array, w: Float64Array) => {
  const r = 1 / Math.sqrt(row.reduce((s, v) => s + v * v, 0) / row.length + 1e-3);
  return row.map((v, i) => v * r * w[i]);
};
const layer = (row: Float64Array, w: Float64Array, b: Float64Array) => {
  const mean = row.reduce((s, v) => s + v, 0) / row.length;
  const r = 1 / Math.sqrt(row.reduce((s, v) => s + (v - mean) ** 2, 0) / row.length + 1e-2);
  return row.map((v, i) => (v - mean) * r * w[i] + b[i]);
};
const logProbs = (row: Float64Array) => {
  const lse = Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
  return row.map((v) => v - lse);
};

it.runIf(globalThis.process?.env?.WEBRLHF_ADAPTER_KIND === "hardware")(
  "shares a row of many logits among as many invocations as there are",
  async () => {
    const cols = 16_500;
    const { maxInvocations, maxWorkgroupStorage } = caps();
    expect(rowPlan(cols).LANES).toBe(maxInvocations >= 1024 && maxWorkgroupStorage >= 20480 ? 1024 : 256);
    const x = values(2 * cols, 1, 3);
    const y = scope(() => logSoftmax(tensor(x, [2, cols])));
    expectClose(await y.read(), byRow(Float64Array.from(x), cols, logProbs), 1e-5, 1e-6);
    y.free("test");
  },
);

// Every adapter's test run covers the variant its own table chooses; these cover the others.
for (const variant of ["workgroup", "serial"] as const) {
  describe(`row kernels, ${variant} variant`, () => {
    for (const cols of [1, 5, 64, 301]) {
      it(`equals float64 with rows of ${cols}`, async () => {
        forceRowVariant(variant);
        expect(rowPlan(cols).variant).toBe(variant);
        const rows = 3;
        const x = input([rows, cols], cols, 3);
        const w = input([cols], 2);
        const b = input([cols], 3);
        const options = { gradRtol: 1e-4, rtol: 1e-5, inner: false };
        await checkOp(
          ([x, w]) => rmsNorm(x, w, 1e-3),
          [x, w],
          ([x, w]) => byRow(x, cols, (r) => rms(r, w)),
          options,
        );
        await checkOp(
          ([x, w, b]) => layerNorm(x, w, b, 1e-2),
          [x, w, b],
          ([x, w, b]) => byRow(x, cols, (r) => layer(r, w, b)),
          options,
        );
        await checkOp(
          ([x]) => softmax(x),
          [x],
          ([x]) => byRow(x, cols, (r) => logProbs(r).map(Math.exp)),
          options,
        );
        await checkOp(
          ([x]) => logSoftmax(x),
          [x],
          ([x]) => byRow(x, cols, logProbs),
          options,
        );
      });
    }

    it("samples the same tokens as the variant of the table", async () => {
      const sample = async () => {
        const slots = new Slots(5, 100, 4);
        slots.begin(false, 0);
        // Thresholds with barriers take software adapters long to compile: left to hardware.
        const thresholds = !(variant === "workgroup" && caps().kind === "cpu");
        scope(() => {
          const params = { maxNewTokens: 4, seed: 4, temperature: 0.9, topK: 40, topP: 0.9 };
          const state = (slot: number) => slotState(slotOptions(params, { vocabSize: 100, eosIds: [] }, 5 + slot));
          const promptLength = 5;
          slots.admit(range(5).map((slot) => ({ slot, state: state(slot), promptLength })));
          const needs = { sampled: true, topK: thresholds, topP: thresholds, penalty: false, biases: null };
          for (let i = 0; i < 4; i++) {
            slots.sample(tensor(values(5 * 100, i, 3), [5, 100]), slots.inputs(5).slots, i, needs);
          }
        });
        const steps = await slots.read(4, 5);
        slots.free();
        return steps.map(({ tokens }) => [...tokens]);
      };
      const expected = await sample();
      forceRowVariant(variant);
      expect(await sample()).toEqual(expected);
    });

    it("computes token log-probabilities", async () => {
      forceRowVariant(variant);
      const logits = values(66, 1, 3);
      const p = logProbs(Float64Array.from(logits));
      const got = scope(() => tokenLogProbs(tensor([1], [1, 1]), tensor(logits, [66, 1]), tensor(Uint32Array.of(65))));
      expect((await got.logProbs.read())[0]).toBeCloseTo(p[65], 5);
      expect((await got.entropy.read())[0]).toBeCloseTo(-p.reduce((s, v) => s + Math.exp(v) * v, 0), 5);
    });
  });
}

describe("rowPlan", () => {
  it("uses vectors of 4 where rows allow it, and no barriers on CPU adapters", () => {
    expect(rowPlan(64).width).toBe(4);
    expect(rowPlan(66).width).toBe(1);
    if (caps().kind === "cpu") expect(rowPlan(64).variant).not.toBe("workgroup");
  });
});
