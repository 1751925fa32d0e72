import { describe, expect, it } from "vitest";
import { loadSamples } from "webrlhf/data";
import { drawn, parseProportion } from "../../../src/data/raw/proportion.ts";
import { allPairs, bestAgainstRandom, type Pair, type Scored } from "../../../src/data/raw/selection.ts";
import fixture from "../../fixtures/data.json" with { type: "json" };
import { given } from "./sources.ts";

const places = (answers: Scored[], pairs: Pair[]) => pairs.map((pair) => pair.map((answer) => answers.indexOf(answer)));

describe("what Python computes", () => {
  it("of mixtures: counts, order and draws", () => {
    expect(fixture.mixtures.length).toBeGreaterThan(80);
    for (const { n, text, name, indices } of fixture.mixtures) {
      expect(drawn(n, parseProportion(text, name), name, 42), `${text} of ${n}`).toEqual(indices);
    }
  });

  it("of scored answers: all pairs, and the best against a worse one", () => {
    for (const { key, scores, every, best_random } of fixture.pairs) {
      const answers = scores.map((score, i) => ({ text: String(i), score }));
      expect(places(answers, allPairs(answers, key, 42))).toEqual(every);
      expect(places(answers, bestAgainstRandom(answers, key, 42))).toEqual(best_random);
    }
  });

  it("of transcripts: turns and answers", async () => {
    expect(fixture.transcripts.length).toBeGreaterThan(15);
    for (const { chosen, rejected, input, answers } of fixture.transcripts) {
      const [sample] = await loadSamples("hh-rlhf/train", given({ chosen, rejected }));
      expect(sample).toMatchObject({ input, answer: answers[0], other_answer: answers[1], better: true });
    }
  });

  it("of UltraFeedback: pairs by the mean of ratings", async () => {
    const names = ["instruction_following", "honesty", "truthfulness", "helpfulness"];
    for (const { ratings, every } of fixture.ratings) {
      const completions = ratings.map((row, i) => ({
        response: String(i),
        annotations: Object.fromEntries(names.map((name, k) => [name, { Rating: String(row[k]) }])),
      }));
      const other = {
        instruction: "other",
        completions: [1, 2].map((n) => ({
          ...completions[0],
          response: `x${n}`,
          annotations: Object.fromEntries(names.map((name) => [name, { Rating: n }])),
        })),
      };
      const samples = await loadSamples("UltraFeedback", given({ instruction: "q", completions }, other));
      const found = samples
        .filter(({ input }) => input === "q")
        .map(({ answer, other_answer }) => [Number(answer), Number(other_answer)]);
      expect(found).toEqual(every);
    }
  });
});
