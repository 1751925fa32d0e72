import { expect, it } from "vitest";
import { schemaOf } from "webrlhf/data";
import { maxOf, minOf } from "../../src/runtime/extremes.ts";

const many = Array.from({ length: 200_000 }, (_, i) => (i * 7919) % 199_999);

it("the smallest and the largest of many numbers are found, as Math.min and Math.max find those of few", () => {
  expect([minOf(many), maxOf(many)]).toEqual([0, 199_998]);
  for (const few of [[], [3], [2, -1, 5], [1, Number.NaN, 2], [-0, 0]]) {
    expect([minOf(few), maxOf(few)]).toEqual([Math.min(...few), Math.max(...few)]);
  }
});

it("a row may have more responses than a call can have arguments", () => {
  const row = { prompt: "p", responses: many.map(String), rewards: many };
  const [chosen, rejected] = [String(maxOf(many)), String(minOf(many))];
  expect(schemaOf(row, "row").read(row, "row", {})).toMatchObject({ kind: "preference", chosen, rejected });
});
