/** The parts of one iteration in the order in which they are walked through, and what each shows of a token. */
import { showNumber } from "webrlhf/report";
import type { OpenedRow, OpenedStep } from "./opened.ts";

export type Station =
  | { part: "sample" | "score" | "kl" | "reward" | "value" | "advantage" }
  /** The `update`th of so many optimizer steps. */
  | { part: "policy" | "critic"; update: number };

/** @param updates optimizer steps on a rollout, of each model */
export const stationsOf = (updates: number): Station[] => {
  const each = Array.from({ length: updates }, (_, i) => i + 1);
  return [
    ...(["sample", "score", "kl", "reward", "value", "advantage"] as const).map((part) => ({ part })),
    ...each.map((update) => ({ part: "policy" as const, update })),
    ...each.map((update) => ({ part: "critic" as const, update })),
  ];
};

/** Whether a step has come so far. */
export function isTold({ rows: [row], klCoef }: OpenedStep, station: Station): boolean {
  if (!row) return false;
  switch (station.part) {
    case "sample":
      return true;
    case "score":
    case "kl":
      return klCoef !== null;
    case "policy":
      return row.updates.length >= station.update;
    case "critic":
      return row.valueUpdates.length >= station.update;
    default:
      return row.advantages !== undefined;
  }
}

/** What a station shows of a token. */
export interface Shown {
  text: string;
  /** From -1 to 1, for its shade; 0 where there is nothing to see. */
  tone: number;
  /** The clip rewards no further change of it. */
  clipped: boolean;
}

const nothing: Shown = { text: "·", tone: 0, clipped: false };

/** @param scale a number of that size has the full shade */
const signed = (value: number | undefined, scale: number, clipped = false): Shown =>
  value === undefined
    ? nothing
    : { text: showNumber(value, 2), tone: Math.max(-1, Math.min(1, value / scale)), clipped };

/** Shows the token at place `t` of a response. */
export function shownAt(row: OpenedRow, t: number, station: Station): Shown {
  switch (station.part) {
    case "sample": {
      const probability = Math.exp(row.logProbs[t]);
      return { text: percent(probability), tone: -(1 - probability), clipped: false };
    }
    case "score":
      return t === row.ids.length - 1 ? signed(row.finalScore, 2) : nothing;
    case "kl":
      return signed(row.kl?.[t], 1);
    case "reward":
      return signed(row.rewards?.[t], 1);
    case "value":
      return signed(row.values?.[t], 2);
    case "advantage":
      return signed(row.advantages?.[t], 1);
    case "policy": {
      const update = row.updates[station.update - 1];
      if (!update) return nothing;
      const ratio = update.ratios[t];
      return {
        text: `×${showNumber(ratio, 3)}`,
        tone: clamp(Math.log(ratio) / Math.log(1.5)),
        clipped: update.clipped[t],
      };
    }
    case "critic":
      return signed(row.valueUpdates[station.update - 1]?.values[t], 2);
  }
}

const clamp = (x: number): number => Math.max(-1, Math.min(1, x));

/** "23 %", and of small ones how small. */
export const percent = (probability: number): string =>
  probability >= 0.995 ? ">99 %" : probability < 0.001 ? "<0.1 %" : `${showNumber(100 * probability, 2)} %`;

/** The two sides of "the shaped rewards add up to the score less the penalty". */
export function rewardSum(
  row: OpenedRow,
  klCoef: number,
): { sum: number; score: number; kl: number; penalised: number } | null {
  if (!row.rewards || !row.kl || row.finalScore === undefined) return null;
  const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const kl = total(row.kl);
  return { sum: total(row.rewards), score: row.finalScore, kl, penalised: row.finalScore - klCoef * kl };
}
