import { describe, expect, it } from "vitest";
import { fitBasis, inBasis } from "../../../demo/src/lib/pca.ts";

/** Points with known spreads along known, orthogonal directions. */
const directions = [
  [2, 1, 2, 0],
  [-2, 2, 1, 0],
  [1, 2, -2, 0],
].map((d) => d.map((x) => x / 3));
const spreads = [5, 2, 0.5];
const rows = Array.from({ length: 200 }, (_, i) =>
  [0, 1, 2, 3].map((k) =>
    directions.reduce(
      (sum, d, j) => sum + spreads[j] * Math.SQRT2 * Math.cos((2 * Math.PI * i * (j + 1)) / 200) * d[k],
      10 * k,
    ),
  ),
);
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, x, k) => sum + x * b[k], 0);

describe("principal components", () => {
  it("are the directions in which points lie furthest apart, with their shares of the variance", () => {
    const basis = fitBasis(rows.flat(), 4, 3);
    const total = spreads.reduce((sum, s) => sum + s * s, 0);
    for (const [k, direction] of basis.directions.entries()) {
      expect(Math.abs(dot(direction, directions[k]))).toBeCloseTo(1, 6);
      expect(basis.explained[k]).toBeCloseTo(spreads[k] ** 2 / total, 6);
    }
    for (const [k, x] of basis.mean.entries()) expect(x).toBeCloseTo(10 * k, 9);
  });

  it("are orthonormal, and the same whichever order the points come in", () => {
    const basis = fitBasis(rows.flat(), 4, 3);
    const turned = fitBasis([...rows].reverse().flat(), 4, 3);
    for (const [i, a] of basis.directions.entries()) {
      for (const [j, b] of basis.directions.entries()) expect(dot(a, b)).toBeCloseTo(i === j ? 1 : 0, 9);
      expect(dot(a, turned.directions[i])).toBeCloseTo(1, 9);
    }
  });

  it("place points that came later in the basis of those before", () => {
    const basis = fitBasis(rows.flat(), 4, 2);
    const [[x, y]] = inBasis(
      basis,
      [...basis.mean].map((m, k) => m + 7 * basis.directions[1][k]),
    );
    expect(x).toBeCloseTo(0, 6);
    expect(y).toBeCloseTo(7, 6);
  });

  it("have no length where all points lie on one", () => {
    const basis = fitBasis([1, 2, 3, 1, 2, 3], 3, 2);
    expect(basis.explained).toEqual([0, 0]);
    expect(inBasis(basis, [1, 2, 3])[0].every((x) => x === 0)).toBe(true);
  });
});
