/** What a run's events tell of its responses, token by token: whole at a step's end, in parts while the step goes on. */
import type { RolloutRow } from "webrlhf/rlhf";
import type { LessonEvent } from "../../lib/lesson/types.ts";

/** A row as far as it is known. Its updates are those after each optimizer step: before the first one, each ratio is 1. */
export type OpenedRow = Pick<RolloutRow, "prompt" | "response" | "ids" | "texts" | "logProbs"> &
  Partial<Omit<RolloutRow, "updates" | "valueUpdates">> &
  Required<Pick<RolloutRow, "updates" | "valueUpdates">>;

/** A step of PPO as far as it has come. */
export interface OpenedStep {
  step: number;
  /** Null until the responses are scored. */
  klCoef: number | null;
  rows: OpenedRow[];
  /** The policy's loss before each of its optimizer steps, as far as they are told. */
  losses: number[];
}

/** The rollout of a run's first step; null while it is not whole. */
export function firstRollout(events: readonly LessonEvent[]) {
  for (const e of events) if (e.type === "train" && e.event.type === "rollout" && e.event.step === 1) return e.event;
  return null;
}

/** All steps that were laid open, in order. */
export function openedSteps(events: readonly LessonEvent[]): OpenedStep[] {
  const steps = new Map<number, OpenedStep>();
  for (const e of events) {
    if (e.type !== "train") continue;
    const { event } = e;
    if (event.type === "rollout") {
      const { step, klCoef } = event;
      const losses = steps.get(step)?.losses ?? [];
      const rows = event.rows.map((row) => {
        const { updates, valueUpdates = [] } = row;
        return { ...row, updates: updates.slice(1), valueUpdates: valueUpdates.slice(1) };
      });
      steps.set(step, { step, klCoef, rows, losses });
    } else if (event.type === "phase") {
      if (event.phase === "sample") steps.set(event.step, begun(event.step, event.rows));
      const opened = steps.get(event.step);
      if (opened && event.phase !== "sample") steps.set(event.step, further(opened, event));
    }
  }
  return [...steps.values()];
}

type Told = Extract<Extract<LessonEvent, { type: "train" }>["event"], { type: "phase" }>;

const begun = (step: number, rows: Extract<Told, { phase: "sample" }>["rows"]): OpenedStep => ({
  step,
  klCoef: null,
  rows: rows.map((row) => ({ ...row, updates: [], valueUpdates: [] })),
  losses: [],
});

/** A new object: what was drawn of the old one stays true. */
function further(opened: OpenedStep, event: Exclude<Told, { phase: "sample" }>): OpenedStep {
  const withRows = <T>(found: readonly T[], add: (row: OpenedRow, of: T) => OpenedRow): OpenedStep => ({
    ...opened,
    rows: opened.rows.map((row, i) => add(row, found[i])),
  });
  if (event.phase === "score")
    return { ...withRows(event.rows, (row, of) => ({ ...row, ...of })), klCoef: event.klCoef };
  if (event.phase === "advantage") return withRows(event.rows, (row, of) => ({ ...row, ...of }));
  if (event.model === "critic") {
    return withRows(event.rows, (row, of) => ({ ...row, valueUpdates: [...row.valueUpdates, of] }));
  }
  const next = withRows(event.rows, (row, of) => ({ ...row, updates: [...row.updates, of] }));
  return { ...next, losses: [...opened.losses, event.loss] };
}
