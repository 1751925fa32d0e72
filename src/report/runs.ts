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
import { figure } from "./table.ts";
import { escapeXml, showNumber } from "./text.ts";

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
  if (shown.length === 0) return "";
  return `<section><h2>${escapeXml(run.title)} <span class="tag">${escapeXml(run.verb)}${run.seconds === undefined ? "" : `, ${showNumber(run.seconds)} s`}</span></h2>
<div class="grid">${shown.map(figure).join("\n")}</div></section>`;
}

function chartsOf(run: RunData, data: ReportData): ChartSpec[] {
  if (run.verb === "reward") return rewardCharts(run, data);
  if (run.verb === "sft") return sftCharts(run);
  return ["dpo", "kto", "orpo", "cpo"].includes(run.verb) ? preferenceCharts(run) : alignmentCharts(run, data);
}

function alignmentCharts(run: RunData, data: ReportData): ChartSpec[] {
  const id = (part: string) => `${slug(run.name)}-${part}`;
  const yardstick = yardstickOf(data.policies);
  const has = (name: Quantity) => curve(run.steps, name).length > 0;
  const xLabel = run.verb === "raft" ? "iteration" : "step";
  const both: ChartSpec[] = [];
  if (yardstick && has("gold")) {
    const scaled = (name: "reward" | "gold") =>
      curve(run.steps, name).map(([x, y]): ChartPoint => [x, yardstick[name](y)]);
    const series = [...named("reward model", scaled("reward"), 0), ...named("truth", scaled("gold"), 1)];
    both.push({
      id: id("reward"),
      title: "Reward: the model's and the true one",
      xLabel,
      yLabel: `sd above ${data.policies[0].label}`,
      series,
    });
  } else {
    both.push({
      id: id("reward"),
      title: "Reward model's score",
      xLabel,
      yLabel: "reward",
      series: quantities(run, ["reward"]),
    });
    both.push({ id: id("gold"), title: "True reward", xLabel, yLabel: "reward", series: quantities(run, ["gold"]) });
  }
  return [
    ...both,
    {
      id: id("kl"),
      title: "Distance from the start",
      xLabel,
      yLabel: "KL, nats per response",
      series: quantities(run, ["kl"]),
      zero: true,
    },
    {
      id: id("length"),
      title: "Response length",
      xLabel,
      yLabel: "tokens",
      series: quantities(run, ["length"]),
      zero: true,
    },
    {
      id: id("distinct"),
      title: "Variety",
      xLabel,
      yLabel: "part of n-grams that differ",
      series: quantities(run, ["distinct1", "distinct2"]),
      zero: true,
    },
    {
      id: id("entropy"),
      title: "Entropy of the policy",
      xLabel,
      yLabel: "nats per token",
      series: quantities(run, ["entropy"]),
      zero: true,
    },
    { id: id("loss"), title: "Losses", xLabel, yLabel: "loss", series: quantities(run, ["loss", "valueLoss"]) },
  ];
}

function rewardCharts(run: RunData, data: ReportData): ChartSpec[] {
  const result = data.rewardModels[0];
  const references = result?.noise_ceiling ? [{ name: "noise ceiling", y: result.noise_ceiling }] : [];
  const heldOut = curve(run.evals, "accuracy");
  return [
    {
      id: `${slug(run.name)}-accuracy`,
      title: "Pairs ranked rightly",
      xLabel: "step",
      yLabel: "accuracy",
      series: [
        ...named("training", curve(run.steps, "accuracy"), 0),
        ...(heldOut.length > 0 ? [{ name: "held out", points: heldOut, look: 1 }] : []),
      ],
      references,
    },
    { id: `${slug(run.name)}-loss`, title: "Loss", xLabel: "step", yLabel: "loss", series: quantities(run, ["loss"]) },
  ];
}

/** Training without a reward model: what the policy itself holds of the answers. */
function preferenceCharts(run: RunData): ChartSpec[] {
  const heldOut = (name: Quantity) => named("held out", curve(run.evals, name), 1);
  const id = (part: string) => `${slug(run.name)}-${part}`;
  return [
    {
      id: id("rewards"),
      title: "Implicit rewards of the answers",
      xLabel: "step",
      yLabel: "beta times the log-ratio",
      series: quantities(run, ["chosenReward", "rejectedReward"]),
    },
    {
      id: id("accuracy"),
      title: "Pairs ranked rightly",
      xLabel: "step",
      yLabel: "accuracy",
      series: [...named("training", curve(run.steps, "accuracy"), 0), ...heldOut("accuracy")],
    },
    {
      id: id("kl"),
      title: "Distance from the start",
      xLabel: "step",
      yLabel: "KL, nats per answer",
      series: quantities(run, ["kl"]),
    },
    {
      id: id("loss"),
      title: "Loss",
      xLabel: "step",
      yLabel: "loss",
      series: [...named("training", curve(run.steps, "loss"), 0), ...heldOut("loss")],
    },
  ];
}

function sftCharts(run: RunData): ChartSpec[] {
  const heldOut = curve(run.evals, "loss");
  return [
    {
      id: `${slug(run.name)}-loss`,
      title: "Loss",
      xLabel: "step",
      yLabel: "nats per token",
      series: [
        ...named("training", curve(run.steps, "loss"), 0),
        ...(heldOut.length > 0 ? [{ name: "held out", points: heldOut, look: 1 }] : []),
      ],
    },
    {
      id: `${slug(run.name)}-accuracy`,
      title: "Tokens guessed rightly",
      xLabel: "step",
      yLabel: "accuracy",
      series: quantities(run, ["accuracy"]),
    },
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
