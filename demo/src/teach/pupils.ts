/** Students' labels out of their files, each student once. */
import * as v from "valibot";
import { fromGivenLines, type GivenLabel, keyOf, type Label, labelsSchema } from "../lib/labels.ts";
import type { Language } from "../lib/language.ts";
import { type Given, type Refusal, readEach } from "./read.ts";

/** Bytes of one file: labels alone, or a whole run with its model. */
const MOST_LINES_BYTES = 2_000_000;
const MOST_ZIP_BYTES = 200_000_000;
/** Students at once: every two of them are compared. */
export const MOST_PUPILS = 100;
/** Labels of one student. */
export const MOST_LABELS = 1000;

/** What one student said. */
export interface Pupil {
  name: string;
  /** Of each pair the first decision. */
  labels: Label[];
  /** Of the pairs that came again, how many were decided as before. */
  again: { same: number; of: number };
}

const faults = {
  en: {
    pupils: `more than ${MOST_PUPILS} students at once`,
    labels: `it holds more than ${MOST_LABELS} labels of one student`,
    zip: "this run has no labels in it: only runs on one's own labels have",
  },
  zh: {
    pupils: `一次多于 ${MOST_PUPILS} 个学生`,
    labels: `一个学生的标签多于 ${MOST_LABELS} 个`,
    zip: "这次运行里没有标签:只有用自己的标签进行的运行才有",
  },
};

const isZip = (name: string): boolean => /\.zip$/i.test(name);

/** One student's decisions. @throws Error with words */
export function pupilOf(name: string, given: readonly GivenLabel[], language: Language = "en"): Pupil {
  const first = new Map<string, Label>();
  const again = { same: 0, of: 0 };
  for (const { again: later = [], labeller: _, ...label } of given) {
    const before = first.get(keyOf(label));
    if (before) {
      again.of++;
      if (before.chosen === label.chosen) again.same++;
    } else first.set(keyOf(label), label);
    again.of += later.length;
    again.same += later.filter(Boolean).length;
  }
  if (first.size > MOST_LABELS) throw new Error(faults[language].labels);
  return { name, labels: [...first.values()], again };
}

/** The decisions of everybody in a file; where it does not say whose they are, its name does. @throws Error with words */
function pupilsOf(name: string, given: readonly GivenLabel[], language: Language): Pupil[] {
  const by = new Map<string, GivenLabel[]>();
  for (const label of given) {
    const who = label.labeller ?? name;
    by.set(who, [...(by.get(who) ?? []), label]);
  }
  return [...by].map(([who, own]) => pupilOf(who.slice(0, 60), own, language));
}

/**
 * Reads files of labels, of one student or of a class, and runs on one's own labels; those that are none are refused one by one.
 */
export async function readPupils(
  files: readonly Given[],
  language: Language = "en",
): Promise<{ taken: Pupil[]; refused: Refusal[] }> {
  const read = async (file: Given): Promise<Pupil[]> => {
    const labels = isZip(file.name)
      ? await labelsInZip(file as unknown as Blob, language)
      : fromGivenLines(await file.text(), language);
    return pupilsOf(nameOf(file.name), labels, language);
  };
  const most = ({ name }: Given) => (isZip(name) ? MOST_ZIP_BYTES : MOST_LINES_BYTES);
  const { taken, refused } = await readEach(files, read, most, language);
  return { taken: taken.flat(), refused };
}

/** "labels-3b-7.jsonl" is the file of "3b 7". */
const nameOf = (file: string): string =>
  file
    .replace(/\.(jsonl|json|ndjson|txt|zip)$/i, "")
    .replace(/^(labels|run)[-_ ]+(?=\p{L}|\p{N})/iu, "")
    .replaceAll("_", " ")
    .slice(0, 60);

const recordSchema = v.object({ input: v.object({ input: v.object({ labels: labelsSchema }) }) });

/** The labels of a saved run: what it was asked to learn from, or a file of labels in it. */
async function labelsInZip(blob: Blob, language: Language): Promise<GivenLabel[]> {
  const { unpackTexts } = await import("./unpack.ts");
  const texts = await unpackTexts(
    blob,
    (path) => /(^|\/)(labels\.jsonl|webrlhf-run\.json)$/.test(path),
    MOST_LINES_BYTES,
  );
  const lines = texts.find(({ path }) => path.endsWith("labels.jsonl"));
  if (lines) return fromGivenLines(lines.text, language);
  const record = texts.find(({ path }) => path.endsWith("webrlhf-run.json"));
  const found = v.safeParse(v.pipe(v.string(), v.parseJson(), recordSchema), record?.text);
  if (!found.success) throw new Error(faults[language].zip);
  return found.output.input.input.labels;
}

/** A name that says nothing of who gave the file: any number of students may have it. */
const isNobody = (name: string): boolean => /^(labels|run)?( ?\(\d+\))?$/i.test(name);

/** Students of whom each file, and each name, counts once. */
export interface Roll {
  pupils: Pupil[];
  /** Students whose earlier file was replaced by a later one. */
  replaced: string[];
  /** Files with the very labels of another file. */
  same: number;
  refused: Refusal[];
}

/** Puts later files to earlier ones. */
export function enrol(before: Roll, taken: readonly Pupil[], language: Language = "en"): Roll {
  const roll: Roll = { ...before, pupils: [...before.pupils], replaced: [...before.replaced], refused: [] };
  const contents = new Set(roll.pupils.map(contentOf));
  for (const pupil of taken) {
    if (contents.has(contentOf(pupil))) {
      roll.same++;
      continue;
    }
    const at = isNobody(pupil.name) ? -1 : roll.pupils.findIndex(({ name }) => name === pupil.name);
    if (at < 0 && roll.pupils.length === MOST_PUPILS) {
      roll.refused.push({ file: pupil.name, why: faults[language].pupils });
      continue;
    }
    contents.add(contentOf(pupil));
    if (at >= 0) {
      contents.delete(contentOf(roll.pupils[at]));
      roll.pupils[at] = pupil;
      roll.replaced.push(pupil.name);
    } else roll.pupils.push({ ...pupil, name: freeName(pupil.name, roll.pupils) });
  }
  return roll;
}

export const emptyRoll: Roll = { pupils: [], replaced: [], same: 0, refused: [] };

const contentOf = ({ labels, again }: Pupil): string => JSON.stringify([labels, again]);

function freeName(name: string, pupils: readonly Pupil[]): string {
  const taken = new Set(pupils.map((pupil) => pupil.name));
  for (let i = 1; ; i++) {
    const tried = i === 1 ? name : `${name.replace(/ \(\d+\)$/, "")} (${i})`;
    if (!taken.has(tried)) return tried;
  }
}
