/** The report's numbers for programs: the content of summary.json. */
import { snakeCase } from "../runtime/names.ts";
import { type Metrics, type Quantity, quantity, type ReportData, type RunData, synonyms } from "./data.ts";
import { alignmentPoints, diagnosed } from "./runs.ts";
import { goldGain } from "./sections.ts";

/** Means of what a run logged, by quantity ("reward", "loss", "chosen_reward"); absent where it did not log it. */
export type Ends = Readonly<Record<string, number>>;

/** A training run in numbers. */
export interface RunSummary {
  readonly name: string;
  /** Null where no record says it. */
  readonly verb: string | null;
  /** How the run ended, as its record says; null without a record. */
  readonly state: string | null;
  readonly steps: number;
  /** Wall seconds; null where nobody measured. */
  readonly seconds: number | null;
  /** Means over the first and the last tenth of the run's steps. */
  readonly first: Ends;
  readonly last: Ends;
  /** The last evaluation on held-out data, by the names that the trainer logs; null without one. */
  readonly evaluation: Metrics | null;
  /** Highest mean true reward over a tenth of the run, and the step where that tenth ends. */
  readonly gold_peak: { readonly gold: number; readonly step: number } | null;
  /** What the run's numbers say is wrong with it: docs/diagnoses.md. */
  readonly findings: readonly { readonly id: string; readonly text: string }[];
  /** Resolved settings, where there is a record. */
  readonly settings: Readonly<Record<string, unknown>> | null;
}

/** What summary.json holds: the report's main numbers, for programs. */
export interface Summary {
  readonly title: string;
  readonly facts: Record<string, string>;
  readonly reward_models: ReportData["rewardModels"];
  readonly policies: (ReportData["policies"][number] & { readonly gold_gain_sd: number | null })[];
  readonly runs: RunSummary[];
}

/** Sums a report up. */
export function summarise(data: ReportData): Summary {
  return {
    title: data.title,
    facts: Object.fromEntries(data.facts),
    reward_models: data.rewardModels,
    policies: data.policies.map((policy) => ({ ...policy, gold_gain_sd: goldGain(policy, data.policies[0]) })),
    runs: data.runs.map(summariseRun),
  };
}

/** Sums a run up. */
export function summariseRun(run: RunData): RunSummary {
  const window = Math.max(1, Math.round(run.steps.length / 10));
  return {
    name: run.name,
    verb: run.verb,
    state: run.record?.state ?? null,
    steps: Number(run.steps.at(-1)?.step ?? 0),
    seconds: run.seconds ?? null,
    first: ends(run.steps.slice(0, window)),
    last: ends(run.steps.slice(-window)),
    evaluation: run.evals.at(-1) ?? null,
    gold_peak: goldPeak(run, window),
    findings: diagnosed(run).map(({ id, text }) => ({ id, text })),
    settings: run.record?.settings ?? null,
  };
}

function ends(rows: readonly Metrics[]): Ends {
  const found: Record<string, number> = {};
  for (const name of Object.keys(synonyms) as Quantity[]) {
    const mean = average(rows.map((row) => quantity(row, name)));
    if (mean !== null) found[snakeCase(name)] = mean;
  }
  return found;
}

function goldPeak(run: RunData, window: number): { gold: number; step: number } | null {
  if (!alignmentPoints(run).some((point) => point.gold !== null)) return null;
  let best: { gold: number; step: number } | null = null;
  for (let end = window; end <= run.steps.length; end++) {
    const gold = average(run.steps.slice(end - window, end).map((row) => quantity(row, "gold")));
    if (gold !== null && (best === null || gold > best.gold)) best = { gold, step: Number(run.steps[end - 1].step) };
  }
  return best;
}

function average(values: readonly (number | null)[]): number | null {
  const real = values.filter((value) => value !== null);
  return real.length === 0 ? null : real.reduce((sum, value) => sum + value, 0) / real.length;
}
