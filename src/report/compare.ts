/** Runs beside each other: how each ended, which settings differ, and their curves in one chart. */
import { type ChartBand, type ChartPoint, type ChartSpec, looksOf } from "./chart.ts";
import { curve, type Quantity, quantity, type ReportData, type RunData } from "./data.ts";
import { showSetting, smoothed, stateOf } from "./runs.ts";
import { bandOf, type SeedGroup, seedGroups } from "./seeds.ts";
import { type RunSummary, summariseRun } from "./summary.ts";
import { figure, type TableColumn, table } from "./table.ts";
import { clock, escapeXml, showNumber } from "./text.ts";

/** Quantities that runs are compared by, with their names for people. */
const compared: Partial<Record<Quantity, string>> = {
  loss: "loss",
  accuracy: "accuracy",
  reward: "reward",
  gold: "truth",
  kl: "KL",
  length: "length",
};

type Row = { readonly run: RunData; readonly summary: RunSummary };

/** Every run in a line: what it was, how long it took, where its numbers began and ended. */
export function runTable({ runs }: ReportData): string {
  if (runs.length === 0) return "";
  const rows = runs.map((run): Row => ({ run, summary: summariseRun(run) }));
  const names = Object.entries(compared) as [Quantity, string][];
  const ends = names.filter(([name]) => rows.some(({ summary }) => summary.last[name] !== undefined));
  const held = names.filter(([name]) => rows.some(({ summary }) => heldOut(summary, name) !== null));
  const columns: TableColumn<Row>[] = [
    { title: "run", value: ({ run }) => run.title },
    { title: "verb", value: ({ run }) => [run.verb ?? "not recorded", stateOf(run)].filter(Boolean).join(", ") },
    { title: "steps", value: ({ summary }) => summary.steps, digits: 8 },
    { title: "time", value: ({ summary }) => (summary.seconds === null ? null : clock(summary.seconds)) },
    ...ends.map(([name, title]) => ({ title, value: ({ summary }: Row) => change(summary, name) })),
    ...held.map(([name, title]) => ({
      title: `held-out ${title}`,
      value: ({ summary }: Row) => heldOut(summary, name),
    })),
  ];
  return `<section><h2>The runs</h2>
<p>Means over the first → the last tenth of a run’s steps; held-out values are of its last evaluation.</p>
<div class="scroll" tabindex="0" role="region" aria-label="The runs in numbers">${table(columns, rows)}</div></section>`;
}

const change = ({ first, last }: RunSummary, name: Quantity): string | null =>
  last[name] === undefined ? null : `${showNumber(first[name])} → ${showNumber(last[name])}`;

const heldOut = ({ evaluation }: RunSummary, name: Quantity): number | null =>
  evaluation === null ? null : quantity(evaluation, name);

/** A section for each verb that made several runs. */
export function comparedRuns({ runs }: ReportData): string[] {
  const verbs = new Set(runs.flatMap(({ verb }) => (verb === null ? [] : [verb])));
  return [...verbs].flatMap((verb) => {
    const own = runs.filter((run) => run.verb === verb);
    return own.length < 2 ? [] : [compareRuns(verb, own)];
  });
}

function compareRuns(verb: string, runs: readonly RunData[]): string {
  const groups = seedGroups(runs);
  const looks = looksOf(groups.map(({ title }) => title));
  const charts = (Object.entries(compared) as [Quantity, string][]).map(
    ([name, title]): ChartSpec => ({
      id: `compared-${verb.replace(/\W/g, "-")}-${name}`,
      title,
      xLabel: "step",
      yLabel: title,
      series: groups.flatMap((group, i) => {
        const { points, band } = drawn(group, name);
        return points.length === 0 ? [] : [{ name: group.title, look: looks[i], points, ...(band && { band }) }];
      }),
    }),
  );
  const shown = charts.filter(({ series }) => series.length > 1 || series[0]?.band);
  const bands = groups.some((group) => group.runs.length > 1)
    ? "<p>Runs that differ in their seed alone are one line, their mean at the steps that all have; the band is from the lowest to the highest.</p>"
    : "";
  return `<section><h2>${escapeXml(verb)}: ${runs.length} runs compared</h2>
${differences(runs)}${bands}
<div class="grid">${shown.map(figure).join("\n")}</div></section>`;
}

/** A run's curve, or that of several seeds with their band. */
function drawn(group: SeedGroup, name: Quantity): { points: readonly ChartPoint[]; band?: readonly ChartBand[] } {
  if (group.runs.length === 1) return { points: smoothed(curve(group.runs[0].steps, name)) };
  return bandOf(group, name);
}

/** The settings and sources in which runs differ, as a table. */
function differences(runs: readonly RunData[]): string {
  const unknown = runs.filter(({ record }) => record === null).length;
  if (unknown > 0) return `<p>${unknown} of the runs have no record of their settings.</p>`;
  const all = runs.map(({ record }) => ({
    ...record!.settings,
    ...Object.fromEntries(
      record!.inputs.map(({ setting, name, sha256 }) => [
        setting,
        sha256 ? `${name} (sha256 ${sha256.slice(0, 12)})` : name,
      ]),
    ),
    webrlhf: record!.webrlhf,
    adapter: record!.adapter,
  })) as Record<string, unknown>[];
  const names = [...new Set(all.flatMap(Object.keys))].filter(
    (name) => new Set(all.map((settings) => JSON.stringify(settings[name]))).size > 1,
  );
  if (names.length === 0) return "<p>They have the same settings.</p>";
  const columns: TableColumn<string>[] = [
    { title: "setting", value: (name) => name },
    ...runs.map((run, i) => ({ title: run.title, value: (name: string) => showSetting(all[i][name]) })),
  ];
  return `<p>Settings that differ:</p><div class="scroll" tabindex="0" role="region" aria-label="Settings that differ">${table(columns, names)}</div>`;
}
