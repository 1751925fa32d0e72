import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { backward, caps, embedding, scope, tensor, tokenLogProbs } from "webrlhf";
import { empty, recordMany } from "../../src/tensor/core.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { checkOp, input, values } from "./check.ts";

beforeAll(gpuReady);

/** Float64 reference: [log-probabilities, entropies]. */
const reference =
  (width: number, targets: ArrayLike<number>, temperature = 1, cap = 0) =>
  ([hidden, head]: Float64Array[]) => {
    const rows = hidden.length / width;
    const vocab = head.length / width;
    const logProbs = new Float64Array(rows);
    const entropy = new Float64Array(rows);
    for (let r = 0; r < rows; r++) {
      const z = new Float64Array(vocab);
      for (let j = 0; j < vocab; j++) {
        for (let i = 0; i < width; i++) z[j] += hidden[r * width + i] * head[j * width + i];
        if (cap) z[j] = cap * Math.tanh(z[j] / cap);
        z[j] /= temperature;
      }
      const top = z.reduce((a, b) => Math.max(a, b));
      const lse = top + Math.log(z.reduce((s, v) => s + Math.exp(v - top), 0));
      logProbs[r] = z[targets[r]] - lse;
      entropy[r] = z.reduce((s, v) => s - Math.exp(v - lse) * (v - lse), 0);
    }
    return [logProbs, entropy];
  };

const draw = (rows: number, vocab: number, seed: number) =>
  Uint32Array.from(values(rows, seed), (v) => Math.floor(((v + 1) / 2) * vocab));

