/** What a run says of its data before it learns of them. */
import { countsOf, histogram } from "../data/counts.ts";
import type { DataSummary, TrainEvent } from "./events.ts";

/** An example as far as its length goes: a sequence, a pair, or a question in both orders. */
type Sized =
  | { ids: ArrayLike<number> }
  | { chosen: ArrayLike<number>; rejected: ArrayLike<number> }
  | { orders: readonly ArrayLike<number>[] };

const tokensIn = (example: Sized): number => {
  if ("ids" in example) return example.ids.length;
  const sides = "orders" in example ? example.orders : [example.chosen, example.rejected];
  return Math.max(...sides.map(({ length }) => length));
};

const isSized = (example: unknown): example is Sized =>
  typeof example === "object" &&
  example !== null &&
  ("ids" in example || ("chosen" in example && "rejected" in example) || "orders" in example);

/** A list of examples, summed up. */
const summaryOf = (examples: readonly unknown[]): DataSummary => ({
  ...countsOf(examples),
  used: examples.length,
  lengths: histogram(examples.filter(isSized).map(tokensIn)),
});

/** The events of a run's parts; a part without examples has none. */
export function dataEvents(train: readonly unknown[], held: readonly unknown[] = []): TrainEvent[] {
  const parts = [["train", train] as const, ["eval", held] as const];
  return parts.flatMap(([part, examples]) =>
    examples.length === 0 ? [] : [{ type: "data", step: 0, part, ...summaryOf(examples) }],
  );
}
