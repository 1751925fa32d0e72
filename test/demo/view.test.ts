import { describe, expect, it } from "vitest";
import { lineChart } from "webrlhf/report";
import type { TrainEvent } from "webrlhf/rlhf";
import { defaultKnobs } from "../../demo/src/playground/knobs.ts";
import type { Reply, Stage } from "../../demo/src/playground/protocol.ts";
import { chartSpecs } from "../../demo/src/playground/specs.ts";
import { applyReply, emptyView, gain, progress } from "../../demo/src/playground/view.ts";
import { activity, honestLabel, outcome } from "../../demo/src/playground/words.ts";

const event = (stage: Stage, event: TrainEvent): Reply => ({ type: "event", stage, event });
const step = (stage: Stage, at: number, maxSteps: number, metrics: Record<string, number>): Reply =>
  event(stage, { type: "step", step: at, maxSteps, epoch: 0, metrics, tokens: 100, seconds: 0.5 });

const replies: Reply[] = [
  { type: "ready", device: { name: "a card", kind: "hardware" } },
  { type: "state", phase: "running", stage: "load" },
  event("load", { type: "start", stage: "load", step: 0, maxSteps: 0, parameters: 900 }),
  event("reward", { type: "eval", step: 0, metrics: { noise_ceiling: 0.9 } }),
  event("reward", { type: "start", stage: "reward", step: 0, maxSteps: 2, parameters: 1000 }),
  step("reward", 1, 2, { accuracy: 0.5, loss: 0.7 }),
  step("reward", 2, 2, { accuracy: 0.75, loss: 0.6 }),
  event("reward", { type: "eval", step: 2, metrics: { eval_accuracy: 0.7 } }),
  event("before", { type: "eval", step: 0, metrics: { reward: 1, reward_std: 2, gold: 3, gold_std: 0.5, kl: 0 } }),
  { type: "samples", when: "before", step: 0, samples: [{ prompt: "p", response: "r", reward: 1, gold: 2 }] },
  { type: "state", phase: "running", stage: "policy" },
  event("policy", { type: "start", stage: "ppo", step: 0, maxSteps: 2, parameters: 1900 }),
  step("policy", 1, 2, { reward: 1, gold: 3, kl: 0 }),
  step("policy", 2, 2, { reward: 5, gold: 3.5, kl: 4 }),
];

/** A look at the held-out prompts whose true reward moved so far, in its own units. */
const after = (mean: number, error: number): Reply =>
  event("after", {
    type: "eval",
    step: 2,
    metrics: {
      kl: 4,
      prompts: 64,
      reward_change: 4,
      reward_change_error: 0.5,
      gold_change: mean,
      gold_change_error: error,
    },
  });

describe("the view", () => {
  const view = emptyView();
  for (const reply of replies) applyReply(view, reply);

  it("is a fold over the worker's replies", () => {
    expect(view.accuracy).toBe(0.7);
    expect(view.ceiling).toBe(0.9);
    expect(view.parameters).toBe(900);
    expect(view.samplesBefore).toHaveLength(1);
    expect(progress(view)).toBe(1);
    expect(view.tokens / view.seconds).toBe(200);
  });

  it("measures both rewards in standard deviations of the start", () => {
    expect(gain(view, "reward", 5)).toBe(2);
    expect(gain(view, "gold", 3.5)).toBe(1);
    expect(gain(emptyView(), "gold", 3.5)).toBeNull();
    // Where all responses were worth the same, only that nothing moved can be told.
    const equal = { ...view, before: { reward: 0.1, reward_std: 1e-9, gold: 0, gold_std: 0 } };
    expect(gain(equal, "reward", 0.1 + 1e-9)).toBe(0);
    expect(gain(equal, "gold", 0)).toBe(0);
    expect(gain(equal, "gold", 0.5)).toBeNull();
  });

  it("draws charts, also of nothing", () => {
    const { rewards, kl, accuracy } = chartSpecs(view, defaultKnobs);
    expect(rewards.series.map((s) => s.points)).toEqual([
      [
        [1, 0],
        [2, 2],
      ],
      [
        [1, 0],
        [2, 1],
      ],
    ]);
    expect(kl.series[0].points.at(-1)).toEqual([2, 4]);
    expect(accuracy.references).toHaveLength(2);
    for (const spec of Object.values(chartSpecs(emptyView(), defaultKnobs)))
      expect(lineChart(spec)).toContain("no data");
  });

  it("knows the language model's size from the first, whatever the trainers count", () => {
    const early = emptyView();
    for (const reply of replies.slice(0, 5)) applyReply(early, reply);
    expect(early.rewardSteps).toBe(2);
    expect(early.parameters).toBe(900);
  });

  it("does not take a run that broke off for one that is done", () => {
    const broken = emptyView();
    for (const reply of replies.slice(0, 6)) applyReply(broken, reply);
    broken.phase = "broken";
    expect(progress(broken)).toBe(0.125);
    expect(activity(broken, defaultKnobs)).toBe("Broken off. Loading the language model.");
  });

  it("is put into words", () => {
    expect(activity(view, defaultKnobs)).toBe("PPO, step 2 of 2…");
    expect(activity({ ...view, phase: "paused" }, defaultKnobs)).toBe("Paused. PPO, step 2 of 2.");
    expect(outcome(view)).toBe(""); // no verdict on a training batch
    expect(honestLabel(view)).toBe("Runs on your GPU: a card · toy model of 900 parameters · 200 tokens/s");
  });

  it("gives a verdict on more than two standard errors only", () => {
    const said = (mean: number, error: number) => {
      const seen = structuredClone(view);
      applyReply(seen, after(mean, error));
      return outcome(seen);
    };
    expect(said(0.5, 0.1)).toBe(
      "By the reward model +2 ± 0.25 sd, in truth +1 ± 0.2 sd, KL 4, on 64 held-out prompts after step 2: " +
        "the stories got truly better.",
    );
    expect(said(-0.5, 0.1)).toMatch(/in truth −1 ± 0\.2 sd, .*: the stories got truly worse\.$/);
    for (const [mean, error] of [
      [0.5, 0.25],
      [-0.5, 0.3],
      [0, 0],
      [0.5, Number.POSITIVE_INFINITY],
    ])
      expect(said(mean, error)).toMatch(/: it cannot be told whether the stories got truly better or worse\.$/);
  });
});
