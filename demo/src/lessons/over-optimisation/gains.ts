/** Rewards on one axis: standard deviations of the start's answers, counted from their mean. */
import type { ChartBand, ChartPoint } from "webrlhf/report";
import type { LessonEvent, Recording } from "../../lib/lesson/types.ts";

export type Reward = "gold" | "reward";

/** A look at the held-out prompts. */
export interface Look {
  step: number;
  /** Nats per answer from the start. */
  kl: number;
  /** How far each reward has moved, in standard deviations of the start's answers. */
  gold: number;
  reward: number;
}

/** The looks of a run, in order. */
export function looksOf(events: readonly LessonEvent[]): Look[] {
  const all = events.flatMap((e) => (e.type === "measured" && e.stage === "look" ? [e] : []));
  const first = all[0]?.values;
  if (!first) return [];
  return all.map(({ step, values }) => ({
    step,
    kl: Math.max(0, values.kl ?? 0),
    gold: (values.gold - first.gold) / (first.gold_std || 1),
    reward: (values.reward - first.reward) / (first.reward_std || 1),
  }));
}

export const bySteps = (looks: readonly Look[], reward: Reward): ChartPoint[] =>
  looks.map((look): ChartPoint => [look.step, look[reward]]);

/** The road from the start: how far it went, and what it brought. */
export const byDistance = (looks: readonly Look[], reward: Reward): ChartPoint[] =>
  looks.map((look): ChartPoint => [Math.sqrt(look.kl), look[reward]]);

/** From the lowest to the highest of several runs, at each step that all of them looked at. */
export function bandOf(runs: readonly (readonly LessonEvent[])[], reward: Reward): ChartBand[] {
  const all = runs.map((events) => new Map(looksOf(events).map((look) => [look.step, look[reward]])));
  const steps = [...(all[0]?.keys() ?? [])].filter((step) => all.every((run) => run.has(step)));
  return steps.map((step): ChartBand => {
    const values = all.map((run) => run.get(step) as number);
    return [step, Math.min(...values), Math.max(...values)];
  });
}

/** Recordings that differ from this run in nothing but the seed. */
export function ofOtherSeeds(recordings: readonly Recording[], input: unknown): Recording[] {
  const without = (value: unknown) => JSON.stringify({ ...(value as object), seed: 0 });
  return recordings.filter((recording) => without(recording.input) === without(input));
}

/** Between these the rewards are shown: beyond them stories are babble, and how bad babble is tells nothing. */
export const READABLE = [-3, 3] as const;
