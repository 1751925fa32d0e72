/** The features that a reward model's score is linear in. */
import { beforeAll, describe, expect, it } from "vitest";
import { ScoreModel } from "webrlhf/nn";
import { scoreSequences, scoreWithHidden } from "webrlhf/rlhf";
import { plainScoring } from "../../../src/nn/scoring.ts";
import { expectClose, gpuReady } from "../../helpers.ts";
import { sequences, tinyConfig } from "../tiny.ts";

beforeAll(gpuReady);

describe("scores with hidden states", () => {
  it.each([
    ["one number", plainScoring(), 0],
    [
      "the one of two that is the quality, normalised",
      { ...plainScoring(["length", "quality"]), doNormalize: true },
      1,
    ],
  ] as const)("are the head times the features, plus the bias: %s", async (_, scoring, at) => {
    const normalizer = { mean: 0.4, variance: 2.25, count: 9, kind: "RunningMeanStd" as const, momentum: 0.9 };
    const own = { ...scoring, normalizer: scoring.doNormalize ? normalizer : null };
    const model = new ScoreModel(tinyConfig(), "scorer", "float32", { scoring: own, bias: true }).initialize(3);
    model.scoreBias?.value.write(Float32Array.from(own.labels, (_, i) => 0.7 - i));
    const some = sequences(400); // more than one pass takes
    const { hidden, width, scores } = await scoreWithHidden(model, some);
    expect(width).toBe(16);
    expect(hidden).toHaveLength(some.length * width);
    const head = (await model.score.value.read()).subarray(at * width, (at + 1) * width);
    const wanted = some.map((_, i) => {
      const raw = head.reduce((sum, w, k) => sum + w * hidden[i * width + k], 0.7 - at);
      return scoring.doNormalize ? (raw - 0.4) / (1.5 + 1e-8) : raw;
    });
    expectClose(scores, wanted, 1e-5, 1e-6);
    expect(scores).toEqual(await scoreSequences(model, some));
    expect(new Set(scores).size).toBeGreaterThan(300);
    model.destroy();
  });
});
