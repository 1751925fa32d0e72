/** What the page shows of the runs that are chosen: findings, curves, responses, time. Text in, HTML out. */

import { maxOf } from "../../runtime/extremes.ts";
import { type ChartSpec, looksOf } from "../chart.ts";
import type { Evidence, Finding } from "../diagnoses/evidence.ts";
import { everyPoint, type Named } from "../diagnoses/evidence.ts";
import { diagnose } from "../diagnoses/index.ts";
import { smoothed } from "../runs.ts";
import { figure, table } from "../table.ts";
import { escapeXml, showNumber } from "../text.ts";
import { partsShown } from "../times.ts";
import { type Control, controlsOf } from "./controls.ts";
import type { ShownResponse, WatchedRun } from "./read.ts";

/** What a token's colour tells. */
export const colourings = ["kl", "reward"] as const;
export type Colouring = (typeof colourings)[number];

/** What the page was asked to show. */
export interface View {
  readonly runs: readonly WatchedRun[];
  /** Metrics to draw, by their names; none draws the usual ones. */
  readonly metrics: readonly string[];
  readonly colour: Colouring;
  /** What runs may be asked for from here. */
  readonly control: Control;
}

/** Quantities that are drawn unasked, where a run has them. */
const usual: readonly [Named, string][] = [
  ["reward", "Reward"],
  ["gold", "True reward"],
  ["loss", "Loss"],
  ["valueLoss", "Loss of the critic"],
  ["accuracy", "Accuracy"],
  ["kl", "KL, nats per response"],
  ["entropy", "Entropy"],
  ["length", "Response length, tokens"],
  ["eos_rate", "Part of the responses that end"],
  ["margin", "Margin"],
  ["grad_norm", "Gradient norm"],
];

/** The run as diagnoses read it. */
export const evidenceOf = ({ record, steps, evals, rollouts, timing }: WatchedRun): Evidence => ({
  verb: record?.verb ?? null,
  settings: record?.settings ?? {},
  ...{ steps, evals, rollouts },
  seconds: timing.map(({ seconds }) => seconds),
});

/** Everything below the choice of runs. */
export function viewOf(view: View): string {
  if (view.runs.length === 0) return '<section id="nothing"><p>Choose a run.</p></section>';
  return [controlsOf(view.runs, view.control), findings(view), curves(view), responses(view), time(view)]
    .filter((part) => part !== "")
    .join("\n");
}

const slug = (text: string) => text.replaceAll(/[^A-Za-z0-9]+/g, "-");

function findings({ runs }: View): string {
  const parts = runs.map((run) => {
    const found = diagnose(evidenceOf(run));
    const none = run.steps.length === 0 ? "no step yet." : "nothing that is known as a trap.";
    const list = `<ul class="findings">${found.map(finding).join("")}</ul>`;
    return `<h3>${escapeXml(run.name)}</h3>${found.length === 0 ? `<p>${escapeXml(run.name)} shows ${none}</p>` : list}`;
  });
  return `<section id="findings"><h2>What to look at</h2>${parts.join("")}</section>`;
}

/** A finding with the way to what the page of diagnoses says of it. */
export const finding = ({ id, title, text, advice }: Finding): string =>
  `<li><strong>${escapeXml(title)}.</strong> ${escapeXml(text)} ${escapeXml(advice)} <a href="/diagnoses#${id}">More on: ${escapeXml(title)}</a></li>`;

function curves({ runs, metrics }: View): string {
  const looks = looksOf(runs.map(({ name }) => name));
  const draw = (name: Named, title: string): ChartSpec => ({
    id: `curve-${slug(name)}`,
    ...{ title, xLabel: "step", yLabel: title },
    series: runs.flatMap((run, i) =>
      [
        { name: run.name, points: smoothed(everyPoint(run.steps, name)), look: looks[i] },
        { name: `${run.name}, held out`, points: everyPoint(run.evals, `eval_${name}`), look: looks[i], dashed: true },
      ].filter(({ points }) => points.length > 0),
    ),
  });
  const charts =
    metrics.length > 0 ? metrics.map((name) => draw(name, name)) : usual.map(([name, title]) => draw(name, title));
  const shown = charts.filter(({ series }) => series.length > 0);
  if (shown.length === 0) return "";
  return `<section id="curves"><h2>Curves</h2><div class="grid">${shown.map(figure).join("\n")}</div></section>`;
}

/** Rows that are shown of a run. */
const MOST_RESPONSES = 12;

