/** How good a policy is in an environment: means of episodes, intervals, successes, and what failed. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Environment, environmentReward, environmentSampler, evaluatePolicy, type Prompt } from "webrlhf/rlhf";
import { meanInterval } from "../../../src/rlhf/bootstrap.ts";
import { episodeMetrics } from "../../../src/rlhf/environment/evaluation.ts";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { wordPolicy, wordTokenizer } from "./words.ts";

beforeAll(gpuReady);

const keep = keeper();
const tokenizer = wordTokenizer(["go", "on", "a", "b"]);
const policy = () => keep(wordPolicy(tokenizer, 1, { hiddenSize: 16 }));

/** Two turns at most; a turn is worth how often it says "a". */
const counting: Environment = {
  best: 2,
  reset: ({ prompt: { row } }) => ({
    observation: [{ role: "user", content: "go" }],
    step({ text, turn }) {
      if (row?.id === 1 && row.broken) throw new Error("no");
      const reward = text.split(" ").filter((word) => word === "a").length;
      return { observation: [{ role: "user", content: "on" }], reward, done: turn === 1 };
    },
  }),
};
const prompts = (n: number, broken = false): Prompt[] =>
  Array.from({ length: n }, (_, id) => ({ text: "", ids: new Uint32Array(0), row: { id, broken } }));
const options = { seed: 5, responseLength: 24 };

describe("episodes", () => {
  it("are those of the environment's sampler, with their mean reward, turns, lengths and successes", async () => {
    const model = policy();
    const inputs = { policy: model, tokenizer, environment: counting, prompts: prompts(16) };
    const { metrics, samples, warnings } = await evaluatePolicy(inputs, { ...options, maxTurns: 3, showSamples: 2 });
    const limits = { maxTurns: 3, environmentTimeout: 20, environmentFailure: "stop" } as const;
    const sampler = environmentSampler({ policy: model, tokenizer, environment: counting, ...limits });
    const drawn = await sampler(prompts(16), [...Array(16).keys()], {
      maxNewTokens: 24,
      seed: 5,
      iteration: 0,
      temperature: 1,
    });
    const rewards = Array.from(await environmentReward(drawn));
    const mean = (all: readonly number[]) => all.reduce((a, b) => a + b, 0) / all.length;
    expect(metrics.reward).toBeCloseTo(mean(rewards), 10);
    expect(metrics.success_rate).toBe(mean(rewards.map((r) => Number(r >= 2))));
    expect(metrics.mean_turns).toBe(mean(drawn.map(({ turns }) => turns?.length ?? 0)));
    expect(metrics.mean_length).toBe(mean(drawn.map(({ learned = [] }) => [...learned].filter(Boolean).length)));
    expect(metrics.mean_episode_length).toBe(mean(drawn.map((r) => r.ids.length - r.promptLength)));
    expect(metrics.mean_episode_length).toBeGreaterThan(metrics.mean_length);
    expect(metrics.eos_rate).toBe(mean(drawn.map(({ ended }) => Number(ended))));
    expect(metrics.prompts).toBe(16);
    expect(samples.map(({ response, reward }) => [response, reward])).toEqual(
      drawn.slice(0, 2).map(({ text }, i) => [text, rewards[i]]),
    );
    expect(warnings).toEqual([]);
    // One turn is none that can be worth 1000.
    const { metrics: hard } = await evaluatePolicy(inputs, {
      ...options,
      maxTurns: 1,
      successReward: 1000,
      resamples: 0,
    });
    expect([hard.success_rate, hard.mean_turns, "reward_low" in hard]).toEqual([0, 1, false]);
  });

  it("are left out where the environment fails and that is allowed, which is told", async () => {
    const inputs = { policy: policy(), tokenizer, environment: counting, prompts: prompts(3, true) };
    await expect(evaluatePolicy(inputs, options)).rejects.toThrow(/prompt 1, sample 0, turn 1: Error: no/);
    const allowed = { ...options, bestOf: 2, environmentFailure: "drop" } as const;
    const { metrics, samples, warnings } = await evaluatePolicy(inputs, allowed);
    expect([metrics.prompts, metrics.dropped, samples.length]).toEqual([2, 1, 2]);
    expect(warnings).toEqual([expect.stringMatching(/left out: .*prompt 1.*: Error: no/)]);
    const unrewarded = await evaluatePolicy({ ...inputs, environment: { reset: counting.reset } }, allowed);
    expect(unrewarded.metrics).not.toHaveProperty("success_rate"); // nobody says what the best is
  });

  it("are the best of several by their reward", async () => {
    const inputs = { policy: policy(), tokenizer, environment: counting, prompts: prompts(8) };
    const [one, four] = [1, 4].map((bestOf) => evaluatePolicy(inputs, { ...options, bestOf }));
    expect((await four).metrics.reward).toBeGreaterThan((await one).metrics.reward);
  });

  it("cannot be drawn by others", async () => {
    const inputs = { policy: policy(), tokenizer, environment: counting, prompts: prompts(1), sampler: async () => [] };
    await expect(evaluatePolicy(inputs, options)).rejects.toThrow("cannot draw its responses");
  });
});

describe("intervals", () => {
  it("hold the mean of a sample in the middle, and shrink with its square root", () => {
    const of = (n: number) =>
      meanInterval(
        Array.from({ length: n }, (_, i) => i % 2),
        { resamples: 1000, seed: 1 },
      );
    const [few, many] = [of(100), of(400)] as { low: number; high: number }[];
    // The normal distribution's, by the standard error of 0.5 / sqrt(n).
    for (const [{ low, high }, n] of [
      [few, 100],
      [many, 400],
    ] as const) {
      const half = (1.96 * 0.5) / Math.sqrt(n);
      expect(low).toBeGreaterThan(0.5 - 1.2 * half);
      expect(low).toBeLessThan(0.5 - 0.8 * half);
      expect(high).toBeGreaterThan(0.5 + 0.8 * half);
      expect(high).toBeLessThan(0.5 + 1.2 * half);
    }
    expect(meanInterval([1, 2], { resamples: 0, seed: 1 })).toEqual({ low: null, high: null });
  });

  it("count as a success what comes to the best but for rounding", () => {
    const turns = Array.from({ length: 10 }, () => ({ start: 0, end: 0, text: "", calls: [], reward: 0.1 }));
    const ids = new Uint32Array(3);
    const episode = { ids, promptLength: 1, prompt: 0, sample: 0, promptText: "", text: "", ended: true, turns };
    const some = [episode, { ...episode, turns: turns.slice(1) }];
    const metrics = episodeMetrics(some, [1, 0.9], { successReward: 1, resamples: 10, seed: 1 });
    expect(metrics).toMatchObject({ success_rate: 0.5, mean_turns: 9.5, mean_episode_length: 2 });
    expect(metrics.success_low).toBeGreaterThan(0.05);
    expect(metrics.success_high).toBeCloseTo(1 - metrics.success_low, 12);
  });
});
