import { describe, expect, it } from "vitest";
import {
  FLOATS,
  frameOf,
  instancesOf,
  keyed,
  type Orbit,
  type SpaceCloud,
  startOrbit,
  thirds,
} from "../../../demo/src/lib/figures/space.ts";

const data: SpaceCloud = {
  name: "data",
  points: [
    [-2, 0, 1, -1],
    [4, 10, 3, 3.5],
    [1, 5, 2, 1],
  ],
};
const policy: SpaceCloud = { name: "policy", points: [[10, 5, 9, 7]] };

describe("the judge's space", () => {
  it("is framed by the first cloud alone: what leaves the data leaves the cube", () => {
    const clouds = [data, policy];
    const all = instancesOf(clouds, frameOf(clouds));
    const points = Array.from({ length: all.length / FLOATS }, (_, i) => [
      ...all.subarray(i * FLOATS, (i + 1) * FLOATS),
    ]);
    // x, height, depth, truth, shape
    expect(points[0]).toEqual([-1, -1, -1, 0, 0]);
    expect(points[1]).toEqual([1, 1, 1, 1, 0]);
    expect(points[2][0]).toBeCloseTo(0);
    expect(points[3].slice(0, 3)).toEqual([3, 7, 0]);
    expect(points[3].slice(3)).toEqual([1, 1]);
    expect(instancesOf([data], frameOf(clouds))).toEqual(all.subarray(0, 3 * FLOATS));
  });

  it("stays finite where all points are alike", () => {
    const flat = [{ name: "one", points: [[2, 2, 2, 2] as const, [2, 2, 2, 2] as const] }];
    expect(instancesOf(flat, frameOf(flat)).every(Number.isFinite)).toBe(true);
  });

  it("is turned by keys, never upside down, and every turn has a way back", () => {
    const press = (from: Orbit, ...keys: string[]) => keys.reduce((orbit, key) => keyed(orbit, key) ?? orbit, from);
    expect(keyed(startOrbit, "a")).toBeNull();
    expect(press(startOrbit, "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown").turn).toBeCloseTo(startOrbit.turn);
    expect(press(startOrbit, "+", "-").near).toBeCloseTo(startOrbit.near);
    const up = press(startOrbit, ...Array(50).fill("ArrowUp"));
    expect(up.tilt).toBeLessThan(Math.PI / 2);
    expect(press(startOrbit, ...Array(50).fill("ArrowDown")).tilt).toBeGreaterThan(0);
    expect(press(startOrbit, ...Array(50).fill("+")).near).toBeLessThan(4.6); // never through the points
    expect(press(up, "Home")).toEqual(startOrbit);
  });

  it("shows each point once in the flat figure", () => {
    const { low, middle, high } = thirds([...data.points, ...policy.points]);
    expect([low.length, middle.length, high.length]).toEqual([1, 1, 2]);
  });
});
