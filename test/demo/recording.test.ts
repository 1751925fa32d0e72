import fs from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { exhibits, knobsOf } from "../../demo/src/playground/exhibits.ts";
import { defaultKnobs } from "../../demo/src/playground/knobs.ts";
import { direction } from "../../demo/src/playground/paired.ts";
import type { Reply, Stage } from "../../demo/src/playground/protocol.ts";
import {
  opened,
  pack,
  type Recorded,
  type Recording,
  recordingFor,
  viewOf,
} from "../../demo/src/playground/recording.ts";
import { chartSpecs } from "../../demo/src/playground/specs.ts";
import { applyReply, change, curve, emptyView } from "../../demo/src/playground/view.ts";

const file = path.resolve(import.meta.dirname, "../../demo/src/playground/recorded.json");
const text = await fs.readFile(file, "utf8");
const recordings = (JSON.parse(text) as Recording[]).map(opened);
const named = (name: string): Recorded =>
  recordingFor(knobsOf(exhibits.find((e) => e.name === name) as (typeof exhibits)[number]), recordings) as Recorded;

describe("a recording", () => {
  it("shows what the worker said", () => {
    const step = (stage: Stage, at: number, maxSteps: number, metrics: Record<string, number>): Reply => ({
      type: "event",
      stage,
      event: { type: "step", step: at, maxSteps, epoch: at / maxSteps, metrics, tokens: 0, seconds: 0 },
    });
    const look = (stage: "before" | "after", at: number, metrics: Record<string, number>): Reply[] => [
      { type: "event", stage, event: { type: "eval", step: at, metrics } },
      { type: "samples", when: stage, step: at, samples: [{ prompt: "p", response: `after ${at}`, gold: at }] },
    ];
    const replies: Reply[] = [
      { type: "ready", device: { name: "a card", kind: "hardware" } },
      {
        type: "event",
        stage: "reward",
        event: { type: "start", stage: "reward", step: 0, maxSteps: 2, parameters: 9 },
      },
      step("reward", 1, 2, { accuracy: 0.5 }),
      step("reward", 2, 2, { accuracy: 0.75 }),
      ...look("before", 0, { reward: 1, reward_std: 2, gold: 3, gold_std: 1, kl: 0, prompts: 64 }),
      step("policy", 1, 3, { reward: 1, gold: 3, kl: 0 }),
      step("policy", 2, 3, { reward: 2, gold: 4, kl: 1 }),
      ...look("after", 2, { reward: 2, gold: 4, gold_change: 1, gold_change_error: 0.1, kl: 1, prompts: 64 }),
      step("policy", 3, 3, { reward: 3, gold: 2, kl: 2 }),
      ...look("after", 3, { reward: 3, gold: 2, gold_change: -1, gold_change_error: 0.1, kl: 2, prompts: 64 }),
      { type: "state", phase: "done", stage: "after" },
    ];
    const seen = emptyView();
    for (const reply of replies) applyReply(seen, reply);
    const packed = pack(replies);
    expect(packed.length).toBeLessThan(replies.length);
    expect(viewOf(JSON.parse(JSON.stringify(packed)))).toEqual(seen);
  });

  it("is there for each question, and small", () => {
    expect(text.length).toBeLessThan(60_000);
    for (const exhibit of exhibits) {
      const found = recordings.find(({ knobs }) => JSON.stringify(knobs) === JSON.stringify(knobsOf(exhibit)));
      expect(found, exhibit.name).toBeDefined();
      expect(found && curve(found.view.policy, "gold")).toHaveLength(knobsOf(exhibit).steps);
      expect(found?.view.after?.metrics.prompts).toBeGreaterThanOrEqual(64);
      expect(found?.view.samplesAfter).toHaveLength(4);
      expect(found?.others.map(({ seed }) => seed)).toEqual(exhibit.otherSeeds ?? []);
    }
  });

  it("answers the question that it was made for, or the nearest", () => {
    expect(recordingFor({ ...defaultKnobs, klCoef: 0, rolloutSize: 16 }, recordings)).toBe(named("No KL penalty"));
    expect(recordingFor({ ...defaultKnobs, klCoef: 0.3 }, recordings)).toBe(named("The ordinary case"));
    expect(recordingFor({ ...defaultKnobs, algorithm: "raft", learningRate: 5e-3 }, recordings)).toBe(
      named("RAFT instead"),
    );
    expect(recordingFor(defaultKnobs, [])).toBeNull();
  });

  it("without a KL penalty shows the judge content and the truth turned over, on a readable axis", () => {
    const recorded = named("No KL penalty");
    const { view, others } = recorded;
    expect(direction(change(view, "reward") as { mean: number; error: number })).toBe("up");
    const [, truth] = chartSpecs(view, recorded.knobs, recorded).rewards.series;
    const mean = (values: number[]) => values.reduce((sum, v) => sum + v, 0) / values.length;
    const gold = truth.points.map(([, y]) => y);
    expect(mean(gold.slice(3, 9)) - mean(gold.slice(-6))).toBeGreaterThan(0.5);
    expect(Math.max(...gold)).toBeLessThan(4);
    // In most seeds the last steps are truly worse than the best ones, while the judge sees no loss.
    const turned = others.filter(
      ({ gold: g }) => Math.max(...[4, 8, 12].map((i) => mean(g.slice(i - 3, i + 3)))) - mean(g.slice(-6)) > 0.2,
    );
    expect(turned.length).toBeGreaterThan(others.length / 2);
    for (const { reward } of others) expect(mean(reward.slice(-6))).toBeGreaterThan(mean(reward.slice(0, 6)));
    expect(truth.band).toHaveLength(recorded.knobs.steps);
    for (const [x, low, high] of truth.band ?? []) {
      expect(low).toBeLessThanOrEqual(gold[x - 1]);
      expect(high).toBeGreaterThanOrEqual(gold[x - 1]);
    }
  });

  it("stands pale behind a run, no longer than that one", () => {
    const recorded = named("The ordinary case");
    const live = { ...emptyView(), rewardSteps: 8, policySteps: 4 };
    const specs = chartSpecs(live, defaultKnobs, recorded);
    for (const [id, steps] of [
      ["accuracy", 8],
      ["kl", 4],
      ["rewards", 4],
    ] as const) {
      const pale = specs[id].series.filter((s) => s.faint);
      expect(pale).toHaveLength(id === "rewards" ? 2 : 1);
      for (const { points } of pale) expect(points.at(-1)?.[0]).toBe(steps);
    }
    const itself = chartSpecs(recorded.view, recorded.knobs, recorded);
    expect(Object.values(itself).flatMap((s) => s.series.filter((one) => one.faint))).toEqual([]);
  });
});
