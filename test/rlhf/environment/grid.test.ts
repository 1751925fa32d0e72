/** The grid: where moves lead, what arriving is worth, and what the best player gets from every field. */
import { expect, it } from "vitest";
import { environmentPrompts, gridEnvironment } from "webrlhf/rlhf";
import { said } from "./said.ts";

const grid = gridEnvironment();
const { signal } = new AbortController();
const begin = async (row: object) =>
  grid.reset({ prompt: { text: "", ids: new Uint32Array(), row: { ...row } }, seed: 0, signal });

/** Says these moves; gives what was seen, and what the last one was worth where the episode was over then. */
async function walk(row: number, column: number, moves: readonly string[]) {
  const episode = await begin({ row, column });
  const seen = [episode.observation];
  for (const [turn, text] of moves.entries()) {
    const { observation, reward = 0, done = false } = await episode.step(said(text, { turn }));
    if (done) return { seen, reward, turns: turn + 1 };
    expect(reward).toBe(0); // only arriving is worth something
    seen.push(observation);
  }
  return { seen, reward: null, turns: moves.length };
}

const at = (row: number, column: number) => [{ role: "user", content: `row ${row} column ${column}` }];

it("moves by one field, stops at every edge, and stays where it hears no move", async () => {
  const { seen, reward } = await walk(1, 1, [
    ...["up", "left", " down ", "right", "up", "left"],
    ...["jump", "", "toString", "Down", "down down"],
  ]);
  const start = [at(1, 1), at(1, 1), at(1, 1)];
  expect(seen).toEqual([...start, at(2, 1), at(2, 2), at(1, 2), at(1, 1), ...Array(5).fill(at(1, 1))]);
  expect(reward).toBeNull();
  expect((await walk(4, 3, ["down"])).seen).toEqual([at(4, 3), at(4, 3)]);
  expect((await walk(3, 4, ["right"])).seen).toEqual([at(3, 4), at(3, 4)]);
});

it("pays 1 for the shortest way, a tenth less for each step too many, and never less than nothing", async () => {
  const late = async (wasted: number) => (await walk(4, 3, [...Array(wasted).fill("down"), "right"])).reward;
  expect(await late(0)).toBe(1);
  expect(await late(1)).toBeCloseTo(0.9, 12);
  expect(await late(4)).toBeCloseTo(0.6, 12);
  expect(await late(10)).toBeCloseTo(0, 12);
  expect(await late(15)).toBe(0);
});

it("is worth 1 from every field to who walks right and then down, in as many turns as fields lie between", async () => {
  for (let row = 1; row <= 4; row++) {
    for (let column = 1; column <= 4; column++) {
      if (row + column === 8) continue;
      const moves = [...Array(4 - column).fill("right"), ...Array(4 - row).fill("down")];
      const { reward, turns } = await walk(row, column, moves);
      expect([row, column, reward, turns]).toEqual([row, column, 1, 8 - row - column]);
    }
  }
});

it("keeps episodes apart, and refuses rows without a place", async () => {
  const [one, other] = [await begin({ row: 1, column: 1 }), await begin({ row: 1, column: 1 })];
  await one.step(said("down"));
  expect((await other.step(said("right"))).observation).toEqual(at(1, 2));
  for (const row of [
    {},
    { row: 0, column: 1 },
    { row: 1, column: 5 },
    { row: 1.5, column: 1 },
    { row: "x", column: 1 },
  ]) {
    await expect(begin(row)).rejects.toThrow('the columns "row" and "column", from 1 to 4');
  }
});

it("begins its own rows two to four moves from the goal, by seed, and has others for tests", () => {
  const rows = environmentPrompts(grid, 400, 3).map(({ row }) => row);
  const far = rows.map((row) => 8 - Number(row?.row) - Number(row?.column));
  expect([...new Set(far)].sort()).toEqual([2, 3, 4]);
  // All fields that are so far from the goal: three, four and three of them.
  expect(new Set(rows.map((row) => JSON.stringify(row))).size).toBe(10);
  expect(environmentPrompts(grid, 400, 3).map(({ row }) => row)).toEqual(rows);
  expect(environmentPrompts(grid, 400, 4).map(({ row }) => row)).not.toEqual(rows);
  expect(environmentPrompts(grid, 400, 3, "test").map(({ row }) => row)).not.toEqual(rows);
});
