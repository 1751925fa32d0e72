/** Products that a GPU leaves in parts until somebody reads them. */
import { beforeAll, describe, expect, it } from "vitest";
import { add, caps, full, glu, linear, noGrad, rmsNorm, scope, stats, type Tensor, tensor } from "webrlhf";
import { empty } from "../../src/tensor/core.ts";
import { decodeAttention } from "../../src/tensor/ops/decode-attention.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "../tensor/check.ts";

beforeAll(gpuReady);

// Few rows of long sums, which a GPU splits.
const [ROWS, IN, OUT] = [19, 1024, 44];
const x = values(ROWS * IN, 1);
const w = values(OUT * IN, 2);
const skip = values(ROWS * OUT, 3);
const weight = values(OUT, 4);

/** x W^T, and what is added to it, in float64. */
function product(residual?: Float32Array): Float64Array {
  const y = new Float64Array(ROWS * OUT);
  for (let r = 0; r < ROWS; r++) {
    for (let c = 0; c < OUT; c++) {
      let sum = residual?.[r * OUT + c] ?? 0;
      for (let k = 0; k < IN; k++) sum += x[r * IN + k] * w[c * IN + k];
      y[r * OUT + c] = sum;
    }
  }
  return y;
}

const multiply = (residual?: Tensor): Tensor =>
  linear(tensor(x, [ROWS, IN]), tensor(w, [OUT, IN]), { residual, mayWait: true });

/** On GPUs it has not been added up yet. */
const expectWaiting = (y: Tensor) => expect(y.late !== null).toBe(caps().kind === "hardware");

async function close(t: Tensor, expected: Float64Array, what: string): Promise<void> {
  expectClose(await t.read(), expected, 4e-6, 4e-6, what);
  t.free("test");
}

describe("a product in parts", () => {
  it("is added up by the norm that reads it, for others too", async () => {
    const [h, y] = scope(() =>
      noGrad(() => {
        const sum = multiply(tensor(skip, [ROWS, OUT]));
        expectWaiting(sum);
        const normed = rmsNorm(sum, tensor(weight), 1e-3);
        expect(sum.late).toBe(null);
        return [sum, normed];
      }),
    );
    const exact = product(skip);
    const normed = exact.map((v, i) => {
      const row = exact.subarray(i - (i % OUT), i - (i % OUT) + OUT);
      return (v / Math.sqrt(row.reduce((sum, e) => sum + e * e, 0) / OUT + 1e-3)) * weight[i % OUT];
    });
    await close(h, exact, "sum");
    await close(y, normed, "norm");
  });

  it("is gated, and added up for who asks later", async () => {
    const [gateUp, h] = scope(() =>
      noGrad(() => {
        const both = multiply();
        const gated = glu(both, "silu");
        expectWaiting(both);
        return [both, gated];
      }),
    );
    const exact = product();
    const half = OUT / 2;
    const gated = Float64Array.from({ length: ROWS * half }, (_, i) => {
      const at = Math.floor(i / half) * OUT + (i % half);
      return (exact[at] / (1 + Math.exp(-exact[at]))) * exact[at + half];
    });
    await close(h, gated, "gated");
    await close(gateUp, exact, "both halves");
  });

  it("is the same in half precision: operands and results in f16, sums and what is added in f32", async (context) => {
    if (!caps().f16) return context.skip();
    const halves = (data: Float32Array, shape: [number, number]) => tensor(data, shape, "f16");
    const all = scope(() =>
      noGrad(() =>
        [true, false].flatMap((mayWait) => {
          const [rows, matrix] = [halves(x, [ROWS, IN]), halves(w, [OUT, IN])];
          const sum = linear(rows, matrix, { residual: tensor(skip, [ROWS, OUT]), type: "f32", mayWait });
          const both = linear(rows, matrix, { type: "f16", mayWait });
          const wide = values(64 * IN, 5);
          const qkv = linear(rows, halves(wide, [64, IN]), { type: "f16", mayWait });
          if (mayWait) for (const t of [sum, both, qkv]) expectWaiting(t);
          const normed = rmsNorm(sum, tensor(weight), 1e-3, { type: "f16" });
          // Of one token each attends to itself: what comes out are the values.
          const slots = tensor(Uint32Array.from({ length: ROWS }, (_, i) => i));
          const places = { slots, keys: empty([ROWS, 4, 16], "f16"), values: empty([ROWS, 4, 16], "f16") };
          const [firsts, ones] = [new Uint32Array(ROWS), new Uint32Array(ROWS).fill(1)];
          const heads = { heads: 2, kvHeads: 1, headDim: 16 };
          const attended = decodeAttention(qkv, tensor(firsts), tensor(ones), places, heads);
          return [sum, normed, glu(both, "silu"), both, attended, qkv];
        }),
      ),
    );
    const read = await Promise.all(all.map((t) => t.read()));
    expect(all.slice(0, 6).map((t) => t.dtype)).toEqual(["f32", "f16", "f16", "f16", "f16", "f16"]);
    for (let i = 0; i < 6; i++) expectClose(read[i], read[6 + i], 2e-3, 2e-3, `result ${i}`);
    const own = read[4].map((_, i) => read[5][Math.floor(i / 32) * 64 + 48 + (i % 16)]);
    expectClose(read[4], own, 2e-3, 2e-3, "values");
    for (const t of all) t.free("test");
  });

  it("keeps what is added to it, whose scope may have ended", async () => {
    const [y, others] = scope(() =>
      noGrad(() => {
        const sum = scope(() => multiply(add(tensor(skip, [ROWS, OUT]), tensor([1]))));
        expectWaiting(sum);
        return [sum, Array.from({ length: 8 }, () => full([ROWS, OUT], 7))]; // would take its memory
      }),
    );
    await close(
      y,
      product(skip).map((v) => v + 1),
      "sum",
    );
    for (const t of others) t.free("test");
  });

  it("gives its memory back where nobody reads it", () => {
    const run = () => scope(() => noGrad(() => void multiply(tensor(skip, [ROWS, OUT]))));
    run();
    const { buffersCreated } = stats();
    for (let i = 0; i < 5; i++) run();
    expect(stats().buffersCreated).toBe(buffersCreated);
  });

  it("is added up at once where a gradient is wanted", async () => {
    const y = scope(() => {
      const own = tensor(w, [OUT, IN]);
      own.requiresGrad = true;
      const sum = linear(tensor(x, [ROWS, IN]), own, { mayWait: true });
      expect(sum.late).toBe(null);
      return sum;
    });
    await close(y, product(), "sum");
  });
});
