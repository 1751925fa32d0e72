/** Memory that leaves the GPU and comes back, and moving averages of parameters. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { linear, Parameter, ParameterStore, scope, tensor } from "webrlhf";
import { AdamW } from "webrlhf/nn";
import { poolStats } from "../../src/gpu/pool.ts";
import { lerpInto } from "../../src/tensor/ops/lerp.ts";
import { withResident } from "../../src/tensor/residency.ts";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const made: { destroy(): void }[] = [];
afterEach(() => {
  for (const thing of made.splice(0)) thing.destroy();
});
const keep = <T extends { destroy(): void }>(thing: T): T => {
  made.push(thing);
  return thing;
};

function stored(seed: number, format: "float32" | "float16" | "int8" = "float32") {
  const parameters = [new Parameter([8, 64], { normal: 1 }), new Parameter([3], { normal: 1 })];
  parameters.forEach((p, i) => {
    p.name = `p${i}`;
  });
  const store = keep(new ParameterStore(parameters, "store", format));
  store.initialize(seed);
  return { store, weight: parameters[0] };
}

const product = async ({ weight }: ReturnType<typeof stored>) => {
  const y = scope(() => linear(tensor(Float32Array.from({ length: 128 }, Math.sin), [2, 64]), weight.stored));
  const values = await y.read();
  y.free("test");
  return values;
};

describe("residency", () => {
  it.each(["float32", "float16", "int8"] as const)("brings %s weights back as they were", async (format) => {
    const one = stored(1, format);
    const before = await one.store.read();
    const y = await product(one);
    const bytes = poolStats().poolBytes;
    await one.store.resident.evict();
    const freed = bytes - poolStats().poolBytes;
    expect(freed).toBeGreaterThanOrEqual(8 * 64 * { float32: 4, float16: 2, int8: 1 }[format]);
    expect(one.store.resident.here).toBe(false);
    await one.store.resident.evict(); // is gone already
    expect(poolStats().poolBytes).toBe(bytes - freed);
    one.store.resident.restore();
    expect(poolStats().poolBytes).toBe(bytes);
    expect(await one.store.read()).toEqual(before);
    expect(await product(one)).toEqual(y);
  });

  it("trains on as if nothing had happened", async () => {
    const trained = async (leaving: boolean) => {
      const { store, weight } = stored(2);
      const optimizer = keep(new AdamW(store));
      for (let step = 0; step < 3; step++) {
        scope(() => {
          const gradient = weight.value.grad!;
          gradient.write(Float32Array.from({ length: gradient.size }, (_, i) => Math.sin(i + step)));
        });
        optimizer.step(0.1);
        if (!leaving) continue;
        await store.resident.evict();
        await optimizer.resident.evict();
        store.resident.restore();
        optimizer.resident.restore();
      }
      return { values: await store.read(), moments: await optimizer.state() };
    };
    expect(await trained(true)).toEqual(await trained(false));
  });

  it("holds memory only for the time of the work", async () => {
    const [one, two] = [stored(3), stored(4)];
    const whole = poolStats().poolBytes;
    await one.store.resident.evict();
    const without = poolStats().poolBytes;
    const inside = await withResident([one.store.resident, one.store.resident, two.store.resident], async () => {
      await withResident([one.store.resident], async () => {});
      return poolStats().poolBytes;
    });
    expect(inside).toBe(whole);
    expect(poolStats().poolBytes).toBe(without);
    expect(two.store.resident.here).toBe(true); // it was there before
    const failing = withResident([one.store.resident], () => Promise.reject(new Error("no")));
    await expect(failing).rejects.toThrow("no");
    expect(poolStats().poolBytes).toBe(without);
  });

  it("is destroyed once", async () => {
    const before = poolStats().poolBytes;
    const { store } = stored(5);
    await store.resident.evict();
    store.destroy();
    made.pop();
    expect(poolStats().poolBytes).toBe(before);
  });
});

describe("moving averages", () => {
  it("go a part of the way", async () => {
    const [average, latest] = [stored(6), stored(7)];
    const [a, b] = [await average.store.read(), await latest.store.read()];
    lerpInto(average.store, latest.store, 0.25);
    for (const [name, values] of await average.store.read()) {
      values.forEach((x, i) => {
        expect(x).toBeCloseTo(0.75 * a.get(name)![i] + 0.25 * b.get(name)![i], 6);
      });
    }
    expect(await latest.store.read()).toEqual(b);
  });

  it("refuse another layout", () => {
    const other = keep(new ParameterStore([new Parameter([5], { constant: 0 })], "other"));
    expect(() => lerpInto(other, stored(8).store, 0.5)).toThrow(/different parameters/);
  });
});
