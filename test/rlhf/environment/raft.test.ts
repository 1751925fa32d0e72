/** RAFT in an environment: of each prompt's episodes the best is learned, and of that what the policy wrote alone. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Environment, environmentReward, responseLogProbs, trainRaft } from "webrlhf/rlhf";
import { blocksOf, toLearn } from "../../../src/rlhf/raft/learn.ts";
import { tokensIn } from "../../../src/rlhf/raft/token-monitor.ts";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { collect, metricsOf } from "../tiny.ts";
import { type Heard, listening, prompts, tokenizer } from "./listening.ts";
import { wordPolicy } from "./words.ts";

beforeAll(gpuReady);

const keep = keeper();
const settings = {
  maxSteps: 1,
  raftBatchSize: 3,
  topRewardPercentage: 1 / 4,
  numTrainEpochs: 1,
  perDeviceTrainBatchSize: 3,
  responseLength: 30,
  maxTurns: 3,
  temperature: 1,
} as const;

describe("RAFT", () => {
  it.each(["lmflow", "corrected"] as const)("learns the policy's turns of the best episodes (%s)", async (dialect) => {
    const heard: Heard[] = [];
    const policy = keep(wordPolicy(tokenizer, 2, { hiddenSize: 16, maxPositions: 80 }));
    const before = keep(wordPolicy(tokenizer, 2, { hiddenSize: 16, maxPositions: 80 }));
    const models = { policy, tokenizer, environment: listening(heard), rewards: environmentReward };
    const [metrics] = metricsOf(await collect(trainRaft(models, prompts(3), { dialect, ...settings })));
    expect(heard).toHaveLength(12);
    const best = [0, 1, 2].map((id) =>
      heard.filter(({ prompt }) => prompt === id).reduce((a, b) => (b.reward > a.reward ? b : a)),
    );
    expect(metrics.train_reward).toBeCloseTo(best.reduce((sum, { reward }) => sum + reward, 0) / 3, 10);
    const { logProbs } = await responseLogProbs(
      before,
      best.map(({ ids }) => ({ ids: Uint32Array.from(ids), promptLength: 1 })),
    );
    const own = best.flatMap(({ written }, i) => [...logProbs[i]].filter((_, t) => written[t + 1] === 1));
    expect(own.length).toBeLessThan(best.reduce((n, { ids }) => n + ids.length, 0));
    expect(metrics.loss).toBeCloseTo(-own.reduce((a, b) => a + b, 0) / own.length, 4);
  });

  it("leaves out what an environment failed at, and says so; keeps to what was drawn", async () => {
    const heard: Heard[] = [];
    const environment = listening(heard);
    const failing: Environment = {
      reset(start) {
        if (start.prompt.row?.id === 1) throw new Error("not today");
        return environment.reset(start);
      },
    };
    const policy = keep(wordPolicy(tokenizer, 2, { hiddenSize: 16, maxPositions: 80 }));
    const models = { policy, tokenizer, environment: failing, rewards: environmentReward };
    const allowed = { ...settings, environmentFailure: "drop" } as const;
    const events = await collect(trainRaft(models, prompts(3), allowed));
    expect(metricsOf(events)[0].n_kept).toBe(2);
    expect(events).toContainEqual({
      type: "warning",
      step: 1,
      text: expect.stringMatching(/left out: .*prompt 1, .*not today/),
    });
    const refused = collect(trainRaft({ ...models, clean: (text) => text }, prompts(3), settings));
    await expect(refused).rejects.toThrow("episodes in an environment stay as they were drawn");
    const unlearned = collect(trainRaft({ ...models, rewards: () => [1] }, prompts(3), settings));
    await expect(unlearned).rejects.toThrow("put environmentReward among the rewards");
  });
});

describe("an episode", () => {
  const episode = {
    ids: Uint32Array.of(4, 5, 6, 7, 4, 5, 4, 3),
    learned: Uint8Array.of(0, 0, 1, 1, 0, 0, 0, 1),
    promptLength: 2,
  };
  const response = { ...episode, prompt: 0, sample: 0, promptText: "", text: "", ended: true };

  it("keeps its mask whatever else is learned of responses, in a row with others and cut into blocks", () => {
    const policy = keep(wordPolicy(tokenizer, 1));
    const sequence = toLearn(response, policy, { appendEos: false, maskPrompt: false });
    expect(sequence).toEqual(episode);
    const plain = { ids: Uint32Array.of(8, 8, 8), promptLength: 1 };
    const [row] = blocksOf([plain, sequence], 11, true);
    expect([...(row.learned as Uint8Array)]).toEqual([0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1]);
    const [first, second] = blocksOf([sequence], 4, false);
    expect([...(first.learned as Uint8Array)]).toEqual([0, 0, 1, 1]);
    expect([...(second.learned as Uint8Array)]).toEqual([0, 0, 0, 1]);
  });

  it("is watched for tokens that the policy wrote", () => {
    expect(tokensIn([response], tokenizer).map((set) => [...set])).toEqual([["and", "a"]]);
  });
});
