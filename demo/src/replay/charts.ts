/** What of a recorded run is drawn: its numbers by name, up to a step. */
import { type ChartSpec, type RecordedRun, type RecordedSample, synonyms, thin } from "webrlhf/report";

/** Numbers of training and their twins on held-out data are one: "loss" and "eval_loss". */
const plain = (name: string): string => name.replace(/^eval_/, "");

/** Numbers that say where a row stands. */
const places = new Set(["step", "epoch", "tokens"]);

/** Points that a curve is drawn of. */
const DRAWN = 400;

/** The names of the numbers that a run logged, those known from other runs first. */
export function numbersOf({ metrics }: RecordedRun): string[] {
  const names = new Set<string>();
  for (const row of metrics)
    for (const [name, value] of Object.entries(row)) if (value !== null && !places.has(name)) names.add(plain(name));
  return [...known.filter((name) => names.has(name)), ...[...names].filter((name) => !known.includes(name))];
}

const known: readonly string[] = Object.values(synonyms).flat();

/** Those that are shown at first: what every reader asks for, each once. */
export function shownAtFirst(run: RecordedRun): string[] {
  const names = numbersOf(run);
  const asked = (["reward", "gold", "kl", "loss", "accuracy", "margin"] as const).flatMap(
    (quantity) => synonyms[quantity].find((name) => names.includes(name)) ?? [],
  );
  return asked.length > 0 ? asked : names.slice(0, 2);
}

/** The steps that a run tells something of, in order. */
export const stepsOf = ({ metrics, samples }: RecordedRun): number[] =>
  [...new Set([...metrics.map(({ step }) => step as number), ...samples.map(({ step }) => step)])].sort(
    (a, b) => a - b,
  );

export interface ChartWords {
  step: string;
  training: string;
  heldOut: string;
}

/** A number's curve up to a step, with the whole run pale behind it. */
export function chartOf(run: RecordedRun, name: string, upTo: number, words: ChartWords): ChartSpec {
  const twins = [
    { label: words.training, key: name },
    { label: words.heldOut, key: `eval_${name}` },
  ].map(({ label, key }, look) => {
    const all = run.metrics.flatMap((row): [number, number][] => {
      const value = row[key];
      return typeof value === "number" ? [[row.step as number, value]] : [];
    });
    return { label, look, points: thin(all, DRAWN) };
  });
  const found = twins.filter(({ points }) => points.length > 0);
  return {
    id: `replay-${name.replace(/[^A-Za-z0-9]+/g, "-")}`,
    title: name,
    xLabel: words.step,
    yLabel: name,
    series: [
      ...found.map(({ label, look, points }) => ({ name: label, look, points, faint: true })),
      ...found.map(({ label, look, points }) => ({ name: label, look, points: points.filter(([x]) => x <= upTo) })),
    ],
  };
}

/** The samples of the last step, up to one, at which some were taken. */
export function samplesAt({ samples }: RecordedRun, upTo: number): RecordedSample[] {
  const last = samples.reduce((most, { step }) => (step <= upTo ? Math.max(most, step) : most), -1);
  return samples.filter(({ step }) => step === last);
}
