/** The mean row of a table, against float64. */
import { beforeAll, describe, expect, it } from "vitest";
import { QuantizedWeight, tensor } from "webrlhf";
import { columnMeans } from "../../src/tensor/ops/column-means.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

function meansOf(data: Float32Array, columns: number): number[] {
  const rows = data.length / columns;
  const sums = new Array<number>(columns).fill(0);
  data.forEach((value, i) => {
    sums[i % columns] += value / rows;
  });
  return sums;
}

describe("columnMeans", () => {
  it.each([1, 7, 4095, 4096, 4097, 9000])("of %i rows", async (rows) => {
    const data = values(rows * 3, rows).map((v) => v + 0.5);
    const means = columnMeans(tensor(data, [rows, 3]));
    expect(means.shape).toEqual([3]);
    expectClose(await means.read(), meansOf(data, 3), 1e-6);
  });

  it("of a packed table", async () => {
    const [rows, columns] = [4100, 64];
    const weight = QuantizedWeight.allocate([rows, columns], "int8", "table");
    weight.write(values(rows * columns, 1));
    const means = await columnMeans(weight).read();
    expectClose(means, meansOf(await weight.read(), columns), 1e-5, 1e-7);
  });
});
