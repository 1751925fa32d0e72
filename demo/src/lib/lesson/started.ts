/** What a saved run was started with: it comes from an older version of the site or from a stranger's file, so it may be anything. */
import * as v from "valibot";
import { type Address, addressSchema } from "./address.ts";
import type { Json, Lesson, LessonEvent } from "./types.ts";

export interface Started {
  address: Address;
  input: Json;
}

/** A saved run is of another lesson; `slug` says of which. */
export class OtherLesson extends Error {
  readonly slug: string;

  constructor(slug: string) {
    super(`This run is of another lesson: ${slug}.`);
    this.slug = slug;
  }
}

const spec = v.object({ input: v.unknown(), address: addressSchema });

/**
 * Reads what a saved run was started with.
 * @throws OtherLesson, or Error with words where the lesson cannot have started it
 */
export function startedWith(lesson: Lesson, { program, input }: { program: string; input: unknown }): Started {
  if (program !== lesson.slug) throw new OtherLesson(program);
  const found = v.safeParse(spec, input);
  if (!found.success) throw new Error(`This run is damaged: ${found.issues[0].message}.`);
  const { address } = found.output;
  const foreign = lesson.private?.find((name) => name in address.asked);
  if (foreign) throw new Error(`This run is damaged: ${foreign} are never in a link.`);
  return { address, input: lesson.parse(found.output.input) };
}

/** Also those that are none: a metric may be NaN. */
const number = v.custom<number>((value) => typeof value === "number", "is no number");
const numbers = v.record(v.string(), number);
const trained = v.union([
  v.looseObject({ type: v.literal("step"), step: number, metrics: numbers }),
  v.pipe(
    v.looseObject({ type: v.string() }),
    v.check(({ type }) => type !== "step"),
  ),
]);
const sample = v.looseObject({ prompt: v.string(), response: v.string() });
const place = { stage: v.string(), step: number };

const event = v.variant("type", [
  v.looseObject({ type: v.literal("enter"), stage: v.string() }),
  v.looseObject({ type: v.literal("train"), stage: v.string(), event: trained }),
  v.looseObject({ type: v.literal("measured"), ...place, values: numbers }),
  v.looseObject({ type: v.literal("samples"), ...place, samples: v.array(sample) }),
  v.looseObject({ type: v.literal("data"), name: v.string(), data: v.unknown() }),
]);

/**
 * An event out of a file, of the shape that figures read.
 * @throws Error with words where it has another
 */
export function eventOf(value: unknown): LessonEvent {
  const found = v.safeParse(event, value);
  if (found.success) return value as LessonEvent;
  const [issue] = found.issues;
  throw new Error(`This run is damaged: an event's ${v.getDotPath(issue) ?? "shape"}: ${issue.message}.`);
}
