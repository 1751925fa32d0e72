/** Gradients of plain tensors, ops of one's own, and what is refused, through the package's door. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  add,
  backward,
  caps,
  cast,
  checkGradient,
  clone,
  concat,
  defineOp,
  detach,
  grad,
  mean,
  mul,
  noGrad,
  reshape,
  scale,
  scope,
  slice,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "webrlhf";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

/** Reads tensors to the end of their lives. */
async function values(...tensors: Tensor[]): Promise<number[][]> {
  const all = await Promise.all(tensors.map(async (t) => [...(await t.read())]));
  for (const t of tensors) t.free("test");
  return all;
}

describe("grad", () => {
  it("is by the first argument, by another, or by several", async () => {
    const f = (x: Tensor, y: Tensor) => sum(mul(square(x), y));
    const [x, y] = [tensor([1, 2, 3]), tensor([4, 5, -6])];
    expect(await values(grad(f)(x, y))).toEqual([[8, 20, -36]]);
    expect(await values(grad(f, 1)(x, y))).toEqual([[1, 4, 9]]);
    expect(await values(...grad(f, [1, 0])(x, y))).toEqual([
      [1, 4, 9],
      [8, 20, -36],
    ]);
    const [value, dx] = valueAndGrad(f)(x, y);
    expect(await values(value, dx)).toEqual([[-30], [8, 20, -36]]);
    await values(x, y);
  });

  it("has the argument's shape, and is zeros where nothing depends on it", async () => {
    const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    const dx = grad((x: Tensor) => mean(square(x)))(x);
    expect(dx.shape).toEqual([2, 3]);
    const [found] = await values(dx);
    found.forEach((v, i) => {
      expect(v).toBeCloseTo((i + 1) / 3, 6);
    });
    const none = grad((x: Tensor, y: Tensor) => sum(add(mul(x, zeros([1])), y)), 1)(zeros([1]), x);
    expect(await values(none)).toEqual([Array(6).fill(1)]);
    expect(await values(grad((_: Tensor) => sum(tensor([1])))(x))).toEqual([Array(6).fill(0)]);
    await values(x);
  });

  it("leaves the surroundings' tape and its arguments as they are", async () => {
    const [w, x] = [tensor([2, 3]), tensor([5, 7])];
    w.requiresGrad = true;
    scope(() => {
      const y = mul(w, x);
      const inner = noGrad(() => grad((v: Tensor) => sum(square(v)))(x));
      const dw = backward(sum(mul(y, inner)));
      expect(dw).toBeUndefined();
      return w.grad;
    });
    expect([...(await (w.grad as Tensor).read())]).toEqual([50, 98]);
    expect(x.requiresGrad).toBe(false);
    expect(x.grad).toBeNull();
  });

  it("refuses what it cannot do", () => {
    const x = tensor([1, 2]);
    expect(() => grad((x: Tensor) => square(x))(x)).toThrow(/one element, not one of shape \[2\]/);
    expect(() => grad((x: Tensor) => sum(x), 1)(x)).toThrow(/argument 1, which is no tensor/);
    expect(() => grad((x: Tensor) => sum(x))(tensor(Uint32Array.of(1)))).toThrow(/holds integers/);
    x.requiresGrad = true;
    expect(() => grad((x: Tensor) => sum(square(x)))(x)).toThrow(/not differentiated again/);
  });
});

