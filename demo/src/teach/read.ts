/** Files of students, read with suspicion: what is wrong with one is said in words, and the others count. */
import * as v from "valibot";
import type { Language } from "../lib/language.ts";
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

const faults = {
  en: {
    json: "it is no JSON: give the files that “Save my result” made, unchanged",
    result: (place: string, what: string) => `it is no result of a lesson${place && ` at “${place}”`}: ${what}`,
    files: `more than ${MOST_FILES} files at once`,
    large: (bytes: number) => `it is larger than ${bytes / 1000} kB`,
    deep: "it is nested too deeply",
  },
  zh: {
    json: "不是 JSON:请交“保存我的结果”生成的原文件",
    result: (place: string, what: string) => `不是课程的结果${place && `,位置“${place}”`}:${what}`,
    files: `一次多于 ${MOST_FILES} 个文件`,
    large: (bytes: number) => `文件大于 ${bytes / 1000} kB`,
    deep: "嵌套过深",
  },
};

/** Reads the text of one file. @throws Error with words where it is no result */
export function readResult(content: string, language: Language = "en"): Result {
  const words = faults[language];
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    throw new Error(words.json);
  }
  const { success, output, issues } = v.safeParse(resultSchema, value, { lang: language });
  if (success) return output;
  throw new Error(words.result((v.getDotPath(issues[0]) ?? "").slice(0, 80), issues[0].message.slice(0, 160)));
}

/** Reads many; those that are no such file are refused one by one. */
export const readFiles = <T>(
  files: readonly Given[],
  read: (content: string) => T,
  most = MOST_BYTES,
  language: Language = "en",
): Promise<{ taken: T[]; refused: Refusal[] }> =>
  readEach(
    files,
    async (file) => read(await file.text()),
    () => most,
    language,
  );

/** The same for files that are no text; `most`: the bytes that one may have. */
export async function readEach<T>(
  files: readonly Given[],
  read: (file: Given) => Promise<T>,
  most: (file: Given) => number,
  language: Language = "en",
): Promise<{ taken: T[]; refused: Refusal[] }> {
  const words = faults[language];
  const taken: T[] = [];
  const refused: Refusal[] = files.slice(MOST_FILES).map(({ name }) => ({ file: name, why: words.files }));
  for (const file of files.slice(0, MOST_FILES)) {
    try {
      if (file.size > most(file)) throw new Error(words.large(most(file)));
      taken.push(await read(file));
    } catch (error) {
      // A hostile file may nest so deep that reading it overflows the stack: that is said in words of its own.
      refused.push({ file: file.name, why: error instanceof RangeError ? words.deep : (error as Error).message });
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
