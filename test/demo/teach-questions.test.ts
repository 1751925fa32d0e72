/** Questions before and after, the files of their answers, and the answers to the lessons. */
import fs from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { languages } from "../../demo/src/lib/language.ts";
import type { Lesson, Recording } from "../../demo/src/lib/lesson/types.ts";
import { type Answers, compare, readAnswersFile, writtenAnswers } from "../../demo/src/teach/answer-file.ts";
import { answersOf } from "../../demo/src/teach/answers.ts";
import { questions } from "../../demo/src/teach/questions.ts";

const lessons = new URL("../../demo/src/lessons/", import.meta.url);
const wrongOf = (id: string) => {
  const question = questions.find((q) => q.id === id) as (typeof questions)[number];
  return question.options.find((option) => option.id !== question.right)?.id;
};
/** Answers of which these are right and the others wrong. */
const made = (student: string, when: Answers["when"], right: readonly string[], group?: string): Answers => ({
  ...(group && { class: group }),
  student,
  when,
  answers: Object.fromEntries(questions.map((q) => [q.id, right.includes(q.id) ? q.right : wrongOf(q.id)])),
});

describe("the eight questions", () => {
  it("have one right answer each, in both languages, and a lesson that exists", async () => {
    const slugs = (await fs.readdir(lessons, { withFileTypes: true }))
      .filter((e) => e.isDirectory())
      .map((e) => e.name);
    expect(new Set(questions.map(({ id }) => id)).size).toBe(8);
    for (const { options, right, lesson, asks, why } of questions) {
      expect(options.filter(({ id }) => id === right)).toHaveLength(1);
      expect(new Set(options.map(({ id }) => id)).size).toBe(options.length);
      expect(options.length).toBeGreaterThanOrEqual(3);
      if (lesson) expect(slugs).toContain(lesson);
      for (const language of languages) {
        const texts = [asks, why, ...options.map(({ text }) => text)].map((text) => text[language]);
        for (const text of texts) expect(text.trim()).not.toBe("");
        expect(new Set(options.map(({ text }) => text[language])).size).toBe(options.length);
      }
    }
    // Who always ticks the same place learns nothing from it.
    const places = questions.map(({ options, right }) => options.findIndex(({ id }) => id === right));
    for (let place = 0; place < 4; place++) expect(places.filter((p) => p === place).length).toBeLessThan(6);
  });

  it("cannot be answered by taking the longest option, or the first", () => {
    for (const language of languages) {
      const longest = questions.filter(({ options, right }) => {
        const length = (id: string) => options.find((o) => o.id === id)?.text[language].length ?? 0;
        return options.every(({ id }) => length(id) <= length(right));
      });
      expect(longest.length).toBeLessThanOrEqual(2);
    }
    expect(questions.filter(({ options, right }) => options[0].id === right).length).toBeLessThanOrEqual(2);
  });
});

describe("a file of answers", () => {
  it("is read back as it was written", () => {
    const given = made("7", "before", ["model", "noise"], "3b");
    expect(readAnswersFile(writtenAnswers(given))).toEqual(given);
    const open = { ...given, answers: { model: "word" } };
    expect(readAnswersFile(writtenAnswers(open))).toEqual(open);
  });

  it("is refused with words where it is none", () => {
    const good = JSON.parse(writtenAnswers(made("7", "before", [])));
    const bad: [unknown, RegExp][] = [
      [{ ...good, format: "webrlhf answers 9" }, /format/],
      [{ ...good, when: "later" }, /when/],
      [{ ...good, student: "<b>" }, /student/],
      [{ ...good, answers: { ...good.answers, model: "toString" } }, /answers\.model/],
      [{ ...good, answers: { ...good.answers, more: "a" } }, /more/],
      [{ ...good, more: 1 }, /more/],
    ];
    for (const [content, words] of bad) expect(() => readAnswersFile(JSON.stringify(content))).toThrow(words);
    expect(() => readAnswersFile("{")).toThrow(/no JSON/);
    expect(() => readAnswersFile("{", "zh")).toThrow(/不是答题文件/);
  });
});

describe("before and after", () => {
  it("compares students with themselves, question by question", () => {
    const files = [
      made("1", "before", []),
      made("1", "after", ["model", "noise"]),
      made("2", "before", ["model"]),
      made("2", "after", ["model", "noise"]),
      made("3", "before", ["noise"]),
      made("3", "after", ["model"]),
      made("4", "before", ["model"]), // never came back
      made("5", "after", []),
      made("2", "before", ["model", "taste"]), // the last of one time counts
    ];
    const { before, after, pairs, questions: told, change, se } = compare(files);
    expect([before, after, pairs]).toEqual([4, 4, 3]);
    const model = told.find(({ id }) => id === "model");
    expect(model).toMatchObject({ before: { right: 2, of: 4 }, after: { right: 3, of: 4 }, learned: 2, lost: 0 });
    expect(model?.change).toBeCloseTo(2 / 3, 12);
    expect(model?.se).toBeCloseTo(Math.sqrt((2 / 3 - 4 / 9 + 0) / 2), 12);
    expect(told.find(({ id }) => id === "noise")).toMatchObject({ learned: 2, lost: 1 });
    // Two more, none, none: 2 − 0, 2 − 2, 1 − 1.
    expect(change).toBeCloseTo(2 / 3, 12);
    expect(se).toBeCloseTo(Math.sqrt(4 / 3 / 3), 12);
  });

  it("keeps classes apart, is not sure of nothing, and says so of too few", () => {
    expect(compare([made("1", "before", [], "a"), made("1", "after", [], "b")]).pairs).toBe(0);
    const one = compare([made("1", "before", []), made("1", "after", ["model"])]);
    expect(one.change).toBeNaN();
    const all = ["1", "2", "3", "4"].flatMap((student) => [
      made(student, "before", []),
      made(student, "after", ["model"]),
    ]);
    const model = compare(all).questions.find(({ id }) => id === "model");
    expect(model).toMatchObject({ change: 1, se: 0.125 });
  });
});

describe("the answers to the lessons", () => {
  it.each(["sft", "over-optimisation", "dpo", "labeller"])("of %s say what its recorded runs say", async (slug) => {
    const { lesson }: { lesson: Lesson } = await import(new URL(`${slug}/lesson.ts`, lessons).pathname);
    const recordings: Recording[] = JSON.parse(await fs.readFile(new URL(`${slug}/recordings.json`, lessons), "utf8"));
    const table = `| ${lesson.checks[0].claim.en} | 9 of 10 | 0 of 10 |\n`;
    for (const language of languages) {
      const answers = answersOf(lesson, recordings, table, language);
      expect(answers.checks.map(({ holds }) => holds)).toEqual(lesson.checks.map(() => true));
      expect(answers.checks[0].seeds).toEqual({ own: "9 / 10", wrong: "0 / 10" });
      for (const { says } of answers.checks) expect(says).toMatch(/\d/);
      for (const [i, prediction] of lesson.predictions.entries()) {
        const { runs } = answers.predictions[i];
        expect(runs).toHaveLength(recordings.length);
        for (const [k, { came }] of runs.entries()) {
          const outcome = prediction.outcome(recordings[k].events);
          if (outcome === null) expect(came).toBeNull();
          else if (typeof outcome === "string") expect(came).toMatch(/\S/);
          else if (outcome.length > 0) {
            const most = Math.max(...outcome.map(([, y]) => y));
            expect(came).toMatchObject({ most: most.toFixed(2), last: outcome[outcome.length - 1][1].toFixed(2) });
          }
        }
      }
    }
  });
});
