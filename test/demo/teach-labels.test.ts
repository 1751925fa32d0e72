/** Labels of a class: read with suspicion, pooled, and how far the class agrees. */
import { describe, expect, it } from "vitest";
import { memoryFiles, zipFiles } from "webrlhf";
import { agreementMatrix } from "webrlhf/data";
import { type Answer, consistency, labelsOf, toGivenLines } from "../../demo/src/lib/labels.ts";
import {
  agreementsOf,
  beyondChance,
  classAgreement,
  jackknife,
  pairsOf,
  shareOf,
  steadiness,
} from "../../demo/src/teach/pool.ts";
import { emptyRoll, enrol, MOST_PUPILS, type Pupil, pupilOf, readPupils } from "../../demo/src/teach/pupils.ts";
import type { Given } from "../../demo/src/teach/read.ts";
import { toZip } from "../../src/worker/snapshot.ts";

const answer = (pair: number, choice: Answer["choice"], swapped = false): Answer => ({
  prompt: `wish ${pair}`,
  left: `${pair} ${swapped ? "two" : "one"}`,
  right: `${pair} ${swapped ? "one" : "two"}`,
  choice,
});
const file = (name: string, content: string): Given => ({ name, size: content.length, text: async () => content });
/** A student who decides pair after pair: "a" for the first story. */
const pupil = (name: string, votes: string): Pupil =>
  pupilOf(
    name,
    labelsOf([...votes].flatMap((vote, i) => (vote === "." ? [] : [answer(i, vote === "a" ? "left" : "right")]))),
  );

