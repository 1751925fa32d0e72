/** Sums over ranges, and sorting, with their gradients. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, mul, scope, segmentSums, sort, sum, tensor } from "webrlhf";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const leafOf = (data: Float32Array) => {
  const leaf = tensor(data);
  leaf.requiresGrad = true;
  leaf.grad = tensor(new Float32Array(data.length).fill(1)); // gradients add to what is there
  return leaf;
};

describe("segmentSums", () => {
  it("adds up ranges of any length, and sends gradients back to them alone", async () => {
    const x = values(1000, 1);
    const segments = [
      { first: 3, length: 0 },
      { first: 3, length: 1 },
      { first: 10, length: 63 },
      { first: 100, length: 64 },
      { first: 200, length: 65 },
      { first: 300, length: 700 },
    ];
    const weights = values(segments.length, 2);
    const leaf = leafOf(x);
    const y = scope(() => {
      const sums = segmentSums(leaf, segments);
      backward(sum(mul(sums, tensor(weights))));
      return segmentSums(leaf, segments);
    });
    const expected = segments.map(({ first, length }) => x.slice(first, first + length).reduce((a, b) => a + b, 0));
    expectClose(await y.read(), expected, 1e-5);
    const gradient = new Float32Array(x.length).fill(1);
    segments.forEach(({ first, length }, s) => {
      for (let t = first; t < first + length; t++) gradient[t] += weights[s];
    });
    expectClose(await leaf.grad!.read(), gradient, 1e-6);
  });

  it("knows its ranges until the gradient was taken, wherever it was called", async () => {
    const leaf = leafOf(values(3, 1));
    scope(() => {
      const sums = scope(() => segmentSums(leaf, [{ first: 1, length: 2 }]));
      backward(sum(sums));
    });
    expectClose(await leaf.grad!.read(), [1, 2, 2]);
  });

  it("refuses ranges beyond the vector", () => {
    expect(() => segmentSums(tensor([1, 2]), [{ first: 1, length: 2 }])).toThrow(
      "2 values from 1 on, in a vector of 2",
    );
  });
});

describe("sort", () => {
  it("sorts ascending, keeps the order of equal values, and sends gradients back", async () => {
    for (const n of [1, 2, 7, 64, 65, 200]) {
      const x = values(n, n).map((v) => Math.round(v * 20) / 20);
      const weights = values(n, n + 1);
      const leaf = leafOf(x);
      const y = scope(() => {
        backward(sum(mul(sort(leaf), tensor(weights))));
        return sort(leaf);
      });
      expect([...(await y.read())]).toEqual([...x].sort((a, b) => a - b));
      const order = [...x.keys()].sort((i, j) => x[i] - x[j] || i - j);
      const gradient = new Float32Array(n).fill(1);
      order.forEach((i, place) => {
        gradient[i] += weights[place];
      });
      expectClose(await leaf.grad!.read(), gradient, 1e-6);
    }
  });
});
