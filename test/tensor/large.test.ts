/** Parameters that are larger than one binding: the same numbers as where one binding holds them. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  backward,
  caps,
  embedding,
  linear,
  mul,
  noGrad,
  Parameter,
  ParameterStore,
  QuantizedWeight,
  sum,
  type Tensor,
  tensor,
  tokenLogProbs,
} from "webrlhf";
import { AdamW, readControl } from "webrlhf/nn";
import { destroyBuffers } from "../../src/gpu/stream.ts";
import { RandomStream } from "../../src/runtime/rng.ts";
import { rowBlocks } from "../../src/tensor/ops/row-blocks.ts";
import { expectClose, gpuReady } from "../helpers.ts";

const ROWS = 5000;
const WIDTH = 24;
const LIMIT = 70_000; // bytes; the table has 480,000

let real = 0;
beforeAll(async () => {
  await gpuReady();
  real = caps().maxBinding;
});
const limit = (bytes: number) => {
  caps().maxBinding = bytes;
};
afterEach(() => limit(real));

const random = new RandomStream(5);
const numbers = (n: number) => Float32Array.from({ length: n }, () => random.uniform() - 0.5);
const table = numbers(ROWS * WIDTH);
const vector = numbers(40);
const hidden = numbers(5 * WIDTH);
// Frequent ids, both ends of the table and of its blocks, and one past the end.
const ids = Uint32Array.from({ length: 600 }, (_, i) => (i < 400 ? 7 : [0, 639, 640, 1279, 1280, 4999, 4998][i % 7]));

/** A store of a large table between small parameters; `x` is [rows, WIDTH]. */
function store(rows: number) {
  const shapes = [[rows, WIDTH], [ROWS, WIDTH], [40]];
  const parameters = shapes.map((shape) => new Parameter(shape, { constant: 0 }));
  parameters.forEach((p, i) => {
    p.name = `p${i}`;
  });
  const made = new ParameterStore(parameters, "test");
  const [x, large, bias] = parameters.map((p) => p.value);
  x.write(hidden.slice(0, rows * WIDTH));
  large.write(table);
  bias.write(vector);
  return { made, large, x };
}

/** Runs `work` with and without the limit; it gives numbers to compare. */
async function both(
  work: (large: Tensor, made: ParameterStore, x: Tensor) => Promise<Float32Array[]>,
  rows = 5,
): Promise<void> {
  const results: Float32Array[][] = [];
  for (const bytes of [LIMIT, real]) {
    limit(bytes);
    const { made, large, x } = store(rows);
    expect(rowBlocks(large).length).toBe(bytes === LIMIT ? 8 : 1);
    expect(made.chunks.length).toBe(bytes === LIMIT ? 9 : 1);
    results.push(await work(large, made, x));
    made.destroy();
  }
  const [cut, whole] = results;
  for (const [i, expected] of whole.entries()) expectClose(cut[i], expected, 1e-5, 1e-6, `result ${i}`);
}

/** The output, and the gradients of a weighted sum of it by the store's parameters. */
async function withGradient(made: ParameterStore, run: () => Tensor): Promise<Float32Array[]> {
  made.trainable();
  const y = run();
  const weights = tensor(
    Float32Array.from({ length: y.size }, (_, i) => ((i * 37) % 11) / 8 - 0.5),
    y.shape,
  );
  const values = await y.read();
  backward(sum(mul(y, weights)));
  const grads = await Promise.all(made.parameters.map((p) => (p.value.grad as Tensor).read()));
  return [values, ...grads];
}

describe("a table larger than a binding", () => {
  it("is written, read and cut into names like any other", () =>
    both(async (large, made) => {
      expect(await large.read()).toEqual(table);
      const all = await made.read();
      expect(all.get("p1")).toEqual(table);
      expect(all.get("p2")).toEqual(vector);
      expect(await large.readPart(5000, 7)).toEqual(table.slice(5000, 5007));
      return [];
    }));

  it("is an embedding", () => both((large, made) => withGradient(made, () => embedding(large, tensor(ids), ids))));

  it("gives the last row for ids past its end", () =>
    both(async (large) => [await embedding(large, tensor(Uint32Array.of(5, 50000, 999))).read()]));

  it.each([1, 3])("is a head for %i rows", (rows) =>
    both((large, made, x) => withGradient(made, () => linear(x, large)), rows),
  );

  it("takes a bias and a residual", () => {
    const [bias, residual] = [tensor(numbers(ROWS)), tensor(numbers(2 * ROWS), [2, ROWS])];
    return both((large, made, x) => withGradient(made, () => linear(x, large, { bias, residual })), 2);
  });

  it("scores tokens", () =>
    both((large, made, x) => {
      const targets = tensor(Uint32Array.of(0, 640, 1300, 4999, 7));
      return withGradient(made, () => tokenLogProbs(x, large, targets).logProbs);
    }));

  it("is updated by AdamW", () =>
    both(async (large, made) => {
      const optimizer = new AdamW(made, { weightDecay: 0.1 });
      backward(sum(mul(embedding(large, tensor(ids), ids), tensor(Float32Array.of(0.5)))));
      optimizer.step(0.01);
      const { gradNorm } = readControl(await optimizer.control.read());
      const values = await large.read();
      optimizer.destroy();
      return [values, Float32Array.of(gradNorm)];
    }));

  it.each(["bfloat16", "int8"] as const)("does the same when it is stored as %s", async (format) => {
    const results: Float32Array[][] = [];
    for (const bytes of [20_000, real]) {
      limit(real);
      const weight = QuantizedWeight.allocate([ROWS, WIDTH], format, "packed");
      weight.write(table);
      const [one, three] = [1, 2].map((rows) => tensor(hidden.slice(0, rows * WIDTH), [rows, WIDTH]));
      const few = tensor(Uint32Array.from([5, 0, 127, 128, 4999, 50_000, 640]));
      const targets = tensor(Uint32Array.of(4999, 200));
      limit(bytes);
      expect(weight.blocks().length > 5).toBe(bytes !== real);
      const outs = noGrad(() => [embedding(weight, few), tokenLogProbs(three, weight, targets).logProbs]);
      limit(bytes * 3); // the logits are larger than the limit above
      outs.push(...noGrad(() => [linear(one, weight), linear(three, weight)]));
      expect(weight.blocks().length > 1).toBe(bytes !== real);
      results.push(await Promise.all(outs.map((t) => t.read())));
      destroyBuffers(weight.buffers);
    }
    const [cut, whole] = results;
    for (const [i, expected] of whole.entries()) expectClose(cut[i], expected, 1e-5, 1e-6, `result ${i}`);
  });

  it("is made just below the limit of a binding, where its class of buffers is beyond", async () => {
    limit(1_500_003);
    const values = numbers(374_999);
    const made = tensor(values); // the next class has 1,572,864 bytes
    expect(await made.read()).toEqual(values);
    made.free("test");
  });

  it("is refused beyond the largest buffer", () => {
    const most = caps().maxBuffer;
    limit(LIMIT);
    caps().maxBuffer = 50_000;
    try {
      expect(() => store(5)).toThrow(
        /test parameters \(120000 floats, p1 .*\) needs 0\.5 MiB, but one buffer of this adapter holds/,
      );
    } finally {
      caps().maxBuffer = most;
    }
  });
});