describe("a student's file of labels", () => {
  it("says what was decided, and how often it was decided so again", async () => {
    const answers = [
      answer(1, "left"),
      answer(2, "right"),
      answer(3, "none"),
      answer(1, "right", true),
      answer(2, "left"),
    ];
    const { taken, refused } = await readPupils([file("labels-3b-7.jsonl", toGivenLines(answers))]);
    expect(refused).toEqual([]);
    expect(taken).toEqual([{ name: "3b-7", labels: labelsOf(answers), again: { same: 1, of: 2 } }]);
    expect(taken[0].again).toEqual(consistency(answers));
  });

  it("may hold a pair twice, as others' files do", async () => {
    const lines = [
      { prompt: "p", chosen: "a", rejected: "b" },
      { prompt: "p", chosen: "b", rejected: "a", margin: 3 },
      { prompt: "p", chosen: "a", rejected: "b" },
    ];
    const { taken } = await readPupils([file("ann.json", lines.map((line) => JSON.stringify(line)).join("\n"))]);
    expect(taken[0]).toMatchObject({ name: "ann", labels: [lines[0]], again: { same: 1, of: 2 } });
  });

  it("may be a whole class's, whose lines say who labelled, in text or in messages", async () => {
    const say = (content: string) => [{ role: "assistant", content }];
    const lines = [
      { prompt: "p", chosen: "a", rejected: "b", labeller: "Ann", seconds: 3 },
      { prompt: "p", chosen: "b", rejected: "a", labeller: "Ben", seconds: 4 },
      { prompt: [{ role: "user", content: "q" }], chosen: say("c"), rejected: say("d"), labeller: "Ann" },
    ];
    const { taken, refused } = await readPupils([
      file("votes.jsonl", lines.map((line) => JSON.stringify(line)).join("\n")),
    ]);
    expect(refused).toEqual([]);
    const again = { same: 0, of: 0 };
    expect(taken).toEqual([
      {
        ...{ name: "Ann", again },
        labels: [
          { prompt: "p", chosen: "a", rejected: "b" },
          { prompt: "q", chosen: "c", rejected: "d" },
        ],
      },
      { name: "Ben", again, labels: [{ prompt: "p", chosen: "b", rejected: "a" }] },
    ]);
    const broken = { prompt: [{ role: "user" }], chosen: "a", rejected: "b" };
    const wrong = await readPupils([file("wrong.jsonl", JSON.stringify(broken))]);
    expect(wrong.refused).toHaveLength(1);
  });

  it("may be a saved run, which says it in its input or in a file of labels", async () => {
    const labels = labelsOf([answer(1, "left"), answer(2, "right")]);
    const spec = { program: "labeller", input: { input: { labeller: "own", labels }, address: {} } };
    const zips = [
      await toZip({ spec, events: [], contents: new Map(), done: true }),
      await toZip({
        spec: { program: "labeller", input: null },
        events: [],
        contents: new Map([["run/labels.jsonl", new TextEncoder().encode(toGivenLines([answer(5, "left")]))]]),
        done: true,
      }),
      await toZip({ spec: { program: "sft", input: { input: {} } }, events: [], contents: new Map(), done: true }),
    ];
    const files = zips.map((blob, i) => new File([blob], `run-${"abc"[i]}.zip`));
    const { taken, refused } = await readPupils(files);
    expect(taken.map(({ name, labels }) => [name, labels])).toEqual([
      ["a", labels],
      ["b", labelsOf([answer(5, "left")])],
    ]);
    expect(refused).toEqual([{ file: "run-c.zip", why: expect.stringMatching(/no labels in it/) }]);
  });

  it("is refused by its name and line, and the others count", async () => {
    const good = toGivenLines([answer(1, "left")]);
    const large = memoryFiles();
    await large.writeFile("labels.jsonl", "x".repeat(2_000_001));
    const many = Array.from({ length: 1001 }, (_, i) => answer(i, "left"));
    const bad: Given[] = [
      file("line.jsonl", `${good}{"prompt":"p","chosen":"a"}\n`),
      file("json.jsonl", `${good}{`),
      file("empty.jsonl", "\n"),
      file("many.jsonl", toGivenLines(many)),
      { ...file("huge.jsonl", ""), size: 1e9 },
      new File(["no zip"], "no.zip"),
      new File([await zipFiles(large, ["labels.jsonl"])], "large.zip"),
      file("again.jsonl", good.replace("}", `,"again":[${Array(101).fill("true")}]}`)),
    ];
    const { taken, refused } = await readPupils([bad[0], file("good.jsonl", good), ...bad.slice(1)]);
    expect(taken.map(({ name }) => name)).toEqual(["good"]);
    expect(refused.map(({ file }) => file)).toEqual(bad.map(({ name }) => name));
    const why = [
      /Line 2 .*rejected/,
      /Line 2 is no JSON/,
      /no labels/,
      /1000 labels/,
      /larger/,
      /zip/,
      /2 MB/,
      /again/,
    ];
    for (const [i, words] of why.entries()) expect(refused[i].why).toMatch(words);
    const [inChinese] = (await readPupils([bad[0]], "zh")).refused;
    expect(inChinese.why).toMatch(/第 2 行不是标签/);
  });
});

describe("a class's roll", () => {
  it("counts each student once, and nameless files each for themselves", () => {
    const first = enrol(emptyRoll, [pupil("labels", "aab"), pupil("labels (1)", "bbb"), pupil("7", "abb")]);
    expect(first.pupils.map(({ name }) => name)).toEqual(["labels", "labels (1)", "7"]);
    const then = enrol(first, [pupil("labels", "aaa"), pupil("7", "aaa."), pupil("7", "bab"), pupil("8", "bbb")]);
    // "7" gave what "labels" gives, too: what is the same is counted once, whoever gives it.
    expect(then.pupils.map(({ name }) => name)).toEqual(["labels", "labels (1)", "7", "labels (2)"]);
    expect([then.same, then.replaced]).toEqual([2, ["7"]]);
    expect(then.pupils[2].labels).toEqual(pupil("7", "bab").labels);
  });

  it("has an end", () => {
    const crowd = Array.from({ length: MOST_PUPILS + 2 }, (_, i) => pupil(`s${i}`, `${"a".repeat(i + 1)}`));
    const { pupils, refused } = enrol(emptyRoll, crowd);
    expect(pupils).toHaveLength(MOST_PUPILS);
    expect(refused.map(({ file }) => file)).toEqual([`s${MOST_PUPILS}`, `s${MOST_PUPILS + 1}`]);
  });
});

