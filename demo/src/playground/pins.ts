/** Finished runs that stand beside the one on the page: their knobs and their looks, no more. */
import * as v from "valibot";
import type { Point } from "./curves.ts";
import { effective, type Knobs, type Method } from "./knobs.ts";
import { lesson } from "./lesson.ts";

export const MOST_PINS = 4;

export interface Pin {
  knobs: Knobs & { method: Method };
  points: Point[];
  /** Given by the visitor; empty: what differs between the pins. */
  name: string;
}

const number = v.pipe(v.number(), v.finite());
const point = v.strictObject({
  step: number,
  tokens: number,
  kl: number,
  length: number,
  judge: number,
  judge_se: number,
  truth: number,
  truth_se: number,
});
const knobs = v.pipe(
  v.unknown(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    try {
      return lesson.parse(dataset.value);
    } catch (error) {
      addIssue({ message: (error as Error).message });
      return NEVER;
    }
  }),
  v.check(({ method }) => method !== "race", "a race is no pin"),
);
export const NAME_LENGTH = 40;
const schema = v.pipe(
  v.array(
    v.strictObject({
      knobs,
      points: v.pipe(v.array(point), v.minLength(1), v.maxLength(100)),
      name: v.pipe(v.string(), v.maxLength(NAME_LENGTH)),
    }),
  ),
  v.maxLength(MOST_PINS),
);

/** Pins as they were saved; none of it where it is not what this page saves. */
export function pinsOf(text: string | null): Pin[] {
  try {
    const { success, output } = v.safeParse(schema, JSON.parse(text ?? "[]"));
    return success ? (output as Pin[]) : [];
  } catch {
    return [];
  }
}

/** How numbers that are not finite are left out of what is saved: they are not drawn either. */
export const pinnable = (points: readonly Point[]): Point[] =>
  points.filter((point) => Object.values(point).every(Number.isFinite));

/** Names of a few knobs, in the words of a language. */
export interface Naming {
  methods: Record<Method, string>;
  knob: Record<string, readonly [label: string, short: string, help: string]>;
  seed: string;
}

/** What each of several runs is called: its method, and those of its knobs in which they differ. */
export function namesOf(all: readonly Knobs[], { methods, knob, seed }: Naming): string[] {
  const known = all.map((knobs) => effective(knobs));
  const keys = [...new Set(known.flatMap((one) => Object.keys(one)))] as (keyof Knobs)[];
  // A knob that a method does not have tells nothing of it.
  const differing = keys.filter(
    (key) => key !== "method" && new Set(known.flatMap((one) => (key in one ? [one[key]] : []))).size > 1,
  );
  const names = known.map((one) =>
    [
      methods[one.method as Method],
      ...differing.flatMap((key) => (key in one ? [`${key === "seed" ? seed : knob[key][1]} ${one[key]}`] : [])),
    ].join(", "),
  );
  return names.map((name, i) => {
    const before = names.slice(0, i).filter((other) => other === name).length;
    return before > 0 ? `${name} (${before + 1})` : name;
  });
}
