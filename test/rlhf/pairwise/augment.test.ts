import { describe, expect, it } from "vitest";
import { pseudoLabel, rrmPairs } from "webrlhf/rlhf";

const pairs = Array.from({ length: 9 }, (_, i) => ({ context: `c${i}`, chosen: `w${i}`, rejected: `l${i}` }));

describe("pseudo-labels", () => {
  const chances = [0.9, 0.81, 0.8, 0.5, 0.2, 0.19, 0.05, 1, 0];

  it("keep what the model is sure of, as labelled or turned around", () => {
    expect(pseudoLabel(pairs, chances)).toEqual([0, 1, 5, 6, 7, 8].map((i) => pairs[i]));
    const flipped = pseudoLabel(pairs, chances, { disagreement: "flip", confidence: 0.9 });
    expect(flipped).toEqual([
      { context: "c6", chosen: "l6", rejected: "w6" },
      { context: "c7", chosen: "w7", rejected: "l7" },
      { context: "c8", chosen: "l8", rejected: "w8" },
    ]);
  });
});

describe("RRM's pairs", () => {
  it("are 14 for each pair that met two others: 8 against foreign answers, 6 neutral among these", () => {
    const added = rrmPairs(pairs, 4);
    expect(rrmPairs(pairs, 4)).toEqual(added);
    expect(added.length % 14).toBe(0);
    expect(added.length).toBeGreaterThan(14);
    for (let first = 0; first < added.length; first += 14) {
      const block = added.slice(first, first + 14);
      const own = block[0].context.slice(1);
      expect(new Set(block.map(({ context }) => context)).size).toBe(1);
      const isOwn = (answer: string) => answer.slice(1) === own;
      expect(block.slice(0, 8).every((p) => isOwn(p.chosen) && !isOwn(p.rejected) && !p.same)).toBe(true);
      expect(block.slice(8).every((p) => !isOwn(p.chosen) && !isOwn(p.rejected) && p.same === true)).toBe(true);
      expect(new Set(block.map(({ chosen, rejected }) => `${chosen} ${rejected}`)).size).toBe(14);
      expect(new Set(block.slice(8).flatMap((p) => [p.chosen, p.rejected])).size).toBe(4);
    }
  });

  it("need three different contexts", () => {
    expect(rrmPairs(pairs.slice(0, 2), 4)).toEqual([]);
  });
});
