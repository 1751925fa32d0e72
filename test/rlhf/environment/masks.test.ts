/** What the policy did not write teaches nothing: no loss, no KL, no entropy, no value; rewards stand where turns end. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  environmentReward,
  gaeExperience,
  predictedTokens,
  predictions,
  responseLogProbs,
  shapeRewards,
} from "webrlhf/rlhf";
import { earlierRewards } from "../../../src/rlhf/environment/reward.ts";
import { valueRows } from "../../../src/rlhf/measure.ts";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { wordPolicy, wordTokenizer } from "./words.ts";

beforeAll(gpuReady);

const keep = keeper();

/** Two tokens are given, two written, three answered, one written. */
const episode = {
  ids: Uint32Array.of(4, 5, 6, 7, 4, 5, 4, 8),
  learned: Uint8Array.of(0, 0, 1, 1, 0, 0, 0, 1),
  promptLength: 2,
};
const turns = [
  { start: 2, end: 4, text: "", calls: [], reward: 0.5 },
  { start: 7, end: 8, text: "", calls: [], reward: 2 },
];
const response = { ...episode, prompt: 0, sample: 0, promptText: "", text: "", ended: true, turns };
const plain = { ids: episode.ids, promptLength: 2 };

describe("an episode", () => {
  it("is predicted, and valued, where the policy wrote", () => {
    const other = { ids: Uint32Array.of(4, 5, 6), promptLength: 1 };
    const { rows, targets, lengths } = predictions([other, episode], [0, 3]);
    expect(lengths).toEqual([2, 3]);
    expect([...targets]).toEqual([5, 6, 6, 7, 8]);
    expect([...rows]).toEqual([0, 1, 3 + 1, 3 + 2, 3 + 6]);
    expect([...valueRows([other, episode], [0, 3], [2, 3])]).toEqual([...rows]);
    // A slot after the last token is read at that token.
    expect([...valueRows([other, episode], [0, 3], [3, 4])]).toEqual([0, 1, 2, 4, 5, 9, 10]);
    expect(predictedTokens(episode)).toBe(3);
  });

  it("has the log-probabilities and entropies of these tokens with all the others before them", async () => {
    const policy = keep(wordPolicy(wordTokenizer(["a", "b", "c", "d", "e"]), 3));
    const own = await responseLogProbs(policy, [episode]);
    const all = await responseLogProbs(policy, [plain]);
    for (const kind of ["logProbs", "entropy"] as const) {
      expect([...own[kind][0]]).toEqual([0, 1, 5].map((t) => all[kind][0][t]));
    }
  });

  it("is rewarded at the end of each turn, and estimated from one turn's end to the next turn's beginning", () => {
    const parts = { names: ["environment", "other"], functions: [environmentReward, () => [1]], weights: [2, 1] };
    const score = 2 * (0.5 + 2) + 1;
    const kl = [0.1, 0.2, 0.3];
    const earlier = earlierRewards(response, parts);
    const rewards = shapeRewards(kl, score, { klCoef: 1, clipRange: 4.5, clipWhat: "score", earlier });
    // 2 * 0.5 behind the first turn's two tokens; the rest, 5, is clipped.
    const shaped = [-0.1, 1 - 0.2, 4.5 - 0.3];
    expect([...rewards]).toEqual(shaped.map((r) => expect.closeTo(r, 12)));
    const [gamma, lam] = [0.9, 0.8];
    const values = [0.4, 0.2, 0.7];
    const logProbs = [Float32Array.of(-1, -2, -3)];
    const rollout = { responses: [response], logProbs, refLogProbs: logProbs, rewards: [rewards] };
    const { experience } = gaeExperience(rollout, [Float32Array.from(values)], { gamma, lam, whitenAdvantages: false });
    // One discount from the last token of a turn to the first of the next, however much was said between.
    const last = shaped[2] - values[2];
    const middle = shaped[1] + gamma * values[2] - values[1] + gamma * lam * last;
    const first = shaped[0] + gamma * values[1] - values[0] + gamma * lam * middle;
    expect([...(experience[0].advantages as Float64Array)]).toEqual(
      [first, middle, last].map((a) => expect.closeTo(a, 6)),
    );
  });
});
