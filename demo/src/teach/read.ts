/** Files of students, read with suspicion: what is wrong with one is said in words, and the others count. */
import * as v from "valibot";
import { type Result, resultSchema } from "../lib/lesson/result-file.ts";

/** Bytes of one file, and files at once. */
export const MOST_BYTES = 100_000;
export const MOST_FILES = 500;

/** A file as a page is given it. */
export type Given = Pick<File, "name" | "size" | "text">;

/** A file that was not taken, and why. */
export interface Refusal {
  file: string;
  why: string;
}

/** Reads the text of one file. @throws Error with words where it is no result */
export function readResult(content: string): Result {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    throw new Error("it is no JSON: give the files that “Save my result” made, unchanged");
  }
  const { success, output, issues } = v.safeParse(resultSchema, value);
  if (success) return output;
  const place = v.getDotPath(issues[0]);
  throw new Error(
    `it is no result of a lesson${place ? ` at “${place.slice(0, 80)}”` : ""}: ${issues[0].message.slice(0, 160)}`,
  );
}

/** Reads many; those that are no such file are refused one by one. */
export async function readFiles<T>(
  files: readonly Given[],
  read: (content: string) => T,
  most = MOST_BYTES,
): Promise<{ taken: T[]; refused: Refusal[] }> {
  const taken: T[] = [];
  const refused: Refusal[] = files
    .slice(MOST_FILES)
    .map(({ name }) => ({ file: name, why: `more than ${MOST_FILES} files at once` }));
  for (const file of files.slice(0, MOST_FILES)) {
    try {
      if (file.size > most) throw new Error(`it is larger than ${most / 1000} kB`);
      taken.push(read(await file.text()));
    } catch (error) {
      // A hostile file may nest so deep that reading it overflows the stack: that is said in words of its own.
      const why = error instanceof RangeError ? "it is nested too deeply" : (error as Error).message;
      refused.push({ file: file.name, why });
    }
  }
  return { taken, refused };
}

/** Results of which each student, and each run, counts once. */
export interface Gathered {
  results: Result[];
  /** Students whose earlier file was replaced by a later one. */
  replaced: string[];
  /** Files that hold a run which another file holds, too: noise counted twice would look like agreement. */
  same: number;
}

/** Who gave a result, within its lesson; without a name the run's seed stands for them. */
export const ownerOf = ({ class: group, student, seed }: Result): string =>
  student === undefined ? `seed ${seed}` : group === undefined ? student : `${group} ${student}`;

/** Leaves out what would count twice. */
export function gather(results: readonly Result[]): Gathered {
  const byOwner = new Map<string, Result>();
  const replaced: string[] = [];
  for (const result of results) {
    const owner = JSON.stringify([result.lesson, ownerOf(result)]);
    const before = byOwner.get(owner);
    if (before && runOf(before) !== runOf(result)) replaced.push(ownerOf(result));
    byOwner.set(owner, result);
  }
  const byRun = new Map([...byOwner.values()].map((result) => [runOf(result), result]));
  const left = results.length - replaced.length - byRun.size;
  return { results: [...byRun.values()], replaced, same: left };
}

/** What decides a run, whatever the order of its fields. */
const runOf = ({ lesson, input }: Result): string => canonical([lesson, input]);

const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, part) =>
    part && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );

/** Results that differ in nothing but the seed: only their numbers may be averaged. */
export interface Batch {
  key: string;
  lesson: string;
  size: Result["size"];
  /** What decides the runs besides the seed. */
  settings: string;
  results: Result[];
}

/** Sorts results into such batches, the largest first. */
export function batches(results: readonly Result[]): Batch[] {
  const all = new Map<string, Batch>();
  for (const result of results) {
    const { seed: _, ...rest } = result.input;
    const settings = canonical(rest);
    const key = JSON.stringify([result.lesson, settings]);
    const batch = all.get(key) ?? { key, lesson: result.lesson, size: result.size, settings, results: [] };
    batch.results.push(result);
    all.set(key, batch);
  }
  return [...all.values()].sort((a, b) => b.results.length - a.results.length);
}
