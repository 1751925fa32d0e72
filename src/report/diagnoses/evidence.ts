/** What a diagnosis may look at, and how it reads the numbers of a run. */
import { type Metrics, type Quantity, synonyms } from "../data.ts";

/** A response of a rollout so far as diagnoses read it; arrays are by response token. */
export interface SeenResponse {
  readonly step: number;
  readonly prompt: string;
  readonly response: string;
  readonly ended: boolean;
  readonly score: number;
  /** None without a reference. */
  readonly kl?: readonly number[];
  /** The critic's, and what they are to become; none without a critic. */
  readonly values?: readonly number[];
  readonly returns?: readonly number[];
}

/** A run as it lies in its folder: everything that it did not log is left out. */
export interface Evidence {
  /** The method; null where no record says it. */
  readonly verb: string | null;
  /** Resolved settings by the names that people write; none without a record. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Lines of steps, and of evaluations, of metrics.jsonl. */
  readonly steps: readonly Metrics[];
  readonly evals: readonly Metrics[];
  /** Rows of rollouts.jsonl. Default: none. */
  readonly rollouts?: readonly SeenResponse[];
  /** How long each step took. Default: nobody knows. */
  readonly seconds?: readonly number[];
}

/** A known trap, and how its marks show in a run's numbers. */
export interface Diagnosis {
  /** Letters and hyphens; its heading in docs/diagnoses.md. */
  readonly id: string;
  readonly title: string;
  /** From what number on, and why from there. */
  readonly when: string;
  readonly advice: string;
  /** The marks in words, with the run's numbers; null where they are not there, or the run has not logged them. */
  look(run: Evidence): string | null;
}

/** A diagnosis that a run shows. */
export interface Finding extends Pick<Diagnosis, "id" | "title" | "advice"> {
  /** What was seen. */
  readonly text: string;
  /** The page that says more. */
  readonly page: string;
}

/** A quantity under any of its names, or a metric by its one name. */
export type Named = Quantity | (string & {});

const namesOf = (name: Named): readonly string[] =>
  Object.hasOwn(synonyms, name) ? [...synonyms[name as Quantity], name] : [name];

/** (step, value) of every line that has the metric, whatever the value. */
export function everyPoint(rows: readonly Metrics[], name: Named): [step: number, value: number][] {
  return rows.flatMap((row): [number, number][] => {
    const key = namesOf(name).find((one) => typeof row[one] === "number");
    return key === undefined ? [] : [[Number(row.step), row[key] as number]];
  });
}

/** The finite values of a metric, in their order. */
export const values = (rows: readonly Metrics[], name: Named): number[] =>
  everyPoint(rows, name).flatMap(([, value]) => (Number.isFinite(value) ? [value] : []));

export const mean = (numbers: readonly number[]): number => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

export const deviation = (numbers: readonly number[]): number => {
  const middle = mean(numbers);
  return Math.sqrt(mean(numbers.map((one) => (one - middle) ** 2)));
};

/** Pearson's correlation; null where a side is constant. */
export function correlation(a: readonly number[], b: readonly number[]): number | null {
  const [x, y] = [mean(a), mean(b)];
  const scale = deviation(a) * deviation(b);
  return scale > 0 ? mean(a.map((one, i) => (one - x) * (b[i] - y))) / scale : null;
}

/** How many steps a beginning and an end of a run have: a fifth, and three at least, so that one step decides nothing. */
const part = (length: number): number => Math.max(3, Math.round(length / 5));

/** A metric's means over the first and the last fifth of a run. */
export interface Course {
  readonly first: number;
  readonly last: number;
  readonly count: number;
  readonly all: readonly number[];
}

/** The course of a metric; null where fewer than `least` steps logged it. */
export function course(rows: readonly Metrics[], name: Named, least = 6): Course | null {
  const all = values(rows, name);
  if (all.length < least) return null;
  const n = part(all.length);
  return { first: mean(all.slice(0, n)), last: mean(all.slice(-n)), count: all.length, all };
}

/** A setting that is a number; null where it is none, or unknown. */
export const numberIn = ({ settings }: Evidence, name: string): number | null => {
  const value = settings[name];
  return typeof value === "number" ? value : null;
};

export const percent = (share: number): string => `${Math.round(100 * share)} %`;
