/** PPO's options under the names of the programs it follows. */
import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { methods } from "webrlhf/open";
import { inFile } from "webrlhf/rlhf";
import { parse } from "yaml";

const page = new URL("../../docs/paddlenlp-ppo.md", import.meta.url);
const needed = { model_name_or_path: "sft", reward_model_path: "reward" };
const from = (values: Record<string, unknown>) => methods.ppo.settings.resolve([inFile(values, "test")]);

describe("ppo's options", () => {
  it("take the configuration that the documentation shows", async () => {
    const text = /```yaml\n([\s\S]*?)```/.exec(await readFile(page, "utf8"))?.[1] ?? "";
    const { output_dir: _, ...shown } = parse(text) as Record<string, unknown>; // the program's own
    const options = from(shown);
    expect(options).toMatchObject({
      modelNameOrPath: "out/sft",
      rewardModelPath: "out/reward",
      datasetName: "PKU-SafeRLHF/train",
      ptxDatasetName: "alpaca",
      ptxCoef: 16,
      numPpoEpochs: 1,
      rolloutBatchSize: 16,
      warmupSteps: 0.03,
      criticWarmupSteps: 0.03,
      criticWeightDecay: 0,
      klCoef: 0.02,
      clipRange: 0.2,
      offloadLevel: ["freeze_model", "optimizer", "train_model"],
    });
  });

  it("leave to the dialect what nothing sets", () => {
    const { normalizeReward, whitenAdvantages, clipRangeScore } = from({ ...needed, dialect: "paddle" }) as Record<
      string,
      unknown
    >;
    const trl = from({ ...needed, dialect: "trl" }) as Record<string, unknown>;
    expect([normalizeReward, whitenAdvantages, clipRangeScore]).not.toEqual([
      trl.normalizeReward,
      trl.whitenAdvantages,
      trl.clipRangeScore,
    ]);
  });

  it("refuse an update that updates nothing, and unknown dialects", () => {
    expect(() => from({ ...needed, update_iters: 0 })).toThrow(
      /update_iters in test must be a whole number of at least 1/,
    );
    expect(() => from({ ...needed, dialect: "late" })).toThrow(/one of paddle, paddle-late, safe, trl/);
    expect(() => from({ ...needed, dual_clip: 1 })).toThrow(/dual_clip in test must be a number above 1/);
  });
});
