/** A student's answers to the questions: written by their page, read by the teacher's, compared before and after. */
import * as v from "valibot";
import type { Language } from "../lib/language.ts";
import { classSchema, studentSchema } from "../lib/lesson/class-seed.ts";
import { said } from "../lib/said.ts";
import { questions } from "./questions.ts";

const ANSWERS_FORMAT = "webrlhf answers 1";

const entries = Object.fromEntries(
  questions.map(({ id, options }) => [
    id,
    v.optional(
      v.picklist(
        options.map((option) => option.id),
        said({ en: "is no answer to this question", zh: "不是这个问题的答案" }),
      ),
    ),
  ]),
);

const schema = v.strictObject({
  format: v.literal(ANSWERS_FORMAT),
  class: v.optional(classSchema),
  student: studentSchema,
  when: v.picklist(["before", "after"]),
  answers: v.strictObject(entries),
});

/** What one student answered once; a question without an answer counts as not right. */
export interface Answers {
  class?: string;
  student: string;
  when: "before" | "after";
  answers: Record<string, string | undefined>;
}

export const writtenAnswers = (given: Answers): string => `${JSON.stringify({ format: ANSWERS_FORMAT, ...given })}\n`;

const faults = {
  en: (what: string) => `it is no file of answers: ${what}`,
  zh: (what: string) => `不是答题文件:${what}`,
};

/** @throws Error with words where it is none */
export function readAnswersFile(content: string, language: Language = "en"): Answers {
  const read = v.safeParse(
    v.pipe(v.string(), v.parseJson(undefined, said({ en: "no JSON", zh: "不是 JSON" })), schema),
    content,
    { lang: language },
  );
  if (read.success) {
    const { format: _, ...answers } = read.output;
    return answers as Answers;
  }
  const [issue] = read.issues;
  throw new Error(
    faults[language](`${(v.getDotPath(issue) ?? "").slice(0, 60)} ${issue.message.slice(0, 160)}`.trim()),
  );
}

/** A question before and after. */
export interface Compared {
  id: string;
  /** Of all files before and after: right answers, and answers. */
  before: { right: number; of: number };
  after: { right: number; of: number };
  /** Students who answered both times: how many learned it, how many lost it. */
  pairs: number;
  learned: number;
  lost: number;
  /** The change of the share of those, paired; NaN of fewer than two. */
  change: number;
  se: number;
}

export interface Comparison {
  before: number;
  after: number;
  pairs: number;
  questions: Compared[];
  /** Right answers of a student, after less before, paired. */
  change: number;
  se: number;
}

const ownerOf = ({ class: group, student }: Answers): string => JSON.stringify([group ?? "", student]);

/** Compares; of a student's files of one time the last counts. */
export function compare(files: readonly Answers[]): Comparison {
  const by = (when: Answers["when"]) =>
    new Map(files.filter((file) => file.when === when).map((file) => [ownerOf(file), file.answers]));
  const [before, after] = [by("before"), by("after")];
  const both = [...before.keys()].filter((owner) => after.has(owner));
  const isRight = (answers: Answers["answers"] | undefined, { id, right }: (typeof questions)[number]) =>
    Number(answers?.[id] === right);
  const count = (all: Map<string, Answers["answers"]>, question: (typeof questions)[number]) => ({
    right: [...all.values()].reduce((sum, answers) => sum + isRight(answers, question), 0),
    of: all.size,
  });
  const changes = both.map((owner) =>
    questions.map((question) => isRight(after.get(owner), question) - isRight(before.get(owner), question)),
  );
  return {
    before: before.size,
    after: after.size,
    pairs: both.length,
    questions: questions.map((question, q) => {
      const own = changes.map((change) => change[q]);
      return {
        id: question.id,
        before: count(before, question),
        after: count(after, question),
        pairs: both.length,
        learned: own.filter((change) => change > 0).length,
        lost: own.filter((change) => change < 0).length,
        ...paired(own),
      };
    }),
    ...paired(changes.map((change) => change.reduce((sum, x) => sum + x, 0))),
  };
}

/** Mean and standard error of changes; where all are alike the error is that of half an answer, not nothing. */
function paired(changes: readonly number[]): { change: number; se: number } {
  const n = changes.length;
  if (n < 2) return { change: Number.NaN, se: Number.NaN };
  const change = changes.reduce((sum, x) => sum + x, 0) / n;
  const variance = changes.reduce((sum, x) => sum + (x - change) ** 2, 0) / (n - 1);
  return { change, se: Math.max(Math.sqrt(variance / n), 0.5 / n) };
}
