import { describe, expect, it } from "vitest";
import { defaultKnobs, knobsToHash } from "../../demo/src/playground/knobs.ts";
import { fileName, runLines } from "../../demo/src/playground/saved.ts";
import { emptyView } from "../../demo/src/playground/view.ts";

describe("a run as a file", () => {
  it("holds settings and metrics, a line each", () => {
    const view = {
      ...emptyView({ name: "a card", kind: "hardware" } as const),
      parameters: 900,
      reward: [{ step: 1, metrics: { accuracy: 0.5 } }],
      accuracy: 0.75,
      ceiling: 0.9,
      before: { reward: 1 },
      policy: [{ step: 1, metrics: { reward: 2, kl: 0.5 } }],
      after: { step: 1, metrics: { reward: 3 } },
    };
    const link = `https://page.example/${knobsToHash(defaultKnobs)}`;
    const lines = runLines(view, defaultKnobs, link).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      {
        stage: "settings",
        algorithm: "ppo",
        kl_coef: 0.1,
        learning_rate: 0.0012,
        rollout_batch_size: 64,
        max_steps: 12,
        reward_pairs: 2048,
        seed: 42,
        device: "a card",
        parameters: 900,
        link,
      },
      { stage: "reward", step: 1, accuracy: 0.5 },
      { stage: "reward held out", accuracy: 0.75, noise_ceiling: 0.9 },
      { stage: "before", reward: 1 },
      { stage: "policy", step: 1, reward: 2, kl: 0.5 },
      { stage: "after", step: 1, reward: 3 },
    ]);
    expect(fileName(defaultKnobs)).toBe("webrlhf-ppo-seed42.jsonl");
  });
});
