/** The parts of the report, each data -> HTML; an empty string where there is nothing to show. */
import type { ChartPoint, ChartSeries, ChartSpec } from "./chart.ts";
import type { PolicyResult, ReportData } from "./data.ts";
import { alignmentPoints, smoothed, yardstickOf } from "./runs.ts";
import { figure, table } from "./table.ts";
import { escapeXml, showNumber } from "./text.ts";

export function header(data: ReportData): string {
  const facts = data.facts.map(([name, value]) => `<li>${escapeXml(name)} <b>${escapeXml(value)}</b></li>`).join("");
  return `<header><h1>${escapeXml(data.title)}</h1>${data.description ? `<p class="soft">${escapeXml(data.description)}</p>` : ""}<ul class="facts">${facts}</ul></header>`;
}

export function cards(data: ReportData): string {
  const items: [string, string][] = [];
  const model = data.rewardModels[0];
  if (model) {
    const ceiling = model.noise_ceiling === null ? "" : `, ceiling ${showNumber(model.noise_ceiling * 100)} %`;
    items.push([`${showNumber(model.accuracy * 100)} %`, `held-out pairs the reward model gets right${ceiling}`]);
  }
  for (const policy of data.policies) {
    const gain = goldGain(policy, data.policies[0]);
    if (gain === null || policy === data.policies[0]) continue;
    items.push([
      `${gain >= 0 ? "+" : ""}${showNumber(gain)} sd`,
      `true reward of ${policy.label} over ${data.policies[0].label}`,
    ]);
  }
  if (items.length === 0) return "";
  return `<ul class="cards">${items.map(([value, text]) => `<li><strong>${escapeXml(value)}</strong><span>${escapeXml(text)}</span></li>`).join("")}</ul>`;
}

/** How far a policy's mean true reward lies above the start's, in standard deviations of the start's samples. */
export function goldGain(policy: PolicyResult, start: PolicyResult): number | null {
  if (policy.gold === null || start.gold === null || !start.gold_std) return null;
  return (policy.gold - start.gold) / start.gold_std;
}

export function comparison({ policies }: ReportData): string {
  if (policies.length === 0) return "";
  const withGold = policies.some((p) => p.gold !== null);
  const score = (p: PolicyResult) => (withGold ? p.gold : p.reward) ?? Number.NEGATIVE_INFINITY;
  const best = policies.reduce((a, b) => (score(b) > score(a) ? b : a));
  const spread = (mean: number | null, std: number | null) =>
    mean === null ? null : std === null ? mean : `${showNumber(mean)} ± ${showNumber(std, 2)}`;
  const columns = [
    { title: "policy", value: (p: PolicyResult) => p.label },
    { title: "reward model's score", value: (p: PolicyResult) => spread(p.reward, p.reward_std) },
    ...(withGold
      ? [
          { title: "true reward", value: (p: PolicyResult) => spread(p.gold, p.gold_std) },
          { title: `gain over ${policies[0].label}, sd`, value: (p: PolicyResult) => goldGain(p, policies[0]) },
        ]
      : []),
    { title: "KL per response", value: (p: PolicyResult) => p.kl },
    { title: "mean length", value: (p: PolicyResult) => p.mean_length },
    { title: "distinct‑1", value: (p: PolicyResult) => p.distinct_1 },
    { title: "distinct‑2", value: (p: PolicyResult) => p.distinct_2 },
    { title: "prompts", value: (p: PolicyResult) => p.n, digits: 6 },
  ];
  return `<section><h2>Who wrote the best responses?</h2>
<p>Sampled on held-out prompts. ± is the standard deviation over responses; the best row is bold. KL is in nats per response against ${escapeXml(policies[0].label)}.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Comparison of policies">${table(columns, policies, best)}</div></section>`;
}

/** Proxy and gold against the square root of the KL, as in Gao et al. 2023. */
export function overoptimisation(data: ReportData): string {
  const yardstick = yardstickOf(data.policies);
  const series: ChartSeries[] = [];
  let look = 0;
  for (const run of data.runs) {
    const points = alignmentPoints(run);
    if (points.length < 2 || !points.some((p) => p.gold !== null)) continue;
    const scale = yardstick ?? { reward: (x: number) => x, gold: (x: number) => x };
    const x = points.map((p) => Math.sqrt(Math.max(0, p.kl)));
    const path = (values: (number | null)[]) =>
      smoothed(x.map((px, i): ChartPoint => [px, values[i] ?? Number.NaN]).sort((a, b) => a[0] - b[0]));
    const scaled = (name: "reward" | "gold") =>
      path(points.map((p) => (p[name] === null ? null : scale[name](p[name]))));
    // A run keeps its colour; the stand-in is dashed, the truth solid.
    series.push({ name: `${run.title}: reward model`, look, dashed: true, points: scaled("reward") });
    series.push({ name: `${run.title}: truth`, look, dashed: false, points: scaled("gold") });
    look++;
  }
  if (series.length === 0) return "";
  const unit = yardstick ? `standard deviations above ${data.policies[0].label}` : "reward";
  const spec: ChartSpec = {
    id: "overoptimisation",
    title: "Reward against distance from the start",
    xLabel: "square root of the KL (nats per response)",
    yLabel: unit,
    series,
    height: 420,
    width: 960,
  };
  return `<section><h2>What happens when the reward model is believed too much?</h2>
<p>The reward model is only a stand-in for the truth. Close to the start both rise together; far away its score may go on rising while the true reward falls.</p>
${figure(spec)}</section>`;
}

export function samples({ samples: groups }: ReportData): string {
  if (groups.length === 0) return "";
  const rows = groups.map((group) => {
    const responses = group.responses.map(
      (r) =>
        `<tr><th scope="row">${escapeXml(r.label)}</th><td class="text">${escapeXml(r.text.trim())}</td><td>${showNumber(r.reward)}</td><td>${showNumber(r.gold)}</td></tr>`,
    );
    return `<tbody><tr class="prompt"><th colspan="4" scope="rowgroup"><span class="tag">prompt</span> ${escapeXml(group.prompt)}</th></tr>${responses.join("")}</tbody>`;
  });
  return `<section class="samples"><h2>What do the responses look like?</h2>
<p>The same held-out prompts, before and after training; chosen by their place in the data, not by their looks.</p>
<table><thead><tr><th scope="col">policy</th><th scope="col" class="text">response</th><th scope="col">reward model</th><th scope="col">truth</th></tr></thead>${rows.join("")}</table></section>`;
}
