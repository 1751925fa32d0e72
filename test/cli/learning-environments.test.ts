/** A tiny policy that plays poorly learns to find a number by RAFT, and by iterative DPO. Node alone: both take a while. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import type { CausalLM } from "webrlhf/nn";
import { environmentPrompts, environmentReward, evaluatePolicy, trainIteratively, trainRaft } from "webrlhf/rlhf";
import { copyOf } from "../../src/rlhf/partners.ts";
import { gpuReady } from "../helpers.ts";
import { imitating } from "../rlhf/environment/play.ts";
import { littleGuessing } from "../rlhf/environment/problems.ts";

const { environment, tokenizer, tokens, maxTurns } = littleGuessing;
let start: CausalLM;
beforeAll(async () => {
  await gpuReady();
  start = await imitating(littleGuessing, 1);
  return () => start.destroy();
}, 60_000);

/** The rate of found numbers, over 240 fresh episodes: 0.03 off by chance. */
async function found(policy: CausalLM): Promise<number> {
  const prompts = environmentPrompts(environment, 240, 1, "test");
  const options = { seed: 7, responseLength: tokens, maxTurns };
  const { metrics } = await evaluatePolicy({ policy, tokenizer, environment, prompts }, options);
  expect(metrics.reward).toBe(metrics.success_rate);
  return metrics.success_rate;
}

describe("in an environment", { timeout: 120_000 }, () => {
  it.each(["raft", "iterate"] as const)("%s learns", async (method) => {
    const policy = copyOf(start, "policy");
    const initial = copyOf(start, "start");
    try {
      const models = { policy, tokenizer, environment, rewards: environmentReward };
      const common = { seed: 1, maxTurns, responseLength: tokens, temperature: 1, perDeviceTrainBatchSize: 32 };
      const before = await found(policy);
      const raft = {
        raftBatchSize: 64,
        topRewardPercentage: 1 / 4,
        maxSteps: 8,
        numTrainEpochs: 2,
        learningRate: 3e-3,
      };
      const dpo = { iterations: 8, numGenerations: 4, promptsPerIteration: 60, numTrainEpochs: 4, learningRate: 2e-3 };
      const run = { folder: { files: memoryFiles(), path: "out" } };
      const events =
        method === "raft"
          ? trainRaft(models, environmentPrompts(environment, 512, 1), { ...common, ...raft })
          : trainIteratively(
              { ...models, initial },
              environmentPrompts(environment, 480, 1),
              { ...common, ...dpo },
              run,
            );
      for await (const _ of events);
      const after = await found(policy);
      // 0.84 and 0.80 from 0.65, on the software adapter of these tests; other bits come to other numbers.
      expect(after).toBeGreaterThan(before + 0.08);
    } finally {
      policy.destroy();
      initial.destroy();
    }
  });
});
