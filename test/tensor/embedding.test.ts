import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { embedding, gatherRows, scope, tensor } from "webrlhf";
import { positionLists } from "../../src/tensor/ops/embedding.ts";
import { gpuReady } from "../helpers.ts";
import { awkward, checkOp, input } from "./check.ts";

beforeAll(gpuReady);

const gatherReference =
  (ids: number[], cols: number) =>
  ([table]: Float64Array[]) =>
    Float64Array.from(ids.flatMap((id) => Array.from(table.subarray(id * cols, (id + 1) * cols))));

describe("embedding", () => {
  it("gathers rows and adds their gradients, over random shapes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom(...awkward.filter((n) => n <= 36)),
        fc.array(fc.nat(1000), { minLength: 1, maxLength: 40 }),
        async (rows, cols, draws) => {
          const ids = draws.map((d) => d % rows);
          const host = Uint32Array.from(ids);
          const op = gatherReference(ids, cols);
          await checkOp(([t]) => embedding(t, tensor(host), host), [input([rows, cols], draws[0])], op);
        },
      ),
      { numRuns: 8, seed: 5 },
    );
  });

  it("splits the work of frequent ids without losing a row", async () => {
    const ids = Array.from({ length: 700 }, (_, i) => (i % 7 === 0 ? i % 3 : 2));
    const host = Uint32Array.from(ids);
    const op = gatherReference(ids, 4);
    await checkOp(([t]) => embedding(t, tensor(host), host), [input([3, 4], 8)], op, { gradRtol: 1e-5 });
  });

  it("names an id outside the table", () => {
    const host = Uint32Array.from([0, 5]);
    expect(() => scope(() => embedding(tensor([1, 2], [2, 1]), tensor(host), host))).toThrow(
      "id 5 at position 1, the table has 2 rows",
    );
  });
});

describe("gatherRows", () => {
  it("selects rows, each used at most once", async () => {
    const idx = Uint32Array.from([4, 0, 2]);
    await checkOp(([x]) => gatherRows(x, tensor(idx), idx), [input([5, 12], 2)], gatherReference([4, 0, 2], 12));
  });
});

describe("positionLists", () => {
  it("sorts positions by id, then by position", () => {
    const { ids, starts, order } = positionLists([3, 1, 3, 0, 1], 5);
    expect([...ids]).toEqual([0, 1, 3]);
    expect([...starts]).toEqual([0, 1, 3, 5]);
    expect([...order]).toEqual([3, 1, 4, 0, 2]);
  });
});
