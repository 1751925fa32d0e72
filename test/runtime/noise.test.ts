import { expect, it } from "vitest";
import { noise } from "webrlhf/day";

it("makes noise that is the same every time, in [-1, 1), with a mean of 0 and the spread of equal chances", () => {
  const values = noise(10_000, 2);
  expect(noise(10_000, 2)).toEqual(values);
  expect(noise(10_000, 3)).not.toEqual(values);
  expect(values.every((x) => x >= -1 && x < 1)).toBe(true);
  const mean = values.reduce((a, b) => a + b) / values.length;
  const spread = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  expect(Math.abs(mean)).toBeLessThan(0.02);
  expect(Math.abs(spread - 1 / 3)).toBeLessThan(0.01);
});