describe("tokenLogProbs", () => {
  it("says how probable the most probable token is, exactly as much as the target where it is that", async () => {
    const [rows, width, vocab] = [6, 8, 300];
    const [hidden, head] = [values(rows * width, 3, 2), values(vocab * width, 4, 2)];
    const logits = Array.from({ length: rows }, (_, r) =>
      Array.from({ length: vocab }, (_, j) =>
        Array.from({ length: width }, (_, i) => hidden[r * width + i] * head[j * width + i]).reduce((a, b) => a + b),
      ),
    );
    const likeliest = logits.map((row) => row.indexOf(Math.max(...row)));
    const measured = async (targets: readonly number[], budget: number) => {
      const out = tokenLogProbs(
        tensor(hidden, [rows, width]),
        tensor(head, [vocab, width]),
        tensor(Uint32Array.from(targets)),
        { budget },
      );
      return { logProbs: [...(await out.logProbs.read())], top: [...(await out.top.read())] };
    };
    for (const budget of [rows * vocab, rows * 64]) {
      const right = await measured(likeliest, budget);
      expect(right.logProbs).toEqual(right.top);
      const wrong = await measured(
        likeliest.map((id) => (id + 1) % vocab),
        budget,
      );
      expect(wrong.top).toEqual(right.top);
      for (const [r, logProb] of wrong.logProbs.entries()) expect(logProb).toBeLessThan(wrong.top[r]);
    }
  });

  it("equals float64 over random shapes, with gradients of both outputs", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 5, max: 8 }), // few matmul variants: software adapters take seconds to compile them
        fc.constantFrom([4, 8], [3, 5]),
        fc.constantFrom(1, 0.7),
        fc.nat(1000),
        async (rows, [width, vocab], temperature, seed) => {
          const targets = draw(rows, vocab, seed);
          await checkOp(
            ([hidden, head]) => {
              const out = tokenLogProbs(hidden, head, tensor(targets), { temperature });
              return [out.logProbs, out.entropy];
            },
            [input([rows, width], seed + 1, 2), input([vocab, width], seed + 2, 2)],
            reference(width, targets, temperature),
            { rtol: 3e-6, gradRtol: 3e-5, inner: false },
          );
        },
      ),
      { numRuns: 8, seed: 8 },
    );
  });

  it.each([1, 0.7])("caps logits before the temperature of %f, gradients included", async (temperature) => {
    const targets = draw(6, 8, 3);
    await checkOp(
      ([hidden, head]) => {
        const out = tokenLogProbs(hidden, head, tensor(targets), { temperature, softcap: 1.5 });
        return [out.logProbs, out.entropy];
      },
      [input([6, 4], 1, 2), input([8, 4], 2, 2)],
      reference(4, targets, temperature, 1.5),
      { rtol: 3e-6, gradRtol: 3e-5, inner: false },
    );
  });

  it("gives the same in chunks of the vocabulary and of the rows", async () => {
    const [rows, width, vocab] = [128, 4, 300];
    const targets = draw(rows, vocab, 1);
    const hidden = values(rows * width, 2, 3);
    const head = values(vocab * width, 3, 3);
    const whole = await gradients(hidden, head, targets, width, {});
    const exact = reference(width, targets)([Float64Array.from(hidden), Float64Array.from(head)]);
    expectClose(whole[0], exact[0], 3e-6);
    expectClose(whole[1], exact[1], 3e-6);
    // 64-column chunks of all rows, then 64-row blocks of 64 columns
    for (const budget of [128 * 64, 64 * 64]) {
      const chunked = await gradients(hidden, head, targets, width, { budget });
      whole.forEach((w, i) => {
        expectClose(chunked[i], w, 2e-5, 1e-6, `budget ${budget}, result ${i}`);
      });
    }
  });

  it("reads f16, whole and in chunks, with logits and gradients in f32", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const [rows, width, vocab] = [256, 4, 300];
    const targets = draw(rows, vocab, 1);
    const hidden = values(rows * width, 2, 3);
    const head = values(vocab * width, 3, 3);
    const exact = await gradients(hidden, head, targets, width, {});
    for (const budget of [rows * vocab, 128 * 128]) {
      const half = await gradients(hidden, head, targets, width, { budget, type: "f16" });
      half.forEach((h, i) => {
        expectClose(h, exact[i], 4e-3, 4e-3, `budget ${budget}, result ${i}`);
        expect(h).not.toEqual(exact[i]);
      });
    }
  });

  it("adds the gradients of a head tied to the embedding table", async () => {
    const ids = Uint32Array.from([2, 0, 2, 4, 1]);
    const targets = Uint32Array.from([0, 2, 4, 1, 3]);
    await checkOp(
      ([table]) => tokenLogProbs(embedding(table, tensor(ids), ids), table, tensor(targets)).logProbs,
      [input([5, 4], 3, 2)],
      ([table]) => {
        const hidden = Float64Array.from([...ids].flatMap((id) => Array.from(table.subarray(id * 4, id * 4 + 4))));
        return reference(4, targets)([hidden, table])[0];
      },
      { gradRtol: 5e-5 },
    );
  });

  it("is exact for large logits", async () => {
    // Logits 1000, 999 and 0: the entropy must not be the difference of two numbers near 1000.
    const { logProbs, entropy } = scope(() =>
      tokenLogProbs(tensor([1], [1, 1]), tensor([1000, 999, 0], [3, 1]), tensor(Uint32Array.of(1))),
    );
    const p = 1 / (1 + Math.exp(-1));
    expectClose(await logProbs.read(), [Math.log(1 - p)], 1e-4);
    expectClose(await entropy.read(), [-p * Math.log(p) - (1 - p) * Math.log(1 - p)], 1e-5);
  });

  it("says what does not fit", () => {
    const x = () => tensor([1, 2, 3, 4], [2, 2]);
    expect(() => scope(() => tokenLogProbs(x(), tensor([1, 2, 3], [1, 3]), tensor(Uint32Array.of(0, 0))))).toThrow(
      "hidden is [2,2] but head is [1,3]",
    );
    expect(() => scope(() => tokenLogProbs(x(), x(), tensor(Uint32Array.of(0))))).toThrow("targets must be u32 [2]");
  });
});

/** Both outputs and both gradients for fixed output gradients. */
async function gradients(
  hidden: Float32Array,
  head: Float32Array,
  targets: Uint32Array,
  width: number,
  options: { budget?: number; type?: "f32" | "f16" },
): Promise<Float32Array[]> {
  const rows = hidden.length / width;
  const kept = scope(() => {
    const leaves = [tensor(hidden, [rows, width]), tensor(head, [head.length / width, width], options.type)];
    const grads = leaves.map((t) => {
      t.requiresGrad = true;
      t.grad = tensor(new Float32Array(t.size), t.shape);
      return t.grad;
    });
    const out = tokenLogProbs(leaves[0], leaves[1], tensor(targets), options);
    const outputs = [out.logProbs, out.entropy];
    const copies = outputs.map((t) => t.alias(t.shape, "copy"));
    const loss = empty([1]);
    recordMany("loss", outputs, [loss], () => [tensor(values(rows, 4)), tensor(values(rows, 5))]);
    backward(loss);
    return [...copies, ...grads];
  });
  return Promise.all(kept.map((t) => t.read()));
}
