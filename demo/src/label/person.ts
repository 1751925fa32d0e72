/** Who labels in this browser: a random name for each room, so that nobody labels a pair twice by accident, and what was labelled. */
import * as v from "valibot";
import type { Shelf } from "../lib/labels.ts";

/** Pairs that are remembered; of more the oldest are forgotten. */
const MOST = 5000;

const personSchema = v.object({
  labeller: v.pipe(v.string(), v.regex(/^[a-z0-9]{16}$/)),
  name: v.pipe(v.string(), v.maxLength(200)),
  done: v.pipe(v.number(), v.integer(), v.minValue(0)),
  labelled: v.pipe(v.array(v.pipe(v.string(), v.maxLength(200))), v.maxLength(MOST)),
});

/** Somebody who labels in a room. */
export type Person = v.InferOutput<typeof personSchema>;

/** A person who was not here before. Browsers have no other random names on plain http. */
export function newPerson(): Person {
  const digits = crypto.getRandomValues(new Uint8Array(16));
  return {
    labeller: Array.from(digits, (digit) => (digit % 36).toString(36)).join(""),
    name: "",
    done: 0,
    labelled: [],
  };
}

const placeOf = (room: string): string => `webrlhf/label/${room}`;

/** The person of a room that this browser knows; null where it knows none. */
export function readPerson(shelf: Shelf, room: string): Person | null {
  try {
    const { success, output } = v.safeParse(personSchema, JSON.parse(shelf.getItem(placeOf(room)) ?? "null"));
    return success ? output : null;
  } catch {
    return null;
  }
}

/** Keeps a person; where the browser keeps nothing, a reload makes another one. */
export function keepPerson(shelf: Shelf, room: string, person: Person): void {
  try {
    shelf.setItem(placeOf(room), JSON.stringify({ ...person, labelled: person.labelled.slice(-MOST) }));
  } catch {
    // nothing is kept
  }
}
