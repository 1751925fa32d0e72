/** A visitor's labels: kept in this browser alone, given away and taken in as files in the columns of TRL, never in links. */
import * as v from "valibot";
import type { Language } from "./language.ts";
import { said } from "./said.ts";

const text = v.pipe(
  v.string(),
  v.maxLength(8000, said({ en: "is longer than 8,000 characters", zh: "超过 8,000 个字符" })),
);

/** One label: which of two answers to a prompt is better, in TRL's columns. */
export const labelSchema = v.object({ prompt: text, chosen: text, rejected: text });
export type Label = v.InferOutput<typeof labelSchema>;

/** Labels as a program's input takes them. */
export const labelsSchema = v.pipe(v.array(labelSchema), v.maxLength(5000, "more than 5,000 labels"));

/**
 * A label as its own file says it: `again`, where the pair came again, whether it was decided as before; `labeller`, in a file of
 * several people, who decided it.
 */
const givenSchema = v.object({
  ...labelSchema.entries,
  again: v.optional(
    v.pipe(v.array(v.boolean()), v.maxLength(100, said({ en: "has more than 100 entries", zh: "多于 100 项" }))),
  ),
  labeller: v.optional(v.pipe(v.string(), v.maxLength(100, said({ en: "is too long a name", zh: "名字过长" })))),
});
export type GivenLabel = v.InferOutput<typeof givenSchema>;

const answerSchema = v.object({ prompt: text, left: text, right: text, choice: v.picklist(["left", "right", "none"]) });

/** What was answered to a pair as it lay on the table; "none": cannot tell. */
export type Answer = v.InferOutput<typeof answerSchema>;

/** Two answers to one prompt are the same pair, whichever side they lie on. */
const pairKey = (prompt: string, a: string, b: string): string => JSON.stringify([prompt, ...[a, b].sort()]);

/** Names the pair that a label decides, whoever decides it and how. */
export const keyOf = ({ prompt, chosen, rejected }: Label): string => pairKey(prompt, chosen, rejected);

const labelOf = ({ prompt, left, right, choice }: Answer): Label | null =>
  choice === "none"
    ? null
    : { prompt, chosen: choice === "left" ? left : right, rejected: choice === "left" ? right : left };

/** The labels in answers: of each pair the first decision. */
export const labelsOf = (answers: readonly Answer[]): Label[] =>
  [...decisions(answers).values()].map(([first]) => first);

/** How often a pair that came again was decided as before. */
export function consistency(answers: readonly Answer[]): { same: number; of: number } {
  let [same, of] = [0, 0];
  for (const [first, ...again] of decisions(answers).values()) {
    of += again.length;
    same += again.filter(({ chosen }) => chosen === first.chosen).length;
  }
  return { same, of };
}

function decisions(answers: readonly Answer[]): Map<string, Label[]> {
  const byPair = new Map<string, Label[]>();
  for (const answer of answers) {
    const label = labelOf(answer);
    if (!label) continue;
    const before = byPair.get(keyOf(label));
    if (before) before.push(label);
    else byPair.set(keyOf(label), [label]);
  }
  return byPair;
}

/** Labels as JSON lines: what `webrlhf reward --dataset_name labels.jsonl` trains on. */
export const toJsonLines = (labels: readonly Label[]): string =>
  labels.map(({ prompt, chosen, rejected }) => `${JSON.stringify({ prompt, chosen, rejected })}\n`).join("");

/** One's answers as such a file: a label for each pair, and in a further column whether it was decided so again. */
export const toGivenLines = (answers: readonly Answer[]): string =>
  [...decisions(answers).values()]
    .map(([first, ...later]) => {
      const again = later.map(({ chosen }) => chosen === first.chosen);
      return `${JSON.stringify({ ...first, ...(again.length > 0 && { again }) })}\n`;
    })
    .join("");