function responses({ runs, colour }: View): string {
  const parts = runs.flatMap((run) => {
    const { rollouts, samples } = run;
    const step = rollouts[0]?.step ?? samples[0]?.step;
    if (step === undefined) return [];
    const shown =
      rollouts.length > 0
        ? groups(rollouts.slice(0, MOST_RESPONSES))
            .map((group) => groupOf(group, colour))
            .join("")
        : table(
            [
              { title: "prompt", value: (row) => row.prompt },
              { title: "response", value: (row) => row.response },
              { title: "reward", value: (row) => row.reward ?? null },
            ],
            samples.slice(0, MOST_RESPONSES),
          ).replace("<table>", '<table class="texts">');
    const label = escapeXml(`Responses of ${run.name}`);
    return [
      `<h3>${escapeXml(run.name)}, step ${step}</h3><div class="scroll" tabindex="0" role="region" aria-label="${label}">${shown}</div>`,
    ];
  });
  if (parts.length === 0) return "";
  const what = colour === "kl" ? "its part of the KL" : "its reward";
  return `<section id="responses"><h2>Responses</h2><p>Where a run shows tokens (show_rollouts), the colour of each is ${what}: blue above zero, orange below, stronger the further.</p>${parts.join("")}</section>`;
}

/** Responses by their prompts, in their order. */
function groups(rows: readonly ShownResponse[]): ShownResponse[][] {
  const found = new Map<string, ShownResponse[]>();
  for (const row of rows) found.set(row.prompt, [...(found.get(row.prompt) ?? []), row]);
  return [...found.values()];
}

function groupOf(rows: readonly ShownResponse[], colour: Colouring): string {
  const most = Math.max(maxOf(rows.flatMap((row) => coloured(row, colour).map(Math.abs))), 1e-12);
  const body = rows
    .map((row) => {
      const end = row.ended ? "" : " (cut off)";
      return `<tr><th scope="row">${showNumber(row.score)}</th><td class="text">${tokens(row, colour, most)}${end}</td></tr>`;
    })
    .join("");
  return `<table class="texts"><caption>${escapeXml(rows[0].prompt)}</caption><thead><tr><th scope="col">score</th><th scope="col">response</th></tr></thead><tbody>${body}</tbody></table>`;
}

const coloured = (row: ShownResponse, colour: Colouring): readonly number[] =>
  (colour === "kl" ? row.kl : row.rewards) ?? [];

function tokens(row: ShownResponse, colour: Colouring, most: number): string {
  const numbers = coloured(row, colour);
  if (!row.texts || numbers.length === 0) return escapeXml(row.response);
  return row.texts
    .map((text, t) => {
      const value = numbers[t] ?? 0;
      // Pale enough to read ink and paper on in both colour schemes.
      const depth = Math.round(35 * Math.min(1, Math.abs(value) / most));
      const tint = value >= 0 ? "--chart-0" : "--chart-1";
      return `<span class="token" style="background:color-mix(in srgb, var(${tint}) ${depth}%, transparent)" title="${colour} ${showNumber(value)}">${escapeXml(text)}</span>`;
    })
    .join("");
}

function time({ runs }: View): string {
  const timed = runs.filter(({ timing }) => timing.length > 0);
  if (timed.length === 0) return "";
  const looks = looksOf(runs.map(({ name }) => name));
  const chart = (id: string, title: string, of: (row: WatchedRun["timing"][number]) => number): ChartSpec => ({
    ...{ id: `time-${id}`, title, xLabel: "step", yLabel: title, zero: true },
    series: timed.map((run) => ({
      name: run.name,
      points: smoothed(run.timing.map((row) => [row.step, of(row)] as const)),
      look: looks[runs.indexOf(run)],
    })),
  });
  const charts = [
    chart("seconds", "Seconds of a step", ({ seconds }) => seconds),
    chart("tokens", "Tokens per second", ({ seconds, tokens }) => (seconds > 0 ? tokens / seconds : Number.NaN)),
  ];
  const memory: ChartSpec = {
    ...{ id: "time-memory", title: "GPU memory, MiB: most in a step", xLabel: "step", yLabel: "MiB", zero: true },
    series: timed.flatMap((run) => {
      const points = run.usage.flatMap((row) =>
        row["memory/peak"] === undefined ? [] : [[Number(row.step), Number(row["memory/peak"]) / 2 ** 20] as const],
      );
      return points.length === 0 ? [] : [{ name: run.name, points, look: looks[runs.indexOf(run)] }];
    }),
  };
  if (memory.series.length > 0) charts.push(memory);
  const parts = timed.flatMap((run) => {
    const shown = partsShown(run.usage, `Parts of the time of ${run.name}`);
    return shown === "" ? [] : [`<h3>${escapeXml(run.name)}: where the time goes</h3>${shown}`];
  });
  return `<section id="time"><h2>Time and memory</h2>${parts.join("")}<div class="grid">${charts.map(figure).join("\n")}</div></section>`;
}
