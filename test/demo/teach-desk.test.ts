/** The teacher's desk in a browser: files of a whole class dropped in, read as text, and nothing broken in any look. */
import { readFile } from "node:fs/promises";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import deck from "../../demo/src/lessons/labeller/deck.json" with { type: "json" };
import { namesFriend } from "../../demo/src/lessons/labeller/rules.ts";
import { lesson as sft } from "../../demo/src/lessons/sft/lesson.ts";
import recordings from "../../demo/src/lessons/sft/recordings.json" with { type: "json" };
import { resultOf } from "../../demo/src/lib/lesson/result.ts";
import type { Json, LessonEvent } from "../../demo/src/lib/lesson/types.ts";
import { readAnswersFile, writtenAnswers } from "../../demo/src/teach/answer-file.ts";
import { questions } from "../../demo/src/teach/questions.ts";
import { type BuiltPage, builtPage, hasBrowser } from "./built-page.ts";
import { everyLook, faults } from "./looks.ts";

const file = (name: string, text: string) => ({ name, mimeType: "text/plain", buffer: Buffer.from(text) });

/** Twelve students who label by a friend, each wrong on pairs of their own, and a file that is broken on its second line. */
const labels = [
  ...Array.from({ length: 12 }, (_, student) =>
    file(
      `labels-3b-${student + 1}.jsonl`,
      deck
        .slice(0, 20)
        .map(({ prompt, left, right }, pair) => {
          const first = namesFriend(left) !== ((Math.imul(pair + 1, (student + 3) * 0x9e3779b1) >>> 0) % 5 === 0);
          const label = { prompt, chosen: first ? left : right, rejected: first ? right : left };
          return JSON.stringify(pair % 6 === 0 ? { ...label, again: [student % 3 > 0] } : label);
        })
        .join("\n"),
    ),
  ),
  file("broken.jsonl", '{"prompt":"a","chosen":"b","rejected":"c"}\n{oops'),
];

const runs = recordings as unknown as { input: Record<string, Json>; events: LessonEvent[] }[];
const results = runs.flatMap(({ input, events }, i) =>
  [1, 2].map((k) => {
    const seed = 10 * i + k;
    const run = { address: { size: "S" as const, seed, asked: {} }, input: { ...input, seed } };
    const who = { class: "3b", student: `${i}${k}` };
    return file(`r${seed}.json`, JSON.stringify(resultOf(sft, run, events, () => "same", who)));
  }),
);

const answers = Array.from({ length: 6 }, (_, student) =>
  (["before", "after"] as const).map((when) =>
    file(
      `a${student}${when}.json`,
      writtenAnswers({
        class: "3b",
        student: String(student),
        when,
        answers: Object.fromEntries(
          questions.map(({ id, right, options }, q) => [id, when === "after" || q < student ? right : options[0].id]),
        ),
      }),
    ),
  ),
).flat();

describe.skipIf(!hasBrowser)("the teacher's desk in a browser", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 600_000);
  afterAll(() => built?.close());

  const give = (page: Page, name: string, files: typeof labels) =>
    page.getByRole("button", { name, exact: true }).setInputFiles(files);

  it("reads the files of a class, trains its judge without a GPU, and is whole in every look", async () => {
    const { page, errors } = await built.open([], "teach/");
    await page.setViewportSize({ width: 1280, height: 900 });
    expect(await faults(page, [{ width: 320, colours: "light" }])).toEqual([]);
    await give(page, "Files of results", results);
    await give(page, "Files of labels, or saved runs", labels);
    await give(page, "Files of answers", answers);

    await page.locator("[data-matrix='12']").waitFor();
    await page.getByText("broken.jsonl: Line 2 is no JSON").waitFor();
    await page.getByText("12 students, 240 labels on 20 pairs.").waitFor();
    const cell = page.locator("[data-matrix='12'] tbody tr").nth(0).locator("td").nth(1);
    expect(await cell.innerText()).toMatch(/^\d\.\d\d \(20\)$/);
    const votes = page.locator("[data-votes='12'] tbody tr").nth(0);
    expect(await votes.innerText()).toMatch(/^3b-1\s+([AB]\s*){20}$/);
    expect(await page.locator("[data-board='8'] tbody tr").count()).toBe(8);
    expect(await page.locator("[data-compared='6'] tbody tr").count()).toBe(8);
    await page.getByText("The class knows more than before.").waitFor();

    await page.getByRole("button", { name: "Train a judge of the class" }).press("Enter");
    const judge = page.locator("[data-class-judge]");
    await judge.waitFor({ timeout: 120_000 });
    expect(Number(await judge.getAttribute("data-class-judge"))).toBeGreaterThan(0.5);
    await page.getByText(/The judge .* the class's own majority/).waitFor();
    // The regions that scroll are reached by keys.
    for (const name of ["Who labelled", "Who decides like whom", "Who decided which pair how"]) {
      expect(await page.getByRole("region", { name }).getAttribute("tabindex")).toBe("0");
    }
    await page.evaluate(() => {
      for (const details of document.querySelectorAll("main details")) details.setAttribute("open", "");
    });
    expect(await faults(page, everyLook)).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("has the plan and the answers of all lessons, folded until they are printed", async () => {
    const { page, errors } = await built.open([], "zh/teach/plan/");
    const answers = page.locator("details[data-answers]");
    expect(await answers.count()).toBe(9);
    expect(await answers.first().getAttribute("open")).toBeNull();
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    expect(await page.locator("details[data-answers][open]").count()).toBe(9);
    expect(
      await faults(page, [
        { width: 320, colours: "light" },
        { width: 1280, colours: "dark" },
      ]),
    ).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("has questions that a student answers by keys and saves, and tells what was right only after the lessons", async () => {
    const { page, errors } = await built.open([], "teach/questions/#class=3b");
    await page.getByLabel("Your number or name in class").fill("7");
    for (const { id } of questions) await page.locator(`input[name="${id}"]`).first().check();
    const save = async () => {
      const [download] = await Promise.all([
        page.waitForEvent("download"),
        page.getByRole("button", { name: "Save my answers" }).press("Enter"),
      ]);
      return { name: download.suggestedFilename(), text: await readFile(await download.path(), "utf8") };
    };
    const before = await save();
    expect(before.name).toBe("answers-before-3b-7.json");
    expect(readAnswersFile(before.text)).toMatchObject({ class: "3b", student: "7", when: "before" });
    expect(await page.locator("[data-told]").count()).toBe(0);
    await page.getByLabel("After the lessons").check();
    const after = readAnswersFile((await save()).text);
    expect(after.when).toBe("after");
    const right = questions.filter(({ id, right }) => after.answers[id] === right).length;
    expect(await page.locator("[data-told=true]").count()).toBe(right);
    await page.getByText(`${right} of 8 right.`).waitFor();
    expect(
      await faults(page, [
        { width: 320, colours: "light" },
        { width: 1280, colours: "dark" },
      ]),
    ).toEqual([]);
    expect(errors).toEqual([]);
  });
});
