/** What becomes of pairs that are too long for a reward model. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { ScoreModel } from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import { type RewardData, type reward, trainCost, trainReward } from "webrlhf/rlhf";
import { collect, pairs, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(() => openDevice());

type Chosen = Parameters<typeof reward>[0];
const safe = (n: number) => pairs(n).map((pair) => ({ ...pair, safety: { chosen: true, rejected: false } }));
const longest = ({ chosen, rejected }: ReturnType<typeof pairs>[number]) => Math.max(chosen.length, rejected.length);

async function run(data: RewardData, chosen: Chosen, train = trainReward as typeof trainReward | typeof trainCost) {
  const model = new ScoreModel(tinyConfig()).initialize(1);
  const settings = { numTrainEpochs: 1, perDeviceTrainBatchSize: 4, ...chosen };
  try {
    const events = await collect(train({ model, tokenizer }, data, settings));
    return {
      notes: events.flatMap((event) => (event.type === "note" ? [event.text] : [])),
      steps: events.filter((event) => event.type === "step").length,
      tokens: events.reduce((sum, event) => sum + (event.type === "step" ? event.tokens : 0), 0),
    };
  } finally {
    model.destroy();
  }
}

describe("pairs that are longer than max_length", () => {
  const lengths = pairs(32)
    .map(longest)
    .sort((a, b) => a - b);
  const maxLength = lengths[20];
  const kept = pairs(32).filter((pair) => longest(pair) <= maxLength);
  const out = 32 - kept.length;

  it("are left out whole and counted, as TRL does, of tokens and of a dataset alike, held-out ones too", async () => {
    expect(out).toBeGreaterThan(3);
    const tokens = kept.reduce((sum, { chosen, rejected }) => sum + chosen.length + rejected.length, 0);
    for (const [data, train] of [
      [{ train: pairs(32), eval: pairs(32) }, trainReward],
      [{ train: safe(32), eval: safe(32) }, trainCost],
    ] as const) {
      const found = await run(data, { maxLength }, train);
      expect(found.notes).toEqual([
        expect.stringMatching(`^${out} of 32 pairs left out: .* more than ${maxLength} tokens .*truncationSide`),
        expect.stringMatching(`^${out} of 32 held-out pairs left out: `),
      ]);
      expect(found).toMatchObject({ steps: Math.ceil(kept.length / 4), tokens });
    }
    const dataset = openDataset("builtin:world", { maxTrainSamples: 32, seed: 1 });
    const found = await run(dataset, { maxLength });
    expect(found).toMatchObject({ steps: Math.ceil(kept.length / 4), tokens });
    expect(found.notes[0]).toMatch(`${out} of 32 pairs left out`);
  });

  it("are cut where a side is named", async () => {
    const dataset = openDataset("builtin:world", { maxTrainSamples: 32, seed: 1 });
    for (const truncationSide of ["right", "left"] as const) {
      const { notes, steps } = await run(dataset, { maxLength, truncationSide });
      expect(notes.filter((text) => text.includes("more than"))).toEqual([]);
      expect(steps).toBe(8);
    }
  });

  it("are an error where nothing else is left, as pairs of equal answers are", async () => {
    await expect(run(pairs(8), { maxLength: 3 })).rejects.toThrow(
      /nothing is left: 8 of 8 pairs left out: .* more than 3 tokens \(raise maxLength, or cut them with truncationSide\)/,
    );
    const same = pairs(4).map((pair) => ({ ...pair, rejected: pair.chosen }));
    await expect(run(same, {})).rejects.toThrow(/nothing is left: 4 of 4 pairs left out: .* the same tokens/);
  });
});
