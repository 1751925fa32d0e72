/** The lines that a trainer's events leave in files, for people and programs. */
import type { TrainEvent } from "./events.ts";

/** A line of a run's table. */
export type Row = Record<string, unknown> & { step: number };

/** Lines of one file of a run's folder. */
export interface RunLines {
  file: string;
  rows: Row[];
}

export const METRICS = "metrics.jsonl";
export const TIMING = "timing.jsonl";
export const SAMPLES = "samples.jsonl";

const tableFile = (table: string) => `${table.replaceAll(/[^\w-]/g, "_")}.jsonl`;

/** The lines of files that a trainer's event leaves; of many events there are none. */
export function linesOf(event: TrainEvent): RunLines[] {
  switch (event.type) {
    case "step": {
      const { step, epoch, metrics, tokens, seconds, usage } = event;
      return [
        { file: METRICS, rows: [{ step, epoch, ...metrics, tokens }] },
        { file: TIMING, rows: [{ step, seconds, tokens, ...usage }] },
      ];
    }
    case "eval":
      return [
        { file: METRICS, rows: [{ step: event.step, ...prefixed(event.metrics) }] },
        ...timed(event.step, "time/eval", event.seconds),
        { file: "eval_rows.jsonl", rows: at(event.step, event.rows ?? []) },
      ];
    case "checkpoint":
      return timed(event.step, "time/save", event.seconds);
    case "data": {
      const { type: _, ...row } = event;
      return [{ file: "data.jsonl", rows: [row] }];
    }
    case "samples":
      return [{ file: SAMPLES, rows: at(event.step, event.samples) }];
    case "rollout":
      return [
        { file: "rollouts.jsonl", rows: event.rows.map((row) => ({ step: event.step, klCoef: event.klCoef, ...row })) },
      ];
    case "rows":
      return [{ file: tableFile(event.table), rows: at(event.step, event.rows) }];
    default:
      return [];
  }
}

/** A row as JSON on one line. Numbers that JSON does not know are told by name: "NaN", "Infinity". */
export const lineOf = (row: Row): string => JSON.stringify(row, told);

const timed = (step: number, name: string, seconds: number | undefined): RunLines[] =>
  seconds === undefined ? [] : [{ file: TIMING, rows: [{ step, [name]: seconds }] }];

const at = (step: number, rows: readonly object[]): Row[] => rows.map((row) => ({ step, ...row }));

const told = (_: string, value: unknown): unknown =>
  typeof value === "number" && !Number.isFinite(value) ? String(value) : value;

const prefixed = (metrics: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(metrics).map(([k, value]) => [/^eval[_/]/.test(k) ? k : `eval_${k}`, value]));