describe("a class's labels", () => {
  const votes = ["aabba.ab", "aab.babb", "bbaab.ab", "........", "......b."];
  const pupils = votes.map((own, i) => pupil(`s${i}`, own));
  const pairs = pairsOf(pupils);
  const matrix = agreementsOf(pairs, pupils.length);

  it("agree as the library counts it", () => {
    const rows = votes.map((own) => [...own].map((vote) => (vote === "." ? null : vote)));
    const { counts, agreement } = agreementMatrix(rows);
    for (let i = 0; i < votes.length; i++) {
      for (let k = 0; k < votes.length; k++) {
        if (i === k) continue;
        expect(matrix[i][k].of).toBe(counts[i][k]);
        if (counts[i][k] > 0) expect(matrix[i][k].same / matrix[i][k].of).toBeCloseTo(agreement[i][k], 12);
      }
    }
  });

  it("say of each pair who took which story, whatever side it lay on", () => {
    expect(pairs.map(({ forA, forB }) => forA + forB)).toEqual([4, 3, 3, 3, 3, 3, 2, 1]);
    const six = pairs.find(({ prompt }) => prompt === "wish 6");
    expect(six).toMatchObject({ a: "6 one", b: "6 two", forA: 2, forB: 2, votes: ["a", "b", "a", undefined, "b"] });
  });

  it("agree over all comparisons, with a jackknife over those who compare", () => {
    const { same, of, share, se } = classAgreement(matrix);
    let [alike, all] = [0, 0];
    for (let k = 0; k < 8; k++) {
      for (let i = 0; i < 5; i++) {
        for (let j = 0; j < i; j++) {
          if (votes[i][k] === "." || votes[j][k] === ".") continue;
          all++;
          if (votes[i][k] === votes[j][k]) alike++;
        }
      }
    }
    expect([same, of, share]).toEqual([alike, all, alike / all]);
    expect(se).toBeGreaterThan(0);
    expect(classAgreement(agreementsOf(pairsOf(pupils.slice(0, 2)), 2)).se).toBeNaN();
    // Of a mean the jackknife is the usual standard error.
    const values = [1, 2, 4, 8];
    const without = values.map((_, i) => values.filter((_, k) => k !== i).reduce((a, b) => a + b) / 3);
    const mean = 15 / 4;
    expect(jackknife(without)).toBeCloseTo(Math.sqrt(values.reduce((s, x) => s + (x - mean) ** 2, 0) / 12), 12);
  });

  it("agree by lot as coins do: nothing beyond chance, whatever the names of the sides", () => {
    let state = 7;
    const coin = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 31 === 0 ? "a" : "b";
    };
    const crowd = Array.from({ length: 30 }, (_, i) => pupil(`s${i}`, Array.from({ length: 40 }, coin).join("")));
    const { share, se } = classAgreement(agreementsOf(pairsOf(crowd), 30));
    expect(Math.abs(beyondChance(share))).toBeLessThan(4 * se);
    expect(beyondChance(0.5)).toBe(0);
    expect(beyondChance(1)).toBe(1);
  });

  it("have errors also where all agree", () => {
    expect(shareOf({ same: 10, of: 10 })).toEqual({ share: 1, se: 0.05 });
    expect(shareOf({ same: 14, of: 20 }).se).toBeCloseTo(Math.sqrt((0.7 * 0.3) / 20), 12);
    expect(
      steadiness([
        { ...pupils[0], again: { same: 2, of: 3 } },
        { ...pupils[1], again: { same: 1, of: 1 } },
      ]),
    ).toEqual({
      same: 3,
      of: 4,
    });
  });
});