const faults = {
  en: {
    large: "This file is larger than 5 MB: it holds more than labels of this page.",
    empty: "There are no labels in this file.",
    many: "This file holds more than 5,000 labels.",
    json: (line: number) => `Line ${line} is no JSON: a file of labels has one object on each line.`,
    label: (line: number, what: string) =>
      `Line ${line} is no label: ${what}. It needs the texts prompt, chosen and rejected.`,
    same: (line: number) => `Line ${line} is no label: both answers are the same.`,
  },
  zh: {
    large: "文件大于 5 MB:里面不只是本页的标签。",
    empty: "文件中没有标签。",
    many: "文件中的标签多于 5,000 个。",
    json: (line: number) => `第 ${line} 行不是 JSON:标签文件每行一个对象。`,
    label: (line: number, what: string) =>
      `第 ${line} 行不是标签:${what}。每行需要 prompt、chosen 和 rejected 三段文字。`,
    same: (line: number) => `第 ${line} 行不是标签:两个回答相同。`,
  },
};

/**
 * Reads labels out of somebody's file of JSON lines; further columns are left out.
 * @throws Error with words naming the line that is no label
 */
export const fromJsonLines = (content: string, language: Language = "en"): Label[] =>
  fromGivenLines(content, language).map(({ again: _, labeller: __, ...label }) => label);

/** The same, with what became of the pairs that came again, and who decided. */
export function fromGivenLines(content: string, language: Language = "en"): GivenLabel[] {
  const words = faults[language];
  if (content.length > 5_000_000) throw new Error(words.large);
  const labels: GivenLabel[] = [];
  for (const [i, line] of content.split(/\r?\n/).entries()) {
    if (!line.trim()) continue;
    if (labels.length === 5000) throw new Error(words.many);
    labels.push(readLine(line, i + 1, language));
  }
  if (labels.length === 0) throw new Error(words.empty);
  return labels;
}

function readLine(line: string, number: number, language: Language): GivenLabel {
  const words = faults[language];
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error(words.json(number));
  }
  const { success, output, issues } = v.safeParse(givenSchema, plain(value), { lang: language });
  if (!success) {
    const { message } = issues[0];
    const column = v.getDotPath(issues[0]);
    throw new Error(words.label(number, `${column ? `“${column}” ` : ""}${message}`));
  }
  if (output.chosen === output.rejected) throw new Error(words.same(number));
  return output;
}

/** A row whose prompt and answers are messages, with what they say in their place. */
function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const textOf = (side: unknown): unknown =>
    Array.isArray(side) && side.length > 0 && side.every((message) => typeof message?.content === "string")
      ? side.map(({ content }) => content).join("\n\n")
      : side;
  return Object.fromEntries(Object.entries(value).map(([column, side]) => [column, textOf(side)]));
}

/** The labels of several people as one file; a pair that several decided is in it several times. */
export const pooled = (files: readonly (readonly Label[])[]): Label[] => files.flat();

/** On how many pairs that both decided two people agree. */
export function agreement(a: readonly Label[], b: readonly Label[]): { same: number; of: number } {
  const byPair = new Map(b.map((label) => [keyOf(label), label.chosen]));
  const both = a.filter((label) => byPair.has(keyOf(label)));
  return { same: both.filter((label) => byPair.get(keyOf(label)) === label.chosen).length, of: both.length };
}

/** Where a browser keeps texts: localStorage, or a test's. */
export type Shelf = Pick<Storage, "getItem" | "setItem" | "removeItem">;

const ofLessons = "webrlhf/labels";

/** The answers that this browser keeps in a place, by default those of the lessons; none where what lies there is damaged. */
export function readAnswers(shelf: Shelf, place = ofLessons): Answer[] {
  try {
    const { success, output } = v.safeParse(
      v.pipe(v.array(answerSchema), v.maxLength(5000)),
      JSON.parse(shelf.getItem(place) ?? "[]"),
    );
    return success ? output : [];
  } catch {
    return [];
  }
}

/** Keeps answers; false where the browser keeps nothing. */
export function keepAnswers(shelf: Shelf, answers: readonly Answer[], place = ofLessons): boolean {
  try {
    if (answers.length > 0) shelf.setItem(place, JSON.stringify(answers));
    else shelf.removeItem(place);
    return true;
  } catch {
    return false;
  }
}
