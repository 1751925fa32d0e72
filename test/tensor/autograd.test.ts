import { beforeAll, describe, expect, it } from "vitest";
import {
  add,
  backward,
  binaryTable,
  checkpoint,
  exp,
  mean,
  mul,
  noGrad,
  openDevice,
  Parameter,
  ParameterStore,
  reshape,
  scale,
  scope,
  square,
  stats,
  sub,
  sum,
  type Tensor,
  tensor,
  unaryTable,
} from "webrlhf";
import * as elementwise from "../../src/tensor/ops/elementwise.ts";

beforeAll(() => openDevice());

/** A trainable store around given values. */
function leaves(...values: { data: number[]; shape: number[] }[]): Tensor[] {
  const parameters = values.map(({ shape }, i) => {
    const p = new Parameter(shape, { constant: 0 });
    p.name = `p${i}`;
    return p;
  });
  new ParameterStore(parameters, "test").trainable();
  return parameters.map((p, i) => {
    p.value.write(Float32Array.from(values[i].data));
    return p.value;
  });
}

describe("backward", () => {
  it("adds the gradients of a value used several times", async () => {
    const [x] = leaves({ data: [1, 2, 3], shape: [3] });
    scope(() => backward(sum(add(mul(x, x), scale(x, 3)))));
    expect([...(await (x.grad as Tensor).read())]).toEqual([5, 7, 9]);
  });

  it("accumulates over calls until the store is zeroed", async () => {
    const parameter = new Parameter([2], { constant: 2 });
    const store = new ParameterStore([parameter], "test").trainable();
    store.initialize(0);
    for (let i = 0; i < 3; i++) scope(() => backward(sum(square(parameter.value))));
    expect([...(await (parameter.value.grad as Tensor).read())]).toEqual([12, 12]);
    store.zeroGrad();
    expect([...(await (parameter.value.grad as Tensor).read())]).toEqual([0, 0]);
  });

  it("un-broadcasts in the engine", async () => {
    const [a, b, c] = leaves(
      { data: [1, 2, 3, 4, 5, 6], shape: [2, 3] },
      { data: [1, 10, 100], shape: [3] },
      { data: [2, 3], shape: [2, 1] },
    );
    scope(() => backward(sum(mul(mul(a, b), c))));
    expect([...(await (a.grad as Tensor).read())]).toEqual([2, 20, 200, 3, 30, 300]);
    expect([...(await (b.grad as Tensor).read())]).toEqual([14, 19, 24]);
    expect([...(await (c.grad as Tensor).read())]).toEqual([321, 654]);
  });

  it("skips frozen inputs and works with parameters only", async () => {
    const [w] = leaves({ data: [2], shape: [1] });
    const x = tensor([3]);
    scope(() => backward(sum(square(mul(w, x)))));
    expect([...(await (w.grad as Tensor).read())]).toEqual([36]);
    expect(x.grad).toBeNull();
  });

  it("keeps shared gradients apart when one tensor feeds two sums", async () => {
    const [x] = leaves({ data: [1, -2], shape: [2] });
    scope(() => {
      const h = scale(x, 2);
      const y = add(h, h);
      backward(sum(sub(add(y, square(h)), h)));
    });
    // d/dx of 2h + h^2 - h with h = 2x: (1 + 2h) * 2
    expect([...(await (x.grad as Tensor).read())]).toEqual([10, -14]);
  });

  it("records nothing under noGrad and refuses a loss without history", () => {
    const [x] = leaves({ data: [1], shape: [1] });
    const y = noGrad(() => exp(x));
    expect(() => backward(y)).toThrow(/depends on no parameter/);
  });

  it("goes through reshape", async () => {
    const [x] = leaves({ data: [1, 2, 3, 4], shape: [2, 2] });
    scope(() => backward(sum(square(reshape(x, [4])))));
    expect([...(await (x.grad as Tensor).read())]).toEqual([2, 4, 6, 8]);
  });
});