describe("a leaf that requires a gradient", () => {
  it("has it after backward(), adds the next one, and gets a new one in a new scope", async () => {
    const x = tensor([1, 2, 3]);
    x.requiresGrad = true;
    for (let i = 0; i < 2; i++) {
      const found = scope(() => {
        backward(sum(square(x)));
        if (i === 1) backward(sum(x));
        return x.grad as Tensor;
      });
      expect(await values(found)).toEqual([i === 0 ? [2, 4, 6] : [3, 5, 7]]);
    }
  });

  it("has it to itself where one tensor went to two leaves", async () => {
    const [a, b] = [tensor([1, 2]), tensor([3, 4])];
    for (const t of [a, b]) t.requiresGrad = true;
    const [da, db] = scope(() => {
      backward(sum(add(a, b)));
      backward(sum(mul(a, a)));
      return [a.grad as Tensor, b.grad as Tensor];
    });
    expect(await values(da, db)).toEqual([
      [3, 5],
      [1, 1],
    ]);
  });

  it("leaves the seed to whoever gave it", async () => {
    const x = tensor([3]);
    x.requiresGrad = true;
    const functions = [
      () => x,
      () => add(x, tensor([1])), // passes its gradient on as it is
      () => add(mul(mul(x, tensor([4])), tensor([5])), x), // adds to a gradient that was passed on
    ];
    for (const [i, f] of functions.entries()) {
      const seed = tensor([2]);
      const dx = scope(() => {
        for (let k = 0; k < 2; k++) backward(f(), seed);
        return x.grad as Tensor;
      });
      expect(await values(dx, seed)).toEqual([[i === 2 ? 84 : 4], [2]]);
    }
  });

  it("may be the loss itself", async () => {
    const x = tensor([3]);
    x.requiresGrad = true;
    const dx = scope(() => {
      backward(x, 2);
      return x.grad as Tensor;
    });
    expect(await values(dx)).toEqual([[2]]);
  });
});

describe("ops that move values", () => {
  it("carry gradients", async () => {
    const [a, b, c] = [tensor([1, 2, 3, 4], [2, 2]), tensor([5]), tensor([6, 7, 8])];
    expect(await checkGradient((a, b, c) => square(concat([a, b, c])), [a, b, c])).toBeLessThan(1e-3);
    expect(await checkGradient((a) => square(clone(a)), [a])).toBeLessThan(1e-3);
    expect(await checkGradient((a) => square(slice(a, 1, 2, 1)), [a])).toBeLessThan(1e-3);
    expect(await values(grad((a: Tensor) => sum(mul(a, detach(a))))(a))).toEqual([[1, 2, 3, 4]]);
  });

  it("cut a part out of any dimension, for any type", async () => {
    const shape = [3, 5, 7];
    const x = Float32Array.from({ length: 105 }, (_, i) => i - 50);
    const cuts = [
      [0, 1, 3],
      [1, 0, 4],
      [1, 4, 5],
      [2, 2, 7],
      [2, 0, 7],
      [2, 3, 3],
    ];
    for (const [axis, start, end] of cuts) {
      const at = (i: number) => [Math.floor(i / 35), Math.floor(i / 7) % 5, i % 7][axis];
      const inside = (i: number) => at(i) >= start && at(i) < end;
      const expected = [...x].filter((_, i) => inside(i));
      const given = tensor(x, shape);
      const y = slice(given, start, end, axis);
      expect(y.shape).toEqual(shape.with(axis, end - start));
      const dx = grad((x: Tensor) => sum(mul(slice(x, start, end, axis), slice(x, start, end, axis))))(given);
      const half = caps().f16 ? cast(slice(cast(given, "f16"), start, end, axis), "f32") : clone(y);
      expect(await values(y, half, dx)).toEqual([expected, expected, [...x].map((v, i) => (inside(i) ? 2 * v : 0))]);
      const ids = slice(
        tensor(
          Uint32Array.from(x, (v) => v + 50),
          shape,
        ),
        start,
        end,
        axis,
      );
      expect([...(await ids.readIds())]).toEqual(expected.map((v) => v + 50));
      await values(given);
    }
    expect(() => slice(zeros([2, 3]), 0, 1, 2)).toThrow("slice: [2,3] has no dimension 2");
    expect(() => slice(zeros([2, 3]), 1, 4, 1)).toThrow("slice: 1 to 4 of dimension 1 of [2,3]");
    expect(() => slice(zeros([2, 3]), -1, 1)).toThrow("slice: -1 to 1 of dimension 0 of [2,3]");
  });
});

