/** What figures and verdicts show of a run: a fold over its looks at the held-out prompts. */
import type { ChartBand, ChartPoint } from "webrlhf/report";
import { withError } from "../lib/lesson/numbers.ts";
import type { LessonEvent } from "../lib/lesson/types.ts";
import { type Method, methods } from "./knobs.ts";

/** A look at the held-out prompts. Rewards are counted from the start, in standard deviations of its answers. */
export interface Point {
  /** Of the trainer; of best-of-n the n. */
  step: number;
  /** Generated until then. */
  tokens: number;
  /** Nats from the start. */
  kl: number;
  /** Tokens of an answer, on average. */
  length: number;
  judge: number;
  judge_se: number;
  truth: number;
  truth_se: number;
}

export const rewards = ["judge", "truth"] as const;
export type Reward = (typeof rewards)[number];

/**
 * A change in standard deviations of the start's answers. Where all of them were worth the same there is nothing to measure by:
 * only that nothing moved can be told then; else NaN, which is not drawn and decides nothing.
 */
function inSpreads(moved: number, mean: number, spread: number): number {
  const rounding = 1e-5 * Math.max(1, Math.abs(mean));
  if (spread > rounding) return moved / spread;
  return Math.abs(moved) <= rounding ? 0 : Number.NaN;
}

/** The looks at a method, from the start on. */
export function pointsOf(events: readonly LessonEvent[], method: Method): Point[] {
  const measured = (stage: string) => events.flatMap((e) => (e.type === "measured" && e.stage === stage ? [e] : []));
  const [start] = measured("start");
  if (!start) return [];
  const { values: first } = start;
  return [start, ...measured(method)].map(({ step, values }): Point => {
    const of = (name: "gold" | "reward", what: string) =>
      inSpreads(values[`${name}_${what}`], first[name], first[`${name}_std`]);
    return {
      step,
      tokens: values.tokens,
      kl: Math.max(0, values.kl),
      length: values.mean_length,
      judge: of("reward", "change"),
      judge_se: of("reward", "change_se"),
      truth: of("gold", "change"),
      truth_se: of("gold", "change_se"),
    };
  });
}

/** The methods that a run has looked at. */
export const seenMethods = (events: readonly LessonEvent[]): Method[] =>
  methods.filter((method) => events.some((e) => e.type === "measured" && e.stage === method));

/** What runs are held against each other by. */
export const scales = ["step", "tokens", "distance"] as const;
export type Scale = (typeof scales)[number];

const placeOf = (point: Point, scale: Scale): number => (scale === "distance" ? Math.sqrt(point.kl) : point[scale]);

export const curve = (points: readonly Point[], scale: Scale, of: Reward | "kl" | "length"): ChartPoint[] =>
  points.map((point): ChartPoint => [placeOf(point, scale), point[of]]);

/** Two standard errors to either side. */
export const bars = (points: readonly Point[], scale: Scale, of: Reward): ChartBand[] =>
  points.map((point): ChartBand => {
    const far = 2 * point[`${of}_se`];
    return [placeOf(point, scale), point[of] - far, point[of] + far];
  });

export type Verdict = "up" | "down" | "unknown";

/** Which way it went, where that can be told: by more than two standard errors. */
export const verdictOf = (mean: number, error: number): Verdict =>
  Math.abs(mean) > 2 * error ? (mean > 0 ? "up" : "down") : "unknown"; // also where a number is missing

/** "+0.5 ± 0.1" */
export const signed = (mean: number, error: number): string =>
  Number.isFinite(mean) ? `${mean > 0 ? "+" : ""}${withError(mean, error)}` : "–";

/** Two methods of a race, on the same prompts: what the first has more than the second. */
export interface Versus {
  a: Method;
  b: Method;
  truth: number;
  truth_se: number;
  judge: number;
  judge_se: number;
}

/** The share of held-out pairs that the judge calls right; null: not known yet. */
export function accuracyOf(events: readonly LessonEvent[]): number | null {
  const found = events.findLast((e) => e.type === "train" && e.stage === "judge" && e.event.type === "eval");
  return found?.type === "train" && found.event.type === "eval" ? (found.event.metrics.eval_accuracy ?? null) : null;
}