describe("scope", () => {
  it("frees what it does not return, and names the culprit on use after free", () => {
    let inner: Tensor | null = null;
    const kept = scope(() => {
      inner = tensor([1, 2, 3]);
      return scale(inner, 2);
    });
    expect(() => scale(inner as unknown as Tensor, 2)).toThrow(/made by tensor was used after the end of its scope/);
    expect(kept.freed).toBe(false);
    kept.free("test");
  });

  it("refuses promises", () => {
    expect(() => scope(async () => 1)).toThrow(/synchronous/);
  });

  it("meets the same buffers every step: no new buffers, no new bind groups, flat bytes", async () => {
    const [x] = leaves({ data: Array.from({ length: 300 }, (_, i) => i / 300), shape: [3, 100] });
    const step = (n: number) => scope(() => backward(mean(square(exp(scale(x, n / 10))))));
    for (let i = 0; i < 3; i++) step(i);
    const before = stats();
    for (let i = 0; i < 1000; i++) step(i);
    const after = stats();
    expect(after.buffersCreated).toBe(before.buffersCreated);
    expect(after.poolBytes).toBe(before.poolBytes);
    expect(after.bindGroupMisses).toBe(before.bindGroupMisses);
    expect(after.dispatches).toBeGreaterThan(before.dispatches);
    await (x.grad as Tensor).read();
  });
});

describe("the op table", () => {
  // Away from kinks, where finite differences mean nothing.
  const points = [-2.3, -1.1, -0.4, 0.3, 0.9, 1.7, 2.6];
  const positive = points.map((p) => Math.abs(p) + 0.1);
  const h = 1e-3;

  for (const name of Object.keys(unaryTable) as (keyof typeof unaryTable)[]) {
    it(`${name}: gradient agrees with finite differences`, async () => {
      const at = name === "log" || name === "sqrt" ? positive : points;
      const op = elementwise[name] as (x: Tensor, p?: number, q?: number) => Tensor;
      const [x] = leaves({ data: at, shape: [at.length] });
      scope(() => backward(sum(op(x, -1.5, 2))));
      const grad = await (x.grad as Tensor).read();
      const value = (delta: number) => op(tensor(at.map((p) => p + delta)), -1.5, 2).read();
      const [up, down] = [await value(h), await value(-h)];
      at.forEach((_, i) => {
        const slope = (up[i] - down[i]) / (2 * h);
        expect(Math.abs(grad[i] - slope)).toBeLessThan(5e-3 * Math.max(1, Math.abs(slope)));
      });
    });
  }

  for (const name of Object.keys(binaryTable) as (keyof typeof binaryTable)[]) {
    it(`${name}: gradients agree with finite differences, broadcast`, async () => {
      const op = elementwise[name];
      const other = [0.7, -1.3];
      const [a, b] = leaves({ data: points, shape: [1, points.length] }, { data: other, shape: [2, 1] });
      scope(() => backward(sum(op(a, b))));
      const gradA = await (a.grad as Tensor).read();
      const gradB = await (b.grad as Tensor).read();
      const total = async (da: number[], db: number[]) =>
        (await sum(op(tensor(da, [1, da.length]), tensor(db, [2, 1]))).read())[0];
      const bump = (list: number[], i: number, by: number) => list.map((v, j) => (j === i ? v + by : v));
      for (let i = 0; i < points.length; i++) {
        const slope = ((await total(bump(points, i, h), other)) - (await total(bump(points, i, -h), other))) / (2 * h);
        expect(Math.abs(gradA[i] - slope)).toBeLessThan(2e-2 * Math.max(1, Math.abs(slope)));
      }
      for (let i = 0; i < other.length; i++) {
        const slope = ((await total(points, bump(other, i, h))) - (await total(points, bump(other, i, -h)))) / (2 * h);
        expect(Math.abs(gradB[i] - slope)).toBeLessThan(2e-2 * Math.max(1, Math.abs(slope)));
      }
    });
  }

  it("keeps NaN visible: relu, clamp, sigmoid and tanh of NaN are NaN", async () => {
    const nan = tensor([Number.NaN, 1, 2, 3, 4]);
    for (const op of ["relu", "clamp", "sigmoid", "tanh", "softplus"] as const) {
      const y = await (elementwise[op] as (x: Tensor, p?: number, q?: number) => Tensor)(nan, -1, 1).read();
      expect(Number.isNaN(y[0]), op).toBe(true);
      expect(Number.isNaN(y[1]), op).toBe(false);
    }
  });

  it("stays finite at large arguments", async () => {
    const big = tensor([-200, -100, 100, 200]);
    for (const op of ["sigmoid", "logSigmoid", "softplus", "tanh", "gelu", "silu"] as const) {
      expect([...(await elementwise[op](big).read())].every(Number.isFinite), op).toBe(true);
    }
  });

  it("folds grids over 65,535 workgroups", async () => {
    const n = 65_536 * 64 * 4 + 5; // one element per thread group beyond the limit at scalar width
    const y = await sum(scale(elementwise.addScalar(tensor(new Float32Array(n)), 1), 0.5)).read();
    expect(Math.abs(y[0] / (n / 2) - 1)).toBeLessThan(1e-5);
  });
});

