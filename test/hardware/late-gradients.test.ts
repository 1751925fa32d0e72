/** Gradients that a GPU adds up from parts, several at a time. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, linear, rmsNorm, scope, stats, type Tensor, tensor } from "webrlhf";
import { empty, recordMany } from "../../src/tensor/core.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "../tensor/check.ts";

beforeAll(gpuReady);

const everything = globalThis.process?.env?.WEBRLHF_ADAPTER_KIND === "hardware";

// So many rows that the sums over them are split.
const [ROWS, IN, OUT] = [1200, 24, 20];
const x = values(ROWS * IN, 1);
const up = (i: number) => values(ROWS * OUT, 10 + i);
const before = values(OUT * IN, 2);

const leaf = (data: Float32Array, shape: number[], grad: Float32Array): Tensor => {
  const t = tensor(data, shape);
  t.requiresGrad = true;
  t.grad = tensor(grad, shape);
  return t;
};

/** d sum(dy_i . x W^T) / dW, on top of what is there, in float64. */
function expected(uses: number[]): Float64Array {
  const out = Float64Array.from(before);
  for (const use of uses) {
    const dy = up(use);
    for (let r = 0; r < ROWS; r++) {
      for (let o = 0; o < OUT; o++) {
        for (let i = 0; i < IN; i++) out[o * IN + i] += dy[r * OUT + o] * x[r * IN + i];
      }
    }
  }
  return out;
}

/** A loss whose gradients are dy_i at the outputs. */
function lossOf(outputs: Tensor[]): Tensor {
  const loss = empty([1]);
  recordMany("loss", outputs, [loss], () => outputs.map((y, i) => tensor(up(i), y.shape)));
  return loss;
}

describe("gradients of parameters", () => {
  it("are each added once to what was there, also those of one that is used twice", async () => {
    const weights = scope(() => {
      const input = tensor(x, [ROWS, IN]);
      const own = Array.from({ length: 6 }, (_, i) => leaf(values(OUT * IN, 20 + i), [OUT, IN], before));
      const outputs = [...own, own[0], own[1]].map((w) => linear(input, w));
      backward(lossOf(outputs));
      return own.map((w) => w.grad as Tensor);
    });
    for (const [i, grad] of weights.entries()) {
      expectClose(await grad.read(), expected(i < 2 ? [i, i + 6] : [i]), 3e-6, 1e-6, `weight ${i}`);
      grad.free("test");
    }
  });

  it.runIf(everything)("are added up four at a time", () => {
    scope(() => {
      const input = tensor(x, [ROWS, IN]);
      const own = Array.from({ length: 4 }, (_, i) => leaf(values(OUT * IN, 20 + i), [OUT, IN], before));
      const loss = lossOf(own.map((w) => linear(input, w)));
      const { dispatches } = stats();
      backward(loss);
      expect(stats().dispatches - dispatches).toBe(1 + 4 + 1); // the loss's own gradient, products, sums
    });
  });

  it("of norms too", async () => {
    const found = scope(() => {
      const input = tensor(x, [ROWS, IN]);
      input.requiresGrad = true;
      const own = [30, 31, 32].map((seed) => leaf(values(IN, seed), [IN], before.slice(0, IN)));
      const outputs = own.map((w) => rmsNorm(input, w));
      const loss = empty([1]);
      recordMany("loss", outputs, [loss], () => outputs.map((y, i) => tensor(values(ROWS * IN, 40 + i), y.shape)));
      backward(loss);
      return own.map((w) => w.grad as Tensor);
    });
    for (const [n, grad] of found.entries()) {
      const dy = values(ROWS * IN, 40 + n);
      const right = Float64Array.from(before.slice(0, IN));
      for (let r = 0; r < ROWS; r++) {
        const row = x.subarray(r * IN, (r + 1) * IN);
        const rstd = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / IN + 1e-6);
        for (let i = 0; i < IN; i++) right[i] += dy[r * IN + i] * row[i] * rstd;
      }
      expectClose(await grad.read(), right, 3e-6, 1e-6, `norm ${n}`);
      grad.free("test");
    }
  });

  it("of a backward() that failed are not left for the next one", async () => {
    const grad = scope(() => {
      const input = tensor(x, [ROWS, IN]);
      const failing = leaf(values(IN, 3), [IN], new Float32Array(IN));
      const w = leaf(values(OUT * IN, 4), [OUT, IN], before);
      const copy = empty([ROWS, IN]);
      recordMany("failing", [failing], [copy], () => {
        throw new Error("no gradient here");
      });
      const first = linear(input, w);
      expect(() => backward(lossOf([first, linear(copy, w)]))).toThrow("no gradient here");
      (w.grad as Tensor).write(before);
      backward(lossOf([linear(input, w)]));
      return w.grad as Tensor;
    });
    expectClose(await grad.read(), expected([0]), 3e-6, 1e-6);
    grad.free("test");
  });
});
