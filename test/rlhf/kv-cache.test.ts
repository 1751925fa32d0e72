/** Rollouts with a cache of keys and values in 8 bits: responses come from it, and log-probabilities are measured without it. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import {
  policySampler,
  type Sampler,
  trainGrpo,
  trainIteratively,
  trainPpo,
  trainRaft,
  trainReinforce,
  trainRloo,
} from "webrlhf/rlhf";
import { collect, metricsOf, prompts, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const rewards = (responses: readonly { ids: Uint32Array }[]) =>
  responses.map(({ ids }) => (ids[ids.length - 1] % 7) - ids.length / 5);

/** A sampler that notes how the policy keeps its cache, and a policy. */
function watched(): { policy: CausalLM; sampler: Sampler; seen: string[] } {
  const policy = new CausalLM(tinyConfig()).initialize(1);
  const draw = policySampler(policy, tokenizer);
  const seen: string[] = [];
  const sampler: Sampler = (...request) => {
    seen.push(policy.kvCache);
    return draw(...request);
  };
  return { policy, sampler, seen };
}

const common = { maxSteps: 2, responseLength: 6, learningRate: 1e-3, kvCacheDtype: "int8" } as const;
const group = { ...common, numGenerations: 2, perDeviceTrainBatchSize: 4, beta: 0.1 };

describe("rollouts with a cache in 8 bits", { timeout: 60_000 }, () => {
  const runs = {
    ppo: (m: ReturnType<typeof watched>) =>
      trainPpo({ ...m, rewards, tokenizer }, prompts(4), { ...common, rolloutBatchSize: 4 }),
    grpo: (m: ReturnType<typeof watched>) => trainGrpo({ ...m, rewards, tokenizer }, prompts(4), group),
    rloo: (m: ReturnType<typeof watched>) => trainRloo({ ...m, rewards, tokenizer }, prompts(4), group),
    reinforce: (m: ReturnType<typeof watched>) =>
      trainReinforce({ ...m, rewards, tokenizer }, prompts(4), { ...group, numGenerations: 1 }),
    raft: (m: ReturnType<typeof watched>) =>
      trainRaft({ ...m, rewards, tokenizer }, prompts(4), {
        ...common,
        ...{ raftBatchSize: 2, topRewardPercentage: 0.5, perDeviceTrainBatchSize: 2 },
      }),
    iterate: (m: ReturnType<typeof watched>) => {
      const { maxSteps: _, ...rest } = common;
      const settings = { ...rest, iterations: 1, numGenerations: 4, perDeviceTrainBatchSize: 2 };
      return trainIteratively({ ...m, rewards, tokenizer }, { train: prompts(4) }, settings, {
        folder: { files: memoryFiles(), path: "out" },
      });
    },
  };
  it.each(Object.keys(runs) as (keyof typeof runs)[])("are drawn so for the time of a run: %s", async (name) => {
    const made = watched();
    await collect(runs[name](made));
    expect(made.seen.length).toBeGreaterThan(0);
    expect(new Set(made.seen)).toEqual(new Set(["int8"]));
    expect(made.policy.kvCache).toBe("auto");
    made.policy.destroy();
  });

  it("are learned from by log-probabilities of the policy that is trained", async () => {
    const made = watched();
    const settings = { ...common, learningRate: 1e-4, rolloutBatchSize: 8, perDeviceTrainBatchSize: 8 };
    const metrics = metricsOf(await collect(trainPpo({ ...made, rewards, tokenizer }, prompts(8), settings)));
    expect(metrics).toHaveLength(2);
    for (const { first_ratio } of metrics) expect(Math.abs(first_ratio - 1)).toBeLessThan(1e-6);
    expect(Math.abs(metrics[0].kl)).toBeLessThan(1e-6); // the policy is its reference still
    made.policy.destroy();
  });
});
