/** Where a run's time went, and the memory that it had, out of its timing.jsonl. */
import type { Metrics } from "./data.ts";
import { table } from "./table.ts";
import { escapeXml, showNumber } from "./text.ts";

/** The parts of a run's steps, evaluations and saves, by the names of logs. */
const words: Readonly<Record<string, string>> = {
  rollout: "drawing responses and measuring them (rollout)",
  reward: "rewards (reward)",
  reference: "the reference by itself (reference)",
  values: "the critic's values (values)",
  learn: "learning (learn)",
  learners: "waiting for other learners (learners)",
  eval: "evaluations (eval)",
  save: "checkpoints (save)",
};

/** A part of a run's time. */
interface Part {
  readonly name: string;
  readonly seconds: number;
  /** Of all parts. */
  readonly share: number;
}

/** Seconds of each part in all rows, as far as rows have parts; in the order of a step. */
export function partsOf(rows: readonly Metrics[]): Part[] {
  const sums = new Map<string, number>();
  for (const row of rows) {
    for (const [key, value] of Object.entries(row)) {
      const name = /^time\/(.+)$/.exec(key)?.[1];
      if (name !== undefined && Number.isFinite(value)) sums.set(name, (sums.get(name) ?? 0) + Number(value));
    }
  }
  const all = [...sums.values()].reduce((a, b) => a + b, 0);
  const order = Object.keys(words);
  const place = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length);
  return [...sums]
    .map(([name, seconds]) => ({ name, seconds, share: all > 0 ? seconds / all : 0 }))
    .sort((a, b) => place(a.name) - place(b.name));
}

/** The most GPU memory that was in use in a step, in MiB; null where nobody counted. */
export function peakOf(rows: readonly Metrics[]): number | null {
  const most = rows.reduce((peak, row) => Math.max(peak, Number(row["memory/peak"] ?? 0)), 0);
  return most > 0 ? most / 2 ** 20 : null;
}

/** Colours of parts, as charts have them. */
const COLOURS = 6;

/** The parts as a bar and a table; nothing where rows have none. */
export function partsShown(rows: readonly Metrics[], title: string): string {
  const parts = partsOf(rows);
  const peak = peakOf(rows);
  if (parts.length === 0) return "";
  const bar = parts.map(
    ({ share }, i) => `<span style="flex:${share.toFixed(4)} 0 0;background:var(--chart-${i % COLOURS})"></span>`,
  );
  const numbers = table(
    [
      { title: "part", value: ({ name }) => words[name] ?? name },
      { title: "seconds", value: ({ seconds }) => seconds, digits: 4 },
      { title: "share", value: ({ share }) => `${(100 * share).toFixed(1)} %` },
    ],
    parts,
  );
  const memory = peak === null ? "" : ` The most GPU memory in use was ${showNumber(peak)} MiB.`;
  const label = escapeXml(title);
  return `<div style="display:flex;height:1rem;max-width:60rem" aria-hidden="true">${bar.join("")}</div><div class="scroll" tabindex="0" role="region" aria-label="${label}">${numbers}</div><p class="soft">Wall time until what a part computes was read; steps that are enqueued ahead have one part.${memory}</p>`;
}
