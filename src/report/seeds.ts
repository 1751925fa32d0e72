/** Runs that differ in nothing but their seed, as one curve with a band. */
import type { ChartBand, ChartPoint } from "./chart.ts";
import { curve, type Quantity, type RunData } from "./data.ts";

/** Runs of one kind. */
export interface SeedGroup {
  /** The run's title where there is one, else what the titles have in common, with the number of seeds. */
  readonly title: string;
  readonly runs: readonly RunData[];
}

/** Groups runs with records by all that is recorded of them but the seed; runs without one stand alone. In their order. */
export function seedGroups(runs: readonly RunData[]): SeedGroup[] {
  const groups = new Map<string, RunData[]>();
  for (const [i, run] of runs.entries()) {
    const { record } = run;
    const { seed: _, ...settings } = record?.settings ?? {};
    const inputs = record?.inputs.map(({ setting, name, sha256 }) => [setting, sha256 ?? name]);
    // What names an input is known by the input's bytes.
    const others = Object.entries(settings).filter(([name]) => !record?.inputs.some(({ setting }) => setting === name));
    const key = record ? JSON.stringify([record.verb, record.webrlhf, others, inputs]) : String(i);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map((own) => ({
    title: own.length === 1 ? own[0].title : `${commonTitle(own)}, ${own.length} seeds`,
    runs: own,
  }));
}

/** What titles begin with alike, less a number or a word that is cut off: "ppo" of "ppo-seed1" and "ppo-seed2". */
function commonTitle(runs: readonly RunData[]): string {
  const titles = runs.map(({ title }) => title);
  let length = 0;
  while (length < titles[0].length && titles.every((title) => title[length] === titles[0][length])) length++;
  const common = titles[0].slice(0, length).replace(/[\s,/_-]*(seed)?[\s,/_-]*$/i, "");
  return common || titles[0];
}

/** A quantity's mean over the runs of a group, and its lowest and highest value, at the steps that all of them logged. */
export function bandOf({ runs }: SeedGroup, name: Quantity): { points: ChartPoint[]; band: ChartBand[] } {
  const curves = runs.map((run) => new Map(curve(run.steps, name)));
  const steps = [...curves[0].keys()].filter((step) => curves.every((one) => one.has(step)));
  const at = steps.map((step) => ({ step, values: curves.map((one) => one.get(step) as number) }));
  return {
    points: at.map(({ step, values }) => [step, values.reduce((sum, one) => sum + one, 0) / values.length]),
    band: at.map(({ step, values }) => [step, Math.min(...values), Math.max(...values)]),
  };
}
