import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { backward, caps, type Predictor, scope, tensor, tokenDivergence } from "webrlhf";
import { empty, recordMany } from "../../src/tensor/core.ts";
import { forceRowVariant } from "../../src/tensor/ops/rows.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);

interface How {
  beta: number;
  temperature?: number;
  caps?: [number, number];
  /** Ids that both have; default: all of the student's. */
  vocab?: number;
}

/** Float64 reference: [divergences, the student's entropies]. */
function reference(
  [hidden, head, theirs, theirHead]: readonly ArrayLike<number>[],
  rows: number,
  { beta, temperature = 1, caps: [cap, capT] = [0, 0], vocab: shared }: How,
): [Float64Array, Float64Array] {
  const width = hidden.length / rows;
  const theirWidth = theirs.length / rows;
  const vocab = shared ?? head.length / width;
  const logOf = (x: ArrayLike<number>, w: ArrayLike<number>, inner: number, cap: number, r: number) => {
    const z = Array.from({ length: vocab }, (_, j) => {
      let sum = 0;
      for (let i = 0; i < inner; i++) sum += x[r * inner + i] * w[j * inner + i];
      return (cap ? cap * Math.tanh(sum / cap) : sum) / temperature;
    });
    const top = Math.max(...z);
    const lse = top + Math.log(z.reduce((s, v) => s + Math.exp(v - top), 0));
    return z.map((v) => v - lse);
  };
  const found = Array.from({ length: rows }, (_, r) => {
    const p = logOf(hidden, head, width, cap, r);
    const q = logOf(theirs, theirHead, theirWidth, capT, r);
    const m = p.map((lp, j) =>
      beta === 0 ? lp : beta === 1 ? q[j] : Math.log((1 - beta) * Math.exp(lp) + beta * Math.exp(q[j])),
    );
    const from = (a: number[], b: number[]) => a.reduce((s, la, j) => s + Math.exp(la) * (la - b[j]), 0);
    const divergence = beta === 0 ? from(q, p) : beta === 1 ? from(p, q) : beta * from(q, m) + (1 - beta) * from(p, m);
    return [divergence, -p.reduce((s, lp) => s + Math.exp(lp) * lp, 0)];
  });
  return [Float64Array.from(found, ([d]) => d), Float64Array.from(found, ([, h]) => h)];
}

const predictor = (hidden: Float32Array | number[], head: Float32Array | number[], rows: number): Predictor => {
  const width = hidden.length / rows;
  return { hidden: tensor(hidden, [rows, width]), head: tensor(head, [head.length / width, width]) };
};

