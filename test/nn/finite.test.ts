/** Models that give NaN: whoever draws of them or measures by them says so, and names the model. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { CausalLM, Engine, generate, promptLogProbs, type SamplingParams, ScoreModel } from "webrlhf/nn";
import { policySampler, responseLogProbs, scoreSequences, trainPpo, trainRaft } from "webrlhf/rlhf";
import { chancesOfFirst } from "../../src/rlhf/pairwise/model.ts";
import { gpuReady } from "../helpers.ts";
import { collect, prompts, sequences, tinyConfig, tokenizer } from "../rlhf/tiny.ts";

let broken: CausalLM;
let scorer: ScoreModel;
beforeAll(async () => {
  await gpuReady();
  broken = new CausalLM(tinyConfig(), "runs/broken").initialize(1);
  scorer = new ScoreModel(tinyConfig(), "runs/judge").initialize(2);
  for (const model of [broken, scorer]) {
    const { value } = model.store.parameters.find(({ name }) => name.endsWith("mlp.down.weight"))!;
    const data = await value.read();
    data[5] = Number.NaN;
    value.write(data);
  }
});
afterAll(() => {
  broken.destroy();
  scorer.destroy();
});

const said = /^runs\/broken gives log-probabilities that are not finite \(NaN\): its weights hold NaN/;
const prompt = Uint32Array.from([5, 6, 7]);
const ways: Partial<SamplingParams>[] = [{ temperature: 0 }, { topK: 5 }, { topP: 0.9 }, { repetitionPenalty: 1.2 }];

describe("a model that gives NaN", () => {
  it.each(ways)("draws no responses: %o", async (params) => {
    const all = { maxNewTokens: 4, temperature: 1, seed: 1, ...params };
    const error: Error = await generate(broken, [prompt], all).then(
      () => new Error("it drew"),
      (e) => e,
    );
    expect(error.message).toMatch(said);
    expect(isUserError(error)).toBe(true);
  });

  it("fails an engine's request, and the engine goes on", async () => {
    const engine = new Engine(broken, { slots: 2, capacity: 32 });
    const params = { maxNewTokens: 4, temperature: 1, seed: 1 };
    for (let i = 0; i < 2; i++) {
      const asked = engine.submit({ ids: prompt, params });
      await expect(
        (async () => {
          for await (const _ of asked);
        })(),
      ).rejects.toThrow(said);
      await expect(engine.submit({ ids: prompt, params, samples: 0, score: 1 }).scores()).rejects.toThrow(said);
    }
    expect(engine.failed).toBeNull();
    expect(engine.load).toEqual({ waiting: 0, active: 0 });
    await engine.close();
  });

  it("measures nothing", async () => {
    await expect(responseLogProbs(broken, sequences(2))).rejects.toThrow(said);
    await expect(promptLogProbs(broken, prompt)).rejects.toThrow(said);
    await expect(chancesOfFirst(broken, [prompt], [5, 6])).rejects.toThrow(said);
    await expect(scoreSequences(scorer, sequences(2))).rejects.toThrow(/^runs\/judge gives scores that are not finite/);
  });

  it("is no reference to train against, and no policy", async () => {
    const policy = new CausalLM(tinyConfig(), "runs/policy").initialize(3);
    const rewards = async (responses: readonly unknown[]) => responses.map((_, i) => i);
    const data = { train: prompts(4) };
    const sizes = { maxSteps: 1, responseLength: 4, perDeviceTrainBatchSize: 2 };
    const raft = { ...sizes, raftBatchSize: 4, topRewardPercentage: 0.5 };
    await expect(collect(trainRaft({ policy, reference: broken, rewards, tokenizer }, data, raft))).rejects.toThrow(
      said,
    );
    await expect(
      collect(trainPpo({ policy, reference: broken, rewards, tokenizer }, data, { ...sizes, rolloutBatchSize: 4 })),
    ).rejects.toThrow(said);
    const sampler = policySampler(broken, tokenizer);
    await expect(collect(trainRaft({ policy, sampler, rewards, tokenizer }, data, raft))).rejects.toThrow(said);
    policy.destroy();
  });
});
