/** Copies of weights in f16: right after whatever changed the weights, and gone when nobody needs them. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, caps, cast, linear, Parameter, ParameterStore, scope, sum, Tensor, tensor } from "webrlhf";
import { AdamW } from "webrlhf/nn";
import { poolStats } from "../../src/gpu/pool.ts";
import { copy } from "../../src/gpu/stream.ts";
import { halfOf } from "../../src/tensor/half-copies.ts";
import { lerpInto } from "../../src/tensor/ops/lerp.ts";
import { addLowRank } from "../../src/tensor/ops/lora.ts";
import { writeChunks } from "../../src/tensor/params.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const keep = keeper();

/** Of the matrices the third begins in the middle of 128 values. */
function stored(seed: number) {
  const shapes = [[16, 12], [8, 16], [4, 6], [5, 32], [3]];
  const parameters = shapes.map((shape) => new Parameter(shape, { normal: 1 }));
  parameters.forEach((p, i) => {
    p.name = `p${i}`;
  });
  const store = keep(new ParameterStore(parameters, "store").initialize(seed));
  return { store, parameters };
}

const copyOf = ({ stored }: Parameter): Tensor => {
  const copy = halfOf(stored);
  if (!(copy instanceof Tensor)) throw new Error("no tensor");
  return copy;
};

async function expectFresh(parameters: readonly Parameter[], what: string): Promise<void> {
  const halves = parameters.map(copyOf);
  for (const [i, half] of halves.entries()) {
    expectClose(await half.read(), await parameters[i].value.read(), 2 ** -10, 1e-6, `p${i} after ${what}`);
  }
}

describe("copies in f16", () => {
  it("follow whatever changes the weights", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const { store, parameters } = stored(1);
    const first = parameters[0].value;
    await expectFresh(parameters, "initialize");
    expect(parameters.map((p) => copyOf(p).dtype)).toEqual(["f16", "f32", "f32", "f16", "f32"]);
    const optimizer = keep(new AdamW(store));
    const changes: Record<string, () => void> = {
      "another initialize": () => void store.initialize(2),
      "a step": () => {
        (first.grad as Tensor).write(values(first.size, 3));
        optimizer.step(0.5);
      },
      "a write": () => first.write(values(first.size, 4)),
      "a write of a part": () => first.writePart(64, values(64, 5)),
      "a write of whole chunks": () =>
        writeChunks(
          store.chunks.map((c) => c.values),
          store.chunks.map((c) => values(c.size, 6)),
        ),
      "a moving average": () => lerpInto(store, stored(7).store, 0.5),
      "a copy": () => copy(stored(8).parameters[0].value.view, first.view, first.size * 4),
      "a merged adapter": () =>
        scope(() => {
          const [a, b] = [tensor(values(24, 9), [2, 12]), tensor(values(32, 10), [16, 2])];
          addLowRank(first, a, { b, rankOffset: 0, first: 0, scale: 1 });
        }),
    };
    for (const [what, change] of Object.entries(changes)) {
      const before = await first.read();
      change();
      expect(await first.read(), what).not.toEqual(before);
      await expectFresh(parameters, what);
    }
    await store.resident.evict();
    store.resident.restore();
    await expectFresh(parameters, "a time away");
  });

  it("are not made again while nothing changes, and give gradients to the weights in f32", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const { store, parameters } = stored(1);
    store.trainable();
    const weight = parameters[0].value;
    const x = tensor(values(5 * 12, 2), [5, 12], "f16");
    for (let pass = 1; pass <= 2; pass++) {
      scope(() => backward(sum(linear(x, copyOf(parameters[0]), { type: "f32" }))));
      const sums = await scope(() => sum(cast(x, "f32"), 0)).read();
      expect(weight.grad?.dtype).toBe("f32");
      expectClose(
        (await (weight.grad as Tensor).read()).map((v) => v / pass),
        Float32Array.from({ length: weight.size }, (_, i) => sums[i % 12]),
        1e-3,
        1e-3,
      );
    }
    expect(copyOf(parameters[0])).toBe(copyOf(parameters[0]));
    x.free("test");
  });

  it("take half the memory of the weights, and give it back", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    const { store, parameters } = stored(1);
    const before = poolStats().poolBytes;
    copyOf(parameters[0]);
    expect(poolStats().poolBytes - before).toBe(store.chunks.reduce((n, { size }) => n + 2 * size, 0));
    await store.resident.evict();
    store.resident.restore();
    expect(poolStats().poolBytes).toBe(before);
    copyOf(parameters[0]);
    store.freeHalf();
    expect(poolStats().poolBytes).toBe(before);
  });
});
