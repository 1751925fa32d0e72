/** The curves of training runs. */
import { type ChartPoint, type ChartSeries, type ChartSpec, smooth } from "./chart.ts";
import {
  curve,
  type Metrics,
  type PolicyResult,
  type Quantity,
  quantity,
  type ReportData,
  type RunData,
} from "./data.ts";
import type { Finding } from "./diagnoses/evidence.ts";
import { diagnose } from "./diagnoses/index.ts";
import { figure, table } from "./table.ts";
import { escapeXml, showNumber } from "./text.ts";
import { partsShown } from "./times.ts";

/** Puts scores of different scales on one axis: standard deviations of the starting model's samples above their mean. */
export interface Yardstick {
  readonly reward: (value: number) => number;
  readonly gold: (value: number) => number;
}

export function yardstickOf(policies: readonly PolicyResult[]): Yardstick | null {
  const start = policies[0];
  if (!start?.reward_std || start.reward === null || !start.gold_std || start.gold === null) return null;
  return {
    reward: (value) => (value - start.reward!) / start.reward_std!,
    gold: (value) => (value - start.gold!) / start.gold_std!,
  };
}

/** One section per run, in the order they ran. */
export function runSection(run: RunData, data: ReportData): string {
  const charts = chartsOf(run, data);
  const shown = charts.filter((spec) => spec.series.some((s) => s.points.length > 0));
  const facts = recordOf(run);
  const found = findingsOf(run);
  if (shown.length === 0 && facts === "" && found === "") return "";
  const tag = [run.verb, stateOf(run), ...(run.seconds === undefined ? [] : [`${showNumber(run.seconds)} s`])];
  return `<section><h2>${escapeXml(run.title)} <span class="tag">${escapeXml(tag.filter(Boolean).join(", "))}</span></h2>
${found}<div class="grid">${shown.map(figure).join("\n")}</div>${timeOf(run)}${facts}</section>`;
}

/** Where the run's time went. */
function timeOf({ title, usage = [] }: RunData): string {
  const shown = partsShown(usage, `Parts of the time of ${title}`);
  return shown === "" ? "" : `<h3>Where the time went</h3>${shown}`;
}

/** What a run's numbers say is wrong with it, where something is. */
function findingsOf(run: RunData): string {
  const found = diagnosed(run).map(
    ({ title, text, advice }) =>
      `<li><strong>${escapeXml(title)}.</strong> ${escapeXml(text)} ${escapeXml(advice)}</li>`,
  );
  return found.length === 0 ? "" : `<h3>What to look at</h3><ul>${found.join("")}</ul>`;
}

/** The findings of a run by its lines and its record. */
export const diagnosed = ({ verb, record, steps, evals }: RunData): Finding[] =>
  diagnose({ verb, settings: record?.settings ?? {}, steps, evals });

/** What is to be said of a run that did not come to its end. */
export const stateOf = ({ record }: RunData): string | null =>
  record === null || record.state === "finished" ? null : `not finished: ${record.state}`;

/** A run's record, folded: what it was and came from. */
function recordOf({ title, record }: RunData): string {
  if (!record) return "";
  const { verb, webrlhf, adapter, inputs, parents, settings } = record;
  const rows: [string, string][] = [
    ["verb", verb],
    ["webrlhf", webrlhf],
    ["adapter", adapter ?? "not recorded"],
    ...inputs.map(({ setting, name, sha256 }): [string, string] => [
      setting,
      sha256 === null ? name : `${name} (sha256 ${sha256.slice(0, 12)})`,
    ]),
    ...parents.map(({ path, verb: made }): [string, string] => ["made by", `${made}: ${path}`]),
    ...Object.entries(settings)
      .filter(([name]) => !inputs.some(({ setting }) => setting === name))
      .map(([name, value]): [string, string] => [name, showSetting(value)]),
  ];
  const columns = [
    { title: "setting", value: ([name]: [string, string]) => name },
    { title: "value", value: ([, value]: [string, string]) => value },
  ];
  return `<details><summary>Settings and sources of “${escapeXml(title)}”</summary><div class="scroll" tabindex="0" role="region" aria-label="Settings of ${escapeXml(title)}">${table(columns, rows)}</div></details>`;
}

/** A setting's value for people. */
export const showSetting = (value: unknown): string =>
  value === null || value === undefined ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value);

/** The kinds of training that have charts of their own. */
const kinds: Record<string, (run: RunData, data: ReportData) => ChartSpec[]> = {
  sft: sftCharts,
  distill: sftCharts,
  ...Object.fromEntries(["reward", "cost", "pairwise", "multi-objective"].map((verb) => [verb, rewardCharts])),
  ...Object.fromEntries(["dpo", "kto", "orpo", "cpo"].map((verb) => [verb, preferenceCharts])),
};

const chartsOf = (run: RunData, data: ReportData): ChartSpec[] => (kinds[run.verb ?? ""] ?? alignmentCharts)(run, data);

/** A chart of a run. */
const chartOf = (run: RunData, part: string, title: string, yLabel: string, series: ChartSeries[]): ChartSpec => ({
  id: `${slug(run.name)}-${part}`,
  title,
  xLabel: run.verb === "raft" || run.verb === "iterate" ? "iteration" : "step",
  yLabel,
  series,
});