const cube = defineOp({
  name: "cube",
  kernel: { inputs: ["x"], code: "fn value(i: u32) -> f32 { return x[i] * x[i] * x[i]; }" },
  vjp: (dy, { inputs: [x] }) => [mul(dy, scale(square(x), 3))],
});

const outer = defineOp({
  name: "outer",
  kernel: {
    inputs: ["a", "b"],
    code: "fn value(i: u32) -> f32 { return u.factor * a[i / u.columns] * b[i % u.columns]; }",
    params: { factor: "f32", columns: "u32" },
  },
  shape: ([a, b]) => [a[0], b[0]],
  vjp: (dy, { inputs: [a, b], params: { factor } }) => [
    scale(sum(mul(dy, b), 1), factor),
    scale(sum(mul(dy, reshape(a, [a.size, 1])), 0), factor),
  ],
});

describe("defineOp", () => {
  it("runs its kernel and takes gradients back", async () => {
    const x = tensor(Float32Array.from({ length: 131 }, (_, i) => Math.sin(i)));
    const [found] = await values(cube(x));
    found.forEach((v, i) => {
      expect(v).toBeCloseTo(Math.sin(i) ** 3, 6);
    });
    expect(await checkGradient((x) => softmax(cube(x)), [x])).toBeLessThan(1e-3);
    const [a, b] = [tensor([1, 2, -3]), tensor([0.5, 4])];
    const y = outer([a, b], { factor: 2, columns: 2 });
    expect(y.shape).toEqual([3, 2]);
    expect(await values(y)).toEqual([[1, 8, 2, 16, -3, -24]]);
    expect(await checkGradient((a, b) => square(outer([a, b], { factor: 2, columns: 2 })), [a, b])).toBeLessThan(1e-3);
  });

  it("has a wrong rule found by checkGradient", async () => {
    const wrong = defineOp({
      name: "cube_wrong",
      kernel: { inputs: ["x"], code: "fn value(i: u32) -> f32 { return x[i] * x[i] * x[i]; }" },
      vjp: (dy, { inputs: [x] }) => [mul(dy, scale(square(x), 2.9))],
    });
    await expect(checkGradient((x) => wrong(x), [tensor([1, 2])])).rejects.toThrow(/input 0 is wrong at element 0/);
  });

  it("says what is wrong with a call, or with itself", () => {
    const code = "fn value(i: u32) -> f32 { return x[i]; }";
    const still = defineOp({ name: "still", kernel: { inputs: ["x"], code } });
    expect(() => grad((x: Tensor) => sum(still(x)))(tensor([1]))).toThrow(
      /op still has no gradient: give defineOp a vjp/,
    );
    expect(() => still([tensor([1]), tensor([1])])).toThrow(/takes 1 inputs \(x\), not 2/);
    expect(() => still(tensor(Uint32Array.of(1)))).toThrow(/x holds u32/);
    expect(() => outer([tensor([1]), tensor([1])], { factor: 1 } as never)).toThrow(/needs the parameter columns/);
    expect(() => defineOp({ name: "bad", kernel: { inputs: ["y"], code } })).toThrow(/"y" cannot name an input/);
    const short = defineOp({ name: "short", kernel: { inputs: ["x"], code }, vjp: () => [] });
    expect(() => grad((x: Tensor) => sum(short(x)))(tensor([1]))).toThrow(/gives 0 gradients for 1 inputs/);
    const tall = defineOp({ name: "tall", kernel: { inputs: ["x"], code }, vjp: () => [zeros([5])] });
    expect(() => grad((x: Tensor) => sum(tall(x)))(tensor([1, 2, 3]))).toThrow(
      /gradient of tall has shape \[5\], not \[3\]/,
    );
    expect(() => sub(tensor([1, 2]), tensor([1, 2, 3]))).toThrow(/do not broadcast/);
  });
});
