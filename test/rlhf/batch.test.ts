import { describe, expect, it } from "vitest";
import { predictedTokens, predictions, type Sequence, scoringParts } from "webrlhf/rlhf";

describe("predictions", () => {
  const ids = Uint32Array.from([5, 6, 7, 8, 9]);
  const whole: Sequence = { ids, promptLength: 0 };
  const answer: Sequence = { ids, promptLength: 3 };
  const parts: Sequence = { ids, promptLength: 1, learned: Uint8Array.from([0, 1, 0, 0, 1]) };
  const first: Sequence = { ids, promptLength: 0, learned: Uint8Array.from([1, 0, 0, 0, 0]) };

  it("are of the response, from the row before each token", () => {
    expect(predictions([whole, answer], [0, 5])).toEqual({
      rows: Uint32Array.from([0, 1, 2, 3, 7, 8]),
      targets: Uint32Array.from([6, 7, 8, 9, 8, 9]),
      lengths: [4, 2],
    });
  });

  it("are of the tokens to learn, where a sequence says which", () => {
    expect(predictions([parts, first, answer], [0, 5, 10])).toEqual({
      rows: Uint32Array.from([0, 3, 12, 13]),
      targets: Uint32Array.from([6, 9, 8, 9]),
      lengths: [2, 0, 2],
    });
    expect([whole, answer, parts, first].map(predictedTokens)).toEqual([4, 2, 2, 0]);
  });
});

describe("scoring", () => {
  const sequences = [3000, 3000, 3000, 9000, 10].map((n): Sequence => ({ ids: new Uint32Array(n), promptLength: 1 }));

  it("takes 8,192 tokens at a time, and a longer sequence by itself", () => {
    const parts = scoringParts(sequences, { tokensPerPass: 32_768 });
    expect(parts).toEqual([
      [0, 2],
      [2, 3],
      [3, 4],
      [4, 5],
    ]);
    expect(scoringParts([], { tokensPerPass: 32_768 })).toEqual([]);
  });

  it("takes fewer where more would not fit", () => {
    const parts = scoringParts(sequences.slice(0, 3), { tokensPerPass: 3500 });
    expect(parts).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
  });
});
