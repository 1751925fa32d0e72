/** What the page knows of a run: a fold over the worker's replies. */
import type { ChartPoint } from "webrlhf/report";
import type { Sample } from "webrlhf/rlhf";
import type { Change } from "./paired.ts";
import type { DeviceInfo, Phase, Reply, Stage } from "./protocol.ts";

export type Metrics = Record<string, number>;

export interface Row {
  readonly step: number;
  readonly metrics: Metrics;
}

export interface View {
  device: DeviceInfo | null;
  phase: Phase;
  stage: Stage;
  /** Parameters of the policy (0: not known yet). */
  parameters: number;
  reward: Row[];
  rewardSteps: number;
  /** The share of held-out pairs that the reward model calls right, and that a perfect judge would. */
  accuracy: number | null;
  ceiling: number | null;
  policy: Row[];
  policySteps: number;
  before: Metrics | null;
  /** The latest look at the same held-out prompts. */
  after: Row | null;
  samplesBefore: Sample[];
  samplesAfter: Sample[];
  /** Policy steps behind `samplesAfter`. */
  samplesStep: number;
  tokens: number;
  seconds: number;
}

export const emptyView = (device: DeviceInfo | null = null): View => ({
  device,
  phase: "idle",
  stage: "load",
  parameters: 0,
  reward: [],
  rewardSteps: 0,
  accuracy: null,
  ceiling: null,
  policy: [],
  policySteps: 0,
  before: null,
  after: null,
  samplesBefore: [],
  samplesAfter: [],
  samplesStep: 0,
  tokens: 0,
  seconds: 0,
});

/** Adds one reply to the view. */
export function applyReply(view: View, reply: Reply): void {
  switch (reply.type) {
    case "ready":
      view.device = reply.device;
      return;
    case "state":
      view.phase = reply.phase;
      view.stage = reply.stage;
      return;
    case "samples":
      if (reply.when === "before") {
        view.samplesBefore = reply.samples;
      } else {
        view.samplesAfter = reply.samples;
        view.samplesStep = reply.step;
      }
      return;
    case "event":
      applyEvent(view, reply);
      return;
  }
}

function applyEvent(view: View, { stage, event }: Extract<Reply, { type: "event" }>): void {
  if (event.type === "start") {
    if (stage === "load") view.parameters = event.parameters; // those of trainers count other models, too
    if (stage === "reward") view.rewardSteps = event.maxSteps;
    if (stage === "policy") view.policySteps = event.maxSteps;
  } else if (event.type === "step") {
    (stage === "reward" ? view.reward : view.policy).push({ step: event.step, metrics: event.metrics });
    view.tokens += event.tokens;
    view.seconds += event.seconds;
  } else if (event.type === "eval") {
    const { metrics } = event;
    if (stage === "before") view.before = metrics;
    if (stage === "after") view.after = { step: event.step, metrics };
    view.accuracy = metrics.eval_accuracy ?? view.accuracy;
    view.ceiling = metrics.noise_ceiling ?? view.ceiling;
  }
}

/** One metric over the steps. */
export const curve = (rows: readonly Row[], name: string): ChartPoint[] =>
  rows.flatMap(({ step, metrics }): ChartPoint[] => (Number.isFinite(metrics[name]) ? [[step, metrics[name]]] : []));

/**
 * Puts the learned and the true reward, which have different units, on one axis: standard deviations of the responses
 * before training, counted from their mean; null where they cannot be known.
 */
export function gain({ before }: View, name: "reward" | "gold", value: number | undefined): number | null {
  return before && value !== undefined ? inSpreads(before, name, value - before[name]) : null;
}

/** How far a reward has moved on the held-out prompts, in the same units. */
export function change({ before, after }: View, name: "reward" | "gold"): Change | null {
  if (!before || !after) return null;
  const mean = inSpreads(before, name, after.metrics[`${name}_change`]);
  const error = inSpreads(before, name, after.metrics[`${name}_change_error`]);
  return mean === null || error === null ? null : { mean, error };
}

/** Responses that were all worth the same have no spread to measure by: only that nothing moved can be told then. */
function inSpreads(before: Metrics, name: "reward" | "gold", moved: number | undefined): number | null {
  const spread = before[`${name}_std`];
  if (spread === undefined || moved === undefined) return null;
  const rounding = 1e-5 * Math.max(1, Math.abs(before[name]));
  if (spread > rounding) return moved / spread;
  return Math.abs(moved) <= rounding ? 0 : null;
}

/** How much of the whole run is done, 0 to 1. The policy's steps weigh more: each takes longer. */
export function progress(view: View): number {
  if (view.phase === "done") return 1;
  const reward = view.reward.length / (view.rewardSteps || 1);
  const policy = view.policy.length / (view.policySteps || 1);
  return 0.25 * Math.min(1, reward) + 0.75 * Math.min(1, policy);
}
