/** What decides a run, in a link: its size class, its seed, and what the visitor asked otherwise. */
import * as v from "valibot";
import type { Json, Size } from "./types.ts";

export interface Address {
  size: Size;
  seed: number;
  /** Fields of the lesson's input that differ from its own. */
  asked: Record<string, Json>;
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
});

/** "#size=S&seed=42" */
export function addressOf({ size, seed, asked }: Address): string {
  const out = new URLSearchParams({ size, seed: String(seed) });
  if (Object.keys(asked).length > 0) out.set("ask", JSON.stringify(asked));
  return `#${out}`;
}

/**
 * Reads a link's hash; what it does not say is missing.
 * @throws Error with words where it says something that cannot be
 */
export function readAddress(hash: string): Partial<Omit<Address, "asked">> & Pick<Address, "asked"> {
  const given = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  const { issues, output } = v.safeParse(schema, given);
  if (issues) throw new Error(`This link is damaged: ${issues.map(({ message }) => message).join("; ")}.`);
  const { size, seed, ask } = output as v.InferOutput<typeof schema>;
  return { ...(size && { size }), ...(seed !== undefined && { seed }), asked: ask ?? {} };
}
