import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { caps, type DropoutKey, linear, scope, type Tensor, tensor } from "webrlhf";
import { philox, uint32 } from "../../src/runtime/rng.ts";
import { addLora, addLowRank, applyDropout, type LoraPart } from "../../src/tensor/ops/lora.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { checkOp, type Input, input, values } from "./check.ts";

beforeAll(gpuReady);

interface Part {
  rank: number;
  columns: number;
  /** Untouched output columns before it. */
  gap: number;
  scale: number;
}

/** y = x W^T + bias + residual + s (drop(x) A^T) B^T per part, in float64. */
function reference(n: number, k: number, out: number, parts: Part[], keep: (element: number) => number) {
  return ([x, w, a, bias, residual, ...bs]: Float64Array[]): Float64Array => {
    const y = residual.slice();
    for (let i = 0; i < n; i++) {
      for (let o = 0; o < out; o++) {
        y[i * out + o] += bias[o];
        for (let j = 0; j < k; j++) y[i * out + o] += x[i * k + j] * w[o * k + j];
      }
      let first = 0;
      let offset = 0;
      parts.forEach(({ rank, columns, gap, scale }, p) => {
        first += gap;
        for (let r = 0; r < rank; r++) {
          let low = 0;
          for (let j = 0; j < k; j++) low += x[i * k + j] * keep(i * k + j) * a[(offset + r) * k + j];
          for (let c = 0; c < columns; c++) y[i * out + first + c] += scale * low * bs[p][c * rank + r];
        }
        first += columns;
        offset += rank;
      });
    }
    return y;
  };
}

/** Whether the mask keeps an element, from the generator's definition: 0, or the factor that keeps the mean. */
const keeps = ({ seed, layer, step, pass, rate }: DropoutKey) => {
  return (e: number): number => {
    if (rate === 0) return 1;
    const word = philoxWord(seed, Math.floor(e / 4), layer, step, pass, e % 4);
    return word >= Math.round(rate * 2 ** 32) ? 1 / (1 - rate) : 0;
  };
};

const philoxWord = (seed: number, c0: number, c1: number, c2: number, c3: number, word: number): number =>
  philox(seed >>> 0, Math.floor(seed / 2 ** 32), c0, c1, c2, c3)[word];

const partsOf = (parts: Part[], bs: Tensor[]): LoraPart[] => {
  let first = 0;
  let rankOffset = 0;
  return parts.map(({ rank, columns, gap, scale }, i) => {
    const part = { b: bs[i], rankOffset, first: first + gap, scale };
    first += gap + columns;
    rankOffset += rank;
    return part;
  });
};

