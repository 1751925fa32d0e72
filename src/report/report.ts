import { quantity, type ReportData, type RunData } from "./data.ts";
import { page } from "./page.ts";
import { alignmentPoints, runSection } from "./runs.ts";
import { cards, comparison, goldGain, header, overoptimisation, samples } from "./sections.ts";

/** A self-contained HTML page: no script, no outside resource; all text from the data is escaped. */
export function buildReport(data: ReportData): string {
  const body = [
    header(data),
    cards(data),
    comparison(data),
    overoptimisation(data),
    samples(data),
    ...data.runs.map((run) => runSection(run, data)),
  ];
  return page(data.title, body.filter((part) => part !== "").join("\n"));
}

/** What summary.json holds: the report's main numbers, for programs. */
export interface Summary {
  readonly title: string;
  readonly facts: Record<string, string>;
  readonly reward_models: ReportData["rewardModels"];
  readonly policies: (ReportData["policies"][number] & { readonly gold_gain_sd: number | null })[];
  readonly runs: {
    readonly name: string;
    readonly verb: string;
    readonly steps: number;
    readonly seconds: number | null;
    readonly first: Ends;
    readonly last: Ends;
    /** Highest mean true reward over a tenth of the run, and the step where that tenth ends. */
    readonly gold_peak: { readonly gold: number; readonly step: number } | null;
  }[];
}

/** Means over the first or last tenth of a run's steps. */
interface Ends {
  readonly reward: number | null;
  readonly gold: number | null;
  readonly kl: number | null;
}

export function summarise(data: ReportData): Summary {
  return {
    title: data.title,
    facts: Object.fromEntries(data.facts),
    reward_models: data.rewardModels,
    policies: data.policies.map((policy) => ({ ...policy, gold_gain_sd: goldGain(policy, data.policies[0]) })),
    runs: data.runs.map((run) => {
      const window = Math.max(1, Math.round(run.steps.length / 10));
      return {
        name: run.name,
        verb: run.verb,
        steps: Number(run.steps.at(-1)?.step ?? 0),
        seconds: run.seconds ?? null,
        first: ends(run, 0, window),
        last: ends(run, run.steps.length - window, run.steps.length),
        gold_peak: goldPeak(run, window),
      };
    }),
  };
}

function ends(run: RunData, from: number, to: number): Ends {
  const part = run.steps.slice(Math.max(0, from), to);
  const mean = (name: "reward" | "gold" | "kl") => average(part.map((row) => quantity(row, name)));
  return { reward: mean("reward"), gold: mean("gold"), kl: mean("kl") };
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