describe("checkpoint", () => {
  /** Four layers x -> (x w_i + x)^2 / 4 with the loss's gradients, and how much memory was held before backward. */
  async function run(wrap: (fn: (x: Tensor) => Tensor, x: Tensor) => Tensor, frozenInput: boolean) {
    const size = 1024;
    const [x0, ...ws] = leaves(
      ...[1, 2, 3, 4, 5].map((seed) => ({
        data: Array.from({ length: size }, (_, i) => Math.sin(seed * 7 + i)),
        shape: [size],
      })),
    );
    if (frozenInput) x0.requiresGrad = false;
    scope(() => {
      let x = scale(x0, 1);
      for (const w of ws) x = wrap((h) => scale(square(add(mul(h, w), h)), 0.25), x);
      backward(mean(x));
    });
    const all = frozenInput ? ws : [x0, ...ws];
    return Promise.all(all.map(async (t) => [...(await (t.grad as Tensor).read())]));
  }

  for (const frozen of [false, true]) {
    it(`gives the same gradients to the bit${frozen ? ", also when only the parameters inside want them" : ""}`, async () => {
      expect(await run(checkpoint, frozen)).toEqual(await run((fn, x) => fn(x), frozen));
    });
  }

  it("adds to a gradient that is there already", async () => {
    const [x] = leaves({ data: [1, 2], shape: [2] });
    scope(() => backward(sum(add(checkpoint(exp, x), mul(x, checkpoint(exp, x))))));
    const grad = await (x.grad as Tensor).read();
    [1, 2].forEach((v, i) => {
      expect(grad[i]).toBeCloseTo((2 + v) * Math.exp(v), 4);
    });
  });

  it("keeps an input that nothing else keeps", async () => {
    const [w] = leaves({ data: [2, 5], shape: [2] });
    scope(() => {
      const y = scope(() =>
        checkpoint(
          (h) => mul(h, w),
          scope(() => scale(tensor([3, 4]), 2)),
        ),
      );
      backward(sum(y));
    });
    expect([...(await (w.grad as Tensor).read())]).toEqual([6, 8]);
  });

  it("holds one layer instead of all of them", () => {
    const held = (wrap: (fn: (x: Tensor) => Tensor, x: Tensor) => Tensor) => {
      const [x, w] = leaves({ data: [1], shape: [1] }, { data: [1], shape: [1] });
      return scope(() => {
        const made: Tensor[] = [];
        let h = x;
        for (let i = 0; i < 5; i++) {
          h = wrap((t) => {
            for (let k = 0; k < 4; k++) {
              t = exp(mul(t, w));
              made.push(t);
            }
            return t;
          }, h);
        }
        return made.filter((t) => !t.freed).length;
      });
    };
    expect(held((fn, x) => fn(x))).toBe(20);
    expect(held(checkpoint)).toBe(5);
  });
});
