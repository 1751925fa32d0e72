/** What becomes of a step where a reward throws, takes too long or gives what is no number. */
import { beforeAll, describe, expect, it } from "vitest";
import { CausalLM } from "webrlhf/nn";
import {
  judged,
  type Response,
  type RewardFunction,
  type RewardParts,
  rewardParts,
  trainGrpo,
  trainPpo,
  trainRaft,
} from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import { collect, metricsOf, prompts, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(gpuReady);

const keep = keeper();

/** Two responses to each of `n` prompts. */
const responses = (n: number): Response[] =>
  Array.from({ length: 2 * n }, (_, i) => {
    const prompt = Math.floor(i / 2);
    const ids = new Uint32Array(3);
    return { ids, promptLength: 1, prompt, sample: i % 2, promptText: `p${prompt}`, text: `r${i}`, ended: true };
  });
const parts = (...rewards: RewardFunction[]): RewardParts =>
  rewardParts(Object.fromEntries(rewards.map((r, i) => [`reward${i}`, r])), tokenizer);
const places: RewardFunction = (all) => all.map(({ prompt, sample }) => 10 * prompt + sample);
const broken = (wrong: (r: Response) => boolean, what: () => number): RewardFunction =>
  ((all) => all.map((r) => (wrong(r) ? what() : 1))) as RewardFunction;
const throwing = (...bad: number[]) =>
  broken(
    ({ prompt }) => bad.includes(prompt),
    () => {
      throw new TypeError("no verdict");
    },
  );
const drop = { onRewardError: "drop" } as const;

describe("rewards that fail", () => {
  it("stop, and say which reward and at which prompt", async () => {
    await expect(judged(parts(places, throwing(2)), responses(4))).rejects.toThrow(
      'the reward reward1 failed: TypeError: no verdict (at the prompt "p2")',
    );
    const nothing = broken(
      ({ prompt, sample }) => prompt === 1 && sample === 1,
      () => Number.NaN,
    );
    await expect(judged(parts(nothing), responses(2))).rejects.toThrow(/NaN for the response "r3" to the prompt "p1"/);
    const slow: RewardFunction = (all) => new Promise((done) => setTimeout(() => done(all.map(() => 1)), 2000));
    await expect(judged(parts(slow), responses(1), { rewardTimeout: 0.02 })).rejects.toThrow(
      /reward0 has said nothing for 0.02 s/,
    );
  });

  it("stop also where the failure does not come again", async () => {
    let calls = 0;
    const once: RewardFunction = (all) => {
      if (calls++ === 0) throw new Error("busy");
      return all.map(() => 1);
    };
    await expect(judged(parts(once), responses(2))).rejects.toThrow("the reward reward0 failed: Error: busy");
    calls = 0;
    expect((await judged(parts(once), responses(2), drop)).scores).toEqual([1, 1, 1, 1]);
  });

  it("leave whole prompts out, whichever reward it was, and no other", async () => {
    const infinite = broken(
      ({ prompt, sample }) => prompt === 0 && sample === 1,
      () => Number.POSITIVE_INFINITY,
    );
    const asked: number[] = [];
    const last: RewardFunction = (all) => all.map(({ prompt }) => asked.push(prompt));
    const {
      kept,
      scores,
      parts: own,
      failures,
    } = await judged({ ...parts(places, throwing(2), infinite, last), weights: [1, 1, 1, 0] }, responses(4), drop);
    expect(kept).toEqual([2, 3, 6, 7]);
    expect(scores).toEqual([12, 13, 32, 33]);
    expect(own[0]).toEqual([10, 11, 30, 31]);
    expect(asked).toEqual([1, 1, 3, 3]);
    expect(failures.map(({ promptText }) => promptText)).toEqual(["p2", "p0"]);
    expect(failures[0].why).toContain("no verdict");
  });

  it("stop after all where no prompt can be judged, without asking for every one", async () => {
    let calls = 0;
    const never: RewardFunction = () => {
      calls++;
      throw new Error("gone");
    };
    await expect(judged(parts(never), responses(20), drop)).rejects.toThrow(/gone .*each of the first 3 prompts/);
    expect(calls).toBe(4);
    await expect(judged(parts(throwing(0, 1)), responses(2), drop)).rejects.toThrow(/none of the step's other prompts/);
  });

  it("are never asked again for what cannot be told apart: another number of scores, a remote judge", async () => {
    let calls = 0;
    const short: RewardFunction = (all) => {
      calls++;
      return all.slice(1).map(() => 1);
    };
    await expect(judged(parts(short), responses(2), drop)).rejects.toThrow("returned 3 scores for 4 responses");
    expect(calls).toBe(1);
    calls = 0;
    const remote: RewardFunction = Object.assign(
      () => {
        calls++;
        throw new Error("away");
      },
      { remote: true },
    );
    await expect(judged(parts(remote), responses(2))).rejects.toThrow("the reward reward0 failed: Error: away");
    expect(calls).toBe(1);
  });
});

describe("a step goes on without what was not judged", () => {
  /** The second prompt of every step cannot be judged. */
  const seen: string[] = [];
  const failing: RewardFunction = (all) =>
    all.map((r) => {
      seen.push(r.promptText);
      if (r.prompt === 1) throw new Error("no verdict");
      return r.ids[r.promptLength] / 100;
    });
  const common = { onRewardError: "drop", responseLength: 6, maxSteps: 2, seed: 5, learningRate: 1e-2 } as const;
  const policyOf = () => keep(new CausalLM(tinyConfig(), "policy").initialize(1));
  const trainers = {
    grpo: () =>
      trainGrpo(
        { policy: policyOf(), rewards: { failing }, tokenizer },
        { train: prompts(8) },
        { ...common, numGenerations: 4, generationBatchSize: 16, perDeviceTrainBatchSize: 8 },
      ),
    ppo: () =>
      trainPpo(
        { policy: policyOf(), rewards: { failing }, tokenizer },
        { train: prompts(8) },
        { ...common, numGenerations: 4, rolloutBatchSize: 4, perDeviceTrainBatchSize: 8 },
      ),
    raft: () =>
      trainRaft(
        { policy: policyOf(), rewards: { failing }, tokenizer },
        { train: prompts(8) },
        { ...common, raftBatchSize: 4, topRewardPercentage: 0.25 },
      ),
  };

  it.each(Object.keys(trainers) as (keyof typeof trainers)[])("%s", async (name) => {
    const events = await collect(trainers[name]());
    const steps = metricsOf(events);
    expect(steps).toHaveLength(2);
    for (const metrics of steps) {
      expect(metrics.n_unjudged).toBe(4);
      for (const [metric, value] of Object.entries(metrics)) expect(value, metric).not.toBeNaN();
    }
    const warnings = events.flatMap((e) => (e.type === "warning" ? [e.text] : []));
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toMatch(/^left 1 prompt out of step 1, .*failed: Error: no verdict \(at the prompt /);
  });

  it("unless responses are shown before they are judged", () => {
    const grpo = () =>
      trainGrpo(
        { policy: policyOf(), rewards: { failing }, tokenizer },
        { train: prompts(8) },
        { ...common, numGenerations: 4, generationBatchSize: 16, showRollouts: 2 },
      );
    expect(grpo).toThrow(/showRollouts 2 opens responses before they are judged/);
  });
});