function alignmentCharts(run: RunData, data: ReportData): ChartSpec[] {
  const chart = (part: string, title: string, yLabel: string, ...names: Quantity[]) =>
    chartOf(run, part, title, yLabel, quantities(run, names));
  const fromZero = (...words: Parameters<typeof chart>) => ({ ...chart(...words), zero: true });
  return [
    ...(bothRewards(run, data) ?? [
      chart("reward", "Reward model's score", "reward", "reward"),
      chart("gold", "True reward", "reward", "gold"),
    ]),
    fromZero("kl", "Distance from the start", "KL, nats per response", "kl"),
    fromZero("length", "Response length", "tokens", "length"),
    fromZero("distinct", "Variety", "part of n-grams that differ", "distinct1", "distinct2"),
    fromZero("entropy", "Entropy of the policy", "nats per token", "entropy"),
    chartOf(run, "accuracy", "Pairs or tokens that are right", "accuracy", twice(run, "accuracy")),
    { ...chart("loss", "Losses", "loss", "loss", "valueLoss"), ...heldOut(run) },
  ];
}

/** The reward model's score and the true reward in one chart, where their scales can be compared. */
function bothRewards(run: RunData, { policies }: ReportData): ChartSpec[] | null {
  const yardstick = yardstickOf(policies);
  if (!yardstick || curve(run.steps, "gold").length === 0) return null;
  const scaled = (name: "reward" | "gold") =>
    curve(run.steps, name).map(([x, y]): ChartPoint => [x, yardstick[name](y)]);
  const series = [...named("reward model", scaled("reward"), 0), ...named("truth", scaled("gold"), 1)];
  return [chartOf(run, "reward", "Reward: the model's and the true one", `sd above ${policies[0].label}`, series)];
}

/** The losses with the one on held-out data, where there is one. */
function heldOut(run: RunData): Partial<ChartSpec> {
  const points = curve(run.evals, "loss");
  return points.length === 0
    ? {}
    : { series: [...quantities(run, ["loss", "valueLoss"]), ...named("held out", points, 2)] };
}

/** A quantity in training, and on held-out data. */
const twice = (run: RunData, name: Quantity): ChartSeries[] => [
  ...named("training", curve(run.steps, name), 0),
  ...named("held out", curve(run.evals, name), 1),
];

function rewardCharts(run: RunData, { rewardModels: [result] }: ReportData): ChartSpec[] {
  const references = result?.noise_ceiling ? [{ name: "noise ceiling", y: result.noise_ceiling }] : [];
  return [
    { ...chartOf(run, "accuracy", "Pairs ranked rightly", "accuracy", twice(run, "accuracy")), references },
    chartOf(run, "loss", "Loss", "loss", twice(run, "loss")),
  ];
}

/** Training without a reward model: what the policy itself holds of the answers. */
function preferenceCharts(run: RunData): ChartSpec[] {
  const rewards = quantities(run, ["chosenReward", "rejectedReward"]);
  return [
    chartOf(run, "rewards", "Implicit rewards of the answers", "beta times the log-ratio", rewards),
    chartOf(run, "accuracy", "Pairs ranked rightly", "accuracy", twice(run, "accuracy")),
    chartOf(run, "kl", "Distance from the start", "KL, nats per answer", quantities(run, ["kl"])),
    chartOf(run, "loss", "Loss", "loss", twice(run, "loss")),
  ];
}

function sftCharts(run: RunData): ChartSpec[] {
  return [
    chartOf(run, "loss", "Loss", "nats per token", twice(run, "loss")),
    chartOf(run, "accuracy", "Tokens guessed rightly", "accuracy", quantities(run, ["accuracy"])),
  ];
}

const labels: Partial<Record<Quantity, string>> = {
  distinct1: "distinct‑1",
  distinct2: "distinct‑2",
  loss: "policy",
  valueLoss: "value",
  chosenReward: "chosen",
  rejectedReward: "rejected",
};

function quantities(run: RunData, names: readonly Quantity[]): ChartSeries[] {
  return names.flatMap((name, i) => named(labels[name] ?? name, curve(run.steps, name), i));
}

/** Long noisy curves are smoothed, with the raw values pale behind. */
function named(name: string, points: readonly ChartPoint[], look: number): ChartSeries[] {
  if (points.length === 0) return [];
  if (points.length < 40) return [{ name, points, look }];
  return [
    { name: `${name}, raw`, points, look, faint: true },
    { name, points: smoothed(points), look },
  ];
}

export const smoothed = (points: readonly ChartPoint[]): readonly ChartPoint[] =>
  points.length < 40 ? points : smooth(points, points.length / 40);

interface AlignmentPoint {
  readonly kl: number;
  readonly reward: number | null;
  readonly gold: number | null;
}

/** KL with both rewards, where a step's line (or else an evaluation's) has them. */
export function alignmentPoints(run: RunData): AlignmentPoint[] {
  const from = (rows: readonly Metrics[]) =>
    rows.flatMap((row) => {
      const kl = quantity(row, "kl");
      return kl === null ? [] : [{ kl, reward: quantity(row, "reward"), gold: quantity(row, "gold") }];
    });
  const steps = from(run.steps);
  return steps.some((p) => p.gold !== null) ? steps : from(run.evals);
}

const slug = (name: string) => name.replace(/[^A-Za-z0-9]+/g, "-");
