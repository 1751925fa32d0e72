/** What decides a run, in a link: its size class, its seed, and what the visitor asked otherwise. */
import * as v from "valibot";
import { classSchema } from "./class-seed.ts";
import type { Json, Size } from "./types.ts";

export interface Address {
  size: Size;
  seed: number;
  /** Fields of the lesson's input that differ from its own. */
  asked: Record<string, Json>;
}

/** What a teacher's link can leave out of the lesson's page. */
export const hideable = ["size", "seed", "recordings"] as const;
export type Hideable = (typeof hideable)[number];

/** A teacher's link: in place of a seed it names the class, and each student gets a seed. */
export interface Group {
  class: string;
  hide: readonly Hideable[];
}

const json: v.GenericSchema<Json> = v.lazy(() =>
  v.union([v.string(), v.number(), v.boolean(), v.null(), v.array(json), v.record(v.string(), json)]),
);

const sizes = v.picklist(["S", "M", "L"], "size is S, M or L");

/** An address as it is saved with a run. */
export const addressSchema: v.GenericSchema<Address> = v.object({
  size: sizes,
  seed: v.pipe(v.number(), v.integer(), v.minValue(0)),
  asked: v.record(v.string(), json),
});

const schema = v.object({
  size: v.optional(sizes),
  seed: v.optional(
    v.pipe(v.string(), v.regex(/^\d{1,9}$/, "seed is a whole number of at most 9 digits"), v.transform(Number)),
  ),
  ask: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(2000, "ask is too long"),
      v.parseJson(undefined, "ask is no JSON"),
      v.record(v.string(), json),
    ),
  ),
  class: v.optional(classSchema),
  hide: v.optional(
    v.pipe(
      v.string(),
      v.transform((text) => [...new Set(text.split(","))]),
      v.array(v.picklist(hideable, `hide is some of ${hideable.join(", ")}`)),
    ),
  ),
});

/** "#size=S&seed=42" */
export function addressOf({ size, seed, asked }: Address): string {
  const out = new URLSearchParams({ size, seed: String(seed) });
  if (Object.keys(asked).length > 0) out.set("ask", JSON.stringify(asked));
  return `#${out}`;
}

/** "#class=3b&hide=seed&size=S": a link for a whole class, with no seed in it. */
export function groupAddressOf({ size, asked }: Omit<Address, "seed">, { class: name, hide }: Group): string {
  const out = new URLSearchParams({ class: name, size });
  if (hide.length > 0) out.set("hide", hide.join(","));
  if (Object.keys(asked).length > 0) out.set("ask", JSON.stringify(asked));
  return `#${out}`;
}

/** What a link says; what it does not say is missing. */
export type Read = Partial<Omit<Address, "asked">> & Pick<Address, "asked"> & { group?: Group };

/**
 * Reads a link's hash; what it does not say is missing.
 * @throws Error with words where it says something that cannot be
 */
export function readAddress(hash: string): Read {
  const given = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  const { issues, output } = v.safeParse(schema, given);
  if (issues) throw new Error(`This link is damaged: ${issues.map(({ message }) => message).join("; ")}.`);
  const { size, seed, ask, class: name, hide } = output as v.InferOutput<typeof schema>;
  if (name !== undefined && seed !== undefined) {
    throw new Error("This link is damaged: a class's link has no seed, for each student gets one.");
  }
  if (name === undefined && hide) throw new Error("This link is damaged: only a class's link hides something.");
  return {
    ...(size && { size }),
    ...(seed !== undefined && { seed }),
    asked: ask ?? {},
    ...(name !== undefined && { group: { class: name, hide: hide ?? [] } }),
  };
}