describe("tokenDivergence", () => {
  it("equals float64 over random shapes, with gradients of the student's hidden states and head", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 5, max: 8 }), // few matmul variants: software adapters take seconds to compile them
        fc.constantFrom([4, 8], [3, 5]),
        fc.constantFrom(0, 0.1, 0.5, 1),
        fc.constantFrom(1, 0.7),
        fc.nat(1000),
        async (rows, [width, vocab], beta, temperature, seed) => {
          const [theirs, theirHead] = [values(rows * 4, seed + 3, 2), values(vocab * 4, seed + 4, 2)];
          await checkOp(
            ([hidden, head]) =>
              tokenDivergence({ hidden, head }, predictor(theirs, theirHead, rows), { beta, temperature }).divergence,
            [input([rows, width], seed + 1, 2), input([vocab, width], seed + 2, 2)],
            ([hidden, head]) => reference([hidden, head, theirs, theirHead], rows, { beta, temperature })[0],
            { rtol: 4e-6, gradRtol: 3e-5 },
          );
        },
      ),
      { numRuns: 10, seed: 8 },
    );
  });

  it.each([0, 0.3, 1])("caps the logits of both, each as its model does (beta %f)", async (beta) => {
    const [theirs, theirHead] = [values(24, 3, 2), values(32, 4, 2)];
    const how = { beta, caps: [1.5, 2.5] as [number, number], temperature: 0.7 };
    await checkOp(
      ([hidden, head]) => {
        const teacher = { ...predictor(theirs, theirHead, 6), softcap: 2.5 };
        return tokenDivergence({ hidden, head, softcap: 1.5 }, teacher, how).divergence;
      },
      [input([6, 4], 1, 2), input([8, 4], 2, 2)],
      ([hidden, head]) => reference([hidden, head, theirs, theirHead], 6, how)[0],
      { rtol: 4e-6, gradRtol: 3e-5, inner: false },
    );
  });

  it.each([0, 0.3, 1])("gives the same in chunks of the vocabulary and of the rows (beta %f)", async (beta) => {
    const [rows, vocab] = [128, 300];
    const data = [values(rows * 4, 2, 3), values(vocab * 4, 3, 3), values(rows * 8, 4, 2), values(vocab * 8, 5, 2)];
    const whole = await results(data, rows, { beta });
    const exact = reference(data, rows, { beta });
    expectClose(whole[0], exact[0], 3e-6, 3e-6);
    expectClose(whole[1], exact[1], 3e-6);
    // 64-column chunks of all rows, then 64-row blocks of 64 columns
    for (const budget of [2 * 128 * 64, 2 * 64 * 64]) {
      const chunked = await results(data, rows, { beta, budget });
      for (const [i, w] of whole.entries()) expectClose(chunked[i], w, 2e-5, 2e-6, `budget ${budget}, result ${i}`);
    }
  });

  it.each(["workgroup", "serial"] as const)("is the same however rows are shared out (%s)", async (variant) => {
    const [rows, vocab] = [70, 150];
    const data = [values(rows * 4, 2, 3), values(vocab * 4, 3, 3), values(rows * 8, 4, 2), values(vocab * 8, 5, 2)];
    forceRowVariant(variant);
    try {
      for (const beta of [0, 0.5, 1]) {
        const [divergence, entropy] = await results(data, rows, { beta, budget: 2 * 64 * 64 });
        const exact = reference(data, rows, { beta });
        expectClose(divergence, exact[0], 4e-6, 4e-6, `beta ${beta}`);
        expectClose(entropy, exact[1], 4e-6, 4e-6, `beta ${beta}`);
      }
    } finally {
      forceRowVariant(null);
    }
  });

  it("is over the ids that both have where one has more", async () => {
    const rows = 5;
    const data = [values(rows * 4, 2, 2), values(12 * 4, 3, 2), values(rows * 4, 4, 2), values(9 * 4, 5, 2)];
    const [divergence, , , dHead] = await results(data, rows, { beta: 1 });
    expectClose(divergence, reference(data, rows, { beta: 1, vocab: 9 })[0], 4e-6, 4e-6);
    expect([...dHead.subarray(36)].every((v) => v === 0)).toBe(true);
    expect([...dHead.subarray(0, 36)].some((v) => v !== 0)).toBe(true);
  });

  it.each([0, 0.5, 1])("is 0 without a gradient where both are the same (beta %f)", async (beta) => {
    const [hidden, head] = [values(20, 1, 20), values(40, 2, 3)];
    const found = await results([hidden, head, hidden, head], 5, { beta });
    for (const i of [0, 2, 3]) for (const v of found[i]) expect(Math.abs(v)).toBeLessThan(i === 0 ? 1e-6 : 3e-5);
  });

  it("is exact for large logits", async () => {
    // 1000 and 999 against 500 and 497: the divergence must not be the difference of numbers near 1000.
    const [p, q] = [1, 3].map((d) => 1 / (1 + Math.exp(-d)));
    const exact = p * Math.log(p / q) + (1 - p) * Math.log((1 - p) / (1 - q));
    const both = () => [predictor([1], [1000, 999, 0], 1), predictor([1], [500, 497, 0], 1)] as const;
    const found = scope(() => tokenDivergence(...both()).divergence);
    expectClose(await found.read(), [exact], 1e-5);
  });

  it("reads f16, with logits and gradients in f32", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const [rows, vocab] = [128, 300];
    const data = [values(rows * 4, 2, 2), values(vocab * 4, 3, 2), values(rows * 4, 4, 2), values(vocab * 4, 5, 2)];
    const exact = await results(data, rows, { beta: 0.5 });
    const half = await results(data, rows, { beta: 0.5, type: "f16" });
    for (const [i, h] of half.entries()) expectClose(h, exact[i], 4e-3, 4e-3, `result ${i}`);
    expect(half[0]).not.toEqual(exact[0]);
  });

  it("says what does not fit", () => {
    const one = () => predictor([1, 2, 3, 4], [1, 2, 3, 4], 2);
    const run = (a: Predictor, b: Predictor, o = {}) => scope(() => tokenDivergence(a, b, o));
    expect(() => run({ ...one(), head: tensor([1, 2, 3], [1, 3]) }, one())).toThrow(
      "the student's hidden is [2,2] but its head is [1,3]",
    );
    expect(() => run(one(), predictor([1, 2], [1, 2], 1))).toThrow("2 rows of the student, 1 of the teacher");
    expect(() => run(one(), one(), { beta: 1.5 })).toThrow("beta must be from 0 to 1");
    expect(() => run(one(), one(), { temperature: 0 })).toThrow("temperature must be positive");
  });
});

/** Both outputs, and the gradients of hidden states and head for a fixed gradient of the divergences. */
async function results(
  [hidden, head, theirs, theirHead]: readonly Float32Array[],
  rows: number,
  options: { beta: number; budget?: number; type?: "f32" | "f16" },
): Promise<Float32Array[]> {
  const kept = scope(() => {
    const own = predictor(hidden, head, rows);
    const { type } = options;
    const leaves = [own.hidden, type ? tensor(head, own.head.shape, type) : tensor(head, own.head.shape)];
    const grads = leaves.map((t) => {
      t.requiresGrad = true;
      t.grad = tensor(new Float32Array(t.size), t.shape);
      return t.grad;
    });
    const teacher = predictor(theirs, theirHead, rows);
    const other = type ? { ...teacher, head: tensor(theirHead, teacher.head.shape, type) } : teacher;
    const out = tokenDivergence({ hidden: leaves[0], head: leaves[1] }, other, options);
    const copies = [out.divergence, out.entropy].map((t) => t.alias(t.shape, "copy"));
    const loss = empty([1]);
    recordMany("loss", [out.divergence], [loss], () => [tensor(values(rows, 4))]);
    backward(loss);
    return [...copies, ...grads];
  });
  return Promise.all(kept.map((t) => t.read()));
}