const shapes = fc.record({
  n: fc.constantFrom(1, 5, 35),
  k: fc.constantFrom(1, 7, 12),
  parts: fc.array(
    fc.record({
      rank: fc.constantFrom(1, 3, 4),
      columns: fc.constantFrom(1, 3, 8),
      gap: fc.constantFrom(0, 0, 1, 4),
      scale: fc.constantFrom(0.5, 1, 2),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  tail: fc.constantFrom(0, 0, 2),
  rate: fc.constantFrom(0, 0.3),
  seed: fc.constantFrom(1, 2 ** 40 + 5),
});

describe("the linear layer with adapters", () => {
  it("is y = x W^T + s (drop(x) A^T) B^T on its columns, with every gradient", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, async ({ n, k, parts, tail, rate, seed }) => {
        const out = tail + parts.reduce<number>((sum, p) => sum + p.gap + p.columns, 0);
        const rank = parts.reduce<number>((sum, p) => sum + p.rank, 0);
        const key = { seed, step: 3, pass: 1, layer: 7, rate };
        const op = ([x, w, a, bias, residual, ...bs]: Tensor[]) =>
          addLora(linear(x, w, { bias, residual }), x, a, partsOf(parts, bs), key);
        const inputs = [
          input([n, k], 1),
          input([out, k], 2),
          input([rank, k], 3),
          input([out], 4),
          input([n, out], 5),
          ...parts.map((p, i) => input([p.columns, p.rank], 6 + i)),
        ];
        await checkOp(op, inputs, reference(n, k, out, parts, keeps(key)));
      }),
      { numRuns: 6, seed: 1 },
    );
  });

  it("leaves the frozen weight alone and still passes gradients on", async () => {
    const parts = [{ rank: 2, columns: 4, gap: 2, scale: 0.5 }];
    const op = ([x, w, a, bias, residual, ...bs]: Tensor[]) =>
      addLora(linear(x, w, { bias, residual }), x, a, partsOf(parts, bs));
    const inputs = [
      input([5, 7], 1),
      input([6, 7], 2),
      input([2, 7], 3),
      input([6], 4),
      input([5, 6], 5),
      input([4, 2], 6),
    ];
    await checkOp(
      op,
      inputs,
      reference(5, 7, 6, parts, () => 1),
      { wrt: [0, 2, 5] },
    );
  });

  it("does so in f16, with sums in f32", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const parts = [
      { rank: 3, columns: 4, gap: 0, scale: 0.5 },
      { rank: 4, columns: 8, gap: 4, scale: 2 },
    ];
    const key = { seed: 1, step: 3, pass: 1, layer: 7, rate: 0.3 };
    const op = ([x, w, a, bias, residual, ...bs]: Tensor[]) =>
      addLora(linear(x, w, { bias, residual }), x, a, partsOf(parts, bs), key);
    const sizes = [[5, 12], [16, 12], [7, 12], [16], [5, 16], [4, 3], [8, 4]];
    const inputs = sizes.map((shape, i): Input => ({ ...input(shape, i + 1), dtype: "f16" }));
    await checkOp(op, inputs, reference(5, 12, 16, parts, keeps(key)), {
      rtol: 2e-3,
      gradRtol: 4e-3,
      wrt: [0, 2, 5, 6],
    });
  });

  it("takes rows in f16 with matrices in f32, and gives f32", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    // As many parts as are added in one dispatch, and one more.
    for (const count of [2, 7]) {
      const parts = Array.from({ length: count }, (_, i) => ({
        rank: 1 + (i % 2),
        columns: 2,
        gap: 0,
        scale: 1 + i / 4,
      }));
      const rank = parts.reduce((sum, part) => sum + part.rank, 0);
      const op = ([x, w, a, bias, residual, ...bs]: Tensor[]) =>
        addLora(linear(x, w, { bias, residual, type: "f32" }), x, a, partsOf(parts, bs));
      const sizes = [[5, 12], [16, 12], [rank, 12], [16], [5, 16], ...parts.map((part) => [2, part.rank])];
      const inputs = sizes.map((shape, i): Input => ({ ...input(shape, i + 1), dtype: i < 2 ? "f16" : "f32" }));
      const options = { rtol: 2e-3, gradRtol: 4e-3, wrt: [0, 2, 5, 6] };
      await checkOp(
        op,
        inputs,
        reference(5, 12, 16, parts, () => 1),
        options,
      );
    }
  });

  it.each([
    [9, 0],
    [40, 0.4],
  ])("equals the plain layer bit for bit while B is zero (%i rows, dropout %f)", async (n, rate) => {
    const [k, out] = [33, 20];
    const { plain, adapted } = scope(() => {
      const [x, w, a] = [
        tensor(values(n * k, 1), [n, k]),
        tensor(values(out * k, 2), [out, k]),
        tensor(values(5 * k, 3), [5, k]),
      ];
      const parts = [
        { b: tensor(new Float32Array(12), [4, 3]), rankOffset: 0, first: 1, scale: 2 },
        { b: tensor(new Float32Array(20), [10, 2]), rankOffset: 3, first: 8, scale: 2 },
      ];
      const key = { seed: 1, step: 0, pass: 0, layer: 0, rate };
      return { plain: linear(x, w), adapted: addLora(linear(x, w), x, a, parts, key) };
    });
    expect(await adapted.read()).toEqual(await plain.read());
    for (const t of [plain, adapted]) t.free("test");
  });

  it("adds B A to the rows of a weight, and takes it away again", async () => {
    const [k, out] = [7, 6];
    const start = values(out * k, 2);
    const [a, b] = [values(3 * k, 3), values(4 * 2, 4)];
    const w = tensor(start, [out, k]);
    const part = { b: tensor(b, [4, 2]), rankOffset: 1, first: 2, scale: 1.5 };
    const lows = tensor(a, [3, k]);
    addLowRank(w, lows, part);
    const expected = Float64Array.from(start);
    for (let c = 0; c < 4; c++)
      for (let r = 0; r < 2; r++)
        for (let j = 0; j < k; j++) expected[(2 + c) * k + j] += 1.5 * b[c * 2 + r] * a[(1 + r) * k + j];
    expectClose(await w.read(), expected, 1e-6);
    addLowRank(w, lows, part, -1);
    expectClose(await w.read(), start, 1e-6);
    for (const t of [w, lows, part.b]) t.free("test");
  });

  it("refuses parts that do not fit", () => {
    const t = (rows: number, columns: number) => tensor(new Float32Array(rows * columns), [rows, columns]);
    const call = (part: Partial<LoraPart>) =>
      scope(() => addLora(t(2, 6), t(2, 4), t(3, 4), [{ b: t(4, 2), rankOffset: 0, first: 0, scale: 1, ...part }]));
    expect(() => call({ rankOffset: 2 })).toThrow("passes A");
    expect(() => call({ first: 3 })).toThrow("passes A [3,4] or y [6]");
    expect(() => scope(() => addLora(t(2, 6), t(2, 5), t(3, 4), []))).toThrow("do not fit");
  });
});

describe("dropout", () => {
  it("is a function of its key, keeps the mean and drops what it should", async () => {
    const n = 4001;
    const key = { seed: 42, step: 5, pass: 2, layer: 3, rate: 0.25 };
    const draw = async (k: DropoutKey) => {
      const y = scope(() => applyDropout(tensor(new Float32Array(n).fill(1)), k));
      const kept = await y.read();
      y.free("test");
      return kept;
    };
    const first = await draw(key);
    expect(await draw(key)).toEqual(first);
    for (const other of [{ seed: 43 }, { step: 6 }, { pass: 3 }, { layer: 4 }]) {
      expect(await draw({ ...key, ...other })).not.toEqual(first);
    }
    const keep = keeps(key);
    expectClose(
      first,
      Float64Array.from({ length: n }, (_, e) => keep(e)),
      1e-6,
    );
    expect(first.filter((v) => v === 0).length / n).toBeCloseTo(0.25, 1);
    expect(uint32(42, 0, 3, 5, 2) >= 2 ** 30).toBe(first[0] > 0);
  });
});
