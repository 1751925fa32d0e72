/** Reading lessons' events: what figures and checks are made of. */
import { showNumber } from "webrlhf/report";
import type { Gain, LessonEvent } from "./types.ts";

type Point = readonly [x: number, y: number];

/** A metric of a trainer's steps. */
export const stepCurve = (events: readonly LessonEvent[], stage: string, metric: string): Point[] =>
  events.flatMap((e): Point[] =>
    e.type === "train" && e.stage === stage && e.event.type === "step" && Number.isFinite(e.event.metrics[metric])
      ? [[e.event.step, e.event.metrics[metric]]]
      : [],
  );

/** A value that was measured again and again. */
export const measuredCurve = (events: readonly LessonEvent[], stage: string, value: string): Point[] =>
  events.flatMap((e): Point[] =>
    e.type === "measured" && e.stage === stage && Number.isFinite(e.values[value]) ? [[e.step, e.values[value]]] : [],
  );

/** What was measured last in a stage; null: nothing yet. */
export function lastMeasured(events: readonly LessonEvent[], stage: string): Record<string, number> | null {
  const found = events.findLast((e) => e.type === "measured" && e.stage === stage);
  return found?.type === "measured" ? found.values : null;
}

/** A change that was measured last in a stage, with its standard error; null: not yet. */
export function lastGain(events: readonly LessonEvent[], stage: string, name = "gold_change"): Gain | null {
  const values = lastMeasured(events, stage);
  const [gain, se] = [values?.[name], values?.[`${name}_se`]];
  return gain === undefined || se === undefined ? null : { gain, se };
}

/** The data of a lesson's own that came last; null: none yet. Its shape is the program's. */
export function lastData<T>(events: readonly LessonEvent[], name: string): T | null {
  const found = events.findLast((e) => e.type === "data" && e.name === name);
  return found?.type === "data" ? (found.data as T) : null;
}

/** "1.52 ± 0.08" */
export const withError = (value: number, error: number): string => `${showNumber(value, 3)} ± ${showNumber(error, 2)}`;

/** How far two independent means lie apart, in standard errors of their difference. */
export const apart = (a: number, aError: number, b: number, bError: number): number =>
  (a - b) / Math.hypot(aError, bError);
