import { randomInt } from "../../../runtime/rng.ts";
import type { Environment } from "../environment.ts";

const SIDE = 4;
const STEP = 0.1;
const MOVES: Readonly<Record<string, readonly [down: number, right: number]>> = {
  up: [-1, 0],
  down: [1, 0],
  left: [0, -1],
  right: [0, 1],
};

/** Moves from a field to the lower right corner, at least. */
export const stepsToGoal = (row: number, column: number): number => SIDE - 1 - row + SIDE - 1 - column;

/**
 * A walk on four by four fields to the lower right one. The policy is told its row and column, counted from 1, and says up, down, left
 * or right; at an edge it stays. Arriving is worth 1, each move more than needed 0.1 less, at least 0: the best is 1. The
 * dataset's row has `row` and `column`; own rows begin at two to four moves from the goal.
 */
export function gridEnvironment(): Environment {
  return {
    name: "grid",
    best: 1,
    rows(n, seed, split) {
      const starts = Array.from({ length: SIDE * SIDE }, (_, at) => ({
        row: Math.floor(at / SIDE) + 1,
        column: (at % SIDE) + 1,
      }));
      const near = starts.filter(({ row, column }) => [2, 3, 4].includes(stepsToGoal(row - 1, column - 1)));
      return Array.from({ length: n }, (_, i) => near[randomInt(near.length, seed, i, split === "test" ? 1 : 0)]);
    },
    reset({ prompt: { row } }) {
      const place = [Number(row?.row) - 1, Number(row?.column) - 1];
      if (!place.every((at) => Number.isInteger(at) && at >= 0 && at < SIDE)) {
        throw new Error(`the row needs the columns "row" and "column", from 1 to ${SIDE}`);
      }
      const least = stepsToGoal(place[0], place[1]);
      const seen = () => [{ role: "user", content: `row ${place[0] + 1} column ${place[1] + 1}` }];
      return {
        observation: seen(),
        step({ text, turn }) {
          const move = Object.hasOwn(MOVES, text.trim()) ? MOVES[text.trim()] : [0, 0];
          for (const axis of [0, 1]) place[axis] = Math.min(SIDE - 1, Math.max(0, place[axis] + move[axis]));
          if (stepsToGoal(place[0], place[1]) > 0) return { observation: seen() };
          return { reward: Math.max(0, 1 - STEP * (turn + 1 - least)), done: true };
        },
      };
    },
  };
}
