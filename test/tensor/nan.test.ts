/** NaN goes in and NaN comes out: nothing on the way makes a number of it. Rows that see no key on purpose stay 0. */
import { beforeAll, describe, expect, it } from "vitest";
import { attention, caps, grad, maximum, minimum, packing, scope, sum, type Tensor, tensor } from "webrlhf";
import { type AttentionVariant, attentionVariant } from "../../src/gpu/variants.ts";
import { cachedAttention } from "../../src/tensor/ops/kvcache.ts";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const nan = Number.NaN;
const read = async (make: () => Tensor): Promise<number[]> => {
  const made = scope(make);
  const values = Array.from((await made.read()) as Float32Array);
  made.free("test");
  return values;
};

describe("the lesser and the greater of two", () => {
  // What torch.minimum and torch.maximum give, with their gradients of the sum.
  const a = [1, 2, nan, 1, nan, -3, 0.5];
  const b = [1, 1, 1, nan, nan, 4, 0.5];
  const less = { y: [1, 1, nan, nan, nan, -3, 0.5], da: [0.5, 0, 1, 1, 1, 1, 0.5], db: [0.5, 1, 1, 1, 1, 0, 0.5] };
  const more = { y: [1, 2, nan, nan, nan, 4, 0.5], da: [0.5, 1, 1, 1, 1, 0, 0.5], db: [0.5, 0, 1, 1, 1, 1, 0.5] };

  it.each([
    ["minimum", minimum, less],
    ["maximum", maximum, more],
  ] as const)("are NaN where either is, and share the gradient of equals: %s", async (_, op, expected) => {
    for (const n of [7, 4]) {
      const [x, y] = [tensor(Float32Array.from(a.slice(0, n))), tensor(Float32Array.from(b.slice(0, n)))];
      expect(await read(() => op(x, y))).toEqual(expected.y.slice(0, n));
      expect(await read(() => grad((x: Tensor) => sum(op(x, y)))(x) as Tensor)).toEqual(expected.da.slice(0, n));
      expect(await read(() => grad((y: Tensor) => sum(op(x, y)))(y) as Tensor)).toEqual(expected.db.slice(0, n));
      x.free("test");
      y.free("test");
    }
  });

  it("are NaN for a NaN that is broadcast", async () => {
    const [x, one] = [tensor(new Float32Array([1, 2, 3]), [3, 1]), tensor(new Float32Array([nan, 2]), [1, 2])];
    expect(await read(() => maximum(x, one))).toEqual([nan, 2, nan, 2, nan, 3]);
    expect(await read(() => minimum(one, x))).toEqual([nan, 1, nan, 2, nan, 2]);
  });
});

/** One head of 4 columns: rows of a query, a key and a value. */
const rowsOf = (scores: readonly number[], values = scores.map((_, i) => i + 1)): Float32Array =>
  Float32Array.from(scores.flatMap((s, i) => [1, 0, 0, 0, s, 0, 0, 0, values[i], values[i], values[i], values[i]]));
const one = { heads: 1, kvHeads: 1, headDim: 4, scale: 1 };
const inf = Number.POSITIVE_INFINITY;

describe("attention", () => {
  const kinds = () => [
    ...new Set<AttentionVariant>(["direct", "tiled", attentionVariant(caps(), { T: "f32", d4: 16 })]),
  ];

  it.each([
    ["scores that are NaN", [0, nan, 0], [false, true, true]],
    ["scores that all overflow to minus infinity", [-inf, -inf, 0], [true, true, false]],
    ["a score that overflows to infinity", [0, inf, 0], [false, true, true]],
    ["scores that are as low as can be", [-2e38, -3e38, -1e31], [false, false, false]],
  ] as const)("is NaN in the rows that see %s", async (_, scores, isNan) => {
    for (const variant of kinds()) {
      for (const more of [{}, { window: 2 }]) {
        const qkv = tensor(rowsOf(scores), [3, 12]);
        const out = await read(() => attention(qkv, packing([3]), { ...one, ...more, variant }));
        const rows = [0, 1, 2].map((r) => out.slice(4 * r, 4 * r + 4));
        expect(
          rows.map((row) => row.every(Number.isNaN)),
          `${variant} ${JSON.stringify(more)}`,
        ).toEqual(isNan);
        expect(
          rows
            .flat()
            .filter((_, i) => !isNan[i >> 2])
            .every(Number.isFinite),
        ).toBe(true);
        qkv.free("test");
      }
    }
  });

  it("gives gradients that are no numbers to what made a row NaN", async () => {
    for (const variant of kinds()) {
      const qkv = tensor(rowsOf([0, nan, 0]), [3, 12]);
      const d = await read(
        () => grad((x: Tensor) => sum(attention(x, packing([3]), { ...one, variant })))(qkv) as Tensor,
      );
      // Query, key and value of row 1. WGSL leaves open which of NaN and infinity a product of NaN is; all show.
      for (const at of [12, 16, 20]) expect(d[at], `${variant}: ${d}`).not.toSatisfy(Number.isFinite);
      qkv.free("test");
    }
  });

  it("is 0 in rows of no sequence, and in those whose window holds padding alone", async () => {
    for (const variant of kinds()) {
      const qkv = tensor(rowsOf([1, 1, 1, 1, 1]), [5, 12]);
      const gaps = await read(() => attention(qkv, packing([2], [1], 5), { ...one, variant }));
      expect(gaps.slice(0, 4)).toEqual([0, 0, 0, 0]);
      expect(gaps.slice(12)).toEqual(new Array(8).fill(0));
      const padded = await read(() => attention(qkv, packing([5], [0], 5, [3]), { ...one, window: 2, variant }));
      expect(padded.slice(16)).toEqual(new Array(4).fill(0));
      expect(padded.every(Number.isFinite)).toBe(true);
      qkv.free("test");
    }
  });
});

describe("attention to a cache", () => {
  it.each([{ variant: "serial" }, { variant: "workgroup", splits: 1 }, { variant: "workgroup", splits: 2 }] as const)(
    "is NaN where scores are, and 0 without keys: %j",
    async (kernel) => {
      const slots: (readonly number[])[] = [[0, nan], [-inf, -inf], [0, 0], [-3e38, -2e38], [inf, 0], []];
      const capacity = 2;
      const keys = Float32Array.from(slots.flatMap((s) => [0, 1].flatMap((i) => [s[i] ?? nan, 0, 0, 0])));
      const values = new Float32Array(keys.length).fill(2);
      const query = Float32Array.from(slots.flatMap(() => [...rowsOf([0])]));
      const made = {
        q: tensor(query, [slots.length, 12]),
        k: tensor(keys, [slots.length, capacity, 4]),
        v: tensor(values, [slots.length, capacity, 4]),
        lengths: tensor(Uint32Array.from(slots, (s) => s.length)),
      };
      const out = await read(() => cachedAttention(made.q, made.k, made.v, made.lengths, { ...one, ...kernel }));
      expect(out.filter((_, i) => i % 4 === 0)).toEqual([nan, nan, 2, 2, nan, 0]);
      for (const one of Object.values(made)) one.free("test");
    },
  );
});
