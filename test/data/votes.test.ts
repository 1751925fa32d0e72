/** What people said of pairs, as rows and figures; and pairs out of files. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readRecords } from "webrlhf/data";
import { readComparedPairs } from "../../src/data/compared.ts";
import {
  majority,
  namesOf,
  type PersonsVote,
  preferenceLines,
  type VotedPair,
  voteFigures,
  voteLines,
} from "../../src/data/votes.ts";

const vote = (who: string, better: PersonsVote["better"], first: 0 | 1 = 0, name = who): PersonsVote => ({
  ...{ who, name, better, first, seconds: 1.26 },
});
const voted = (prompt: VotedPair["pair"]["prompt"], ...votes: PersonsVote[]): VotedPair => ({
  pair: { prompt, answers: ["a", "b"] },
  votes,
});
const chat = [{ role: "user", content: "Hi" }];

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-votes-"));
});
afterAll(() => rm(dir, { recursive: true }));
const file = async (name: string, ...rows: object[]): Promise<string> => {
  const path = join(dir, name);
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return path;
};

describe("votes", () => {
  it("decide by majority, where there is one", () => {
    expect(majority([])).toBeNull();
    expect(majority([vote("x", 1), vote("y", null)])).toBe(1);
    expect(majority([vote("x", 1), vote("y", 0)])).toBeNull();
    expect(majority([vote("x", 1), vote("y", 0), vote("z", 0)])).toBe(0);
    expect(majority([vote("x", null)])).toBeNull();
  });

  it("become rows that trainers read, with who said what; two of one name stay two", async () => {
    const pairs = [
      voted("p", vote("1", 1, 0, "Ann"), vote("2", 0, 0, "Ann"), vote("3", 1, 1, "")),
      voted(chat, vote("1", 0, 0, "Ann"), vote("3", null)),
      voted("q", vote("1", 0), vote("2", 1)),
      voted("r"),
    ];
    const names = namesOf(pairs);
    expect([...names]).toEqual([
      ["1", "Ann"],
      ["2", "Ann (2)"],
      ["3", "somebody"],
    ]);
    const rows = preferenceLines(pairs, names)
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(rows[0]).toEqual({
      prompt: "p",
      chosen: "b",
      rejected: "a",
      votes: [
        { labeller: "Ann", said: "chosen", seconds: 1.3 },
        { labeller: "Ann (2)", said: "rejected", seconds: 1.3 },
        { labeller: "somebody", said: "chosen", seconds: 1.3 },
      ],
    });
    expect(rows[1]).toMatchObject({ prompt: chat, chosen: [{ role: "assistant", content: "a" }] });
    expect(rows).toHaveLength(2);
    const all = voteLines(pairs, names)
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(all.map(({ labeller, chosen }) => [labeller, chosen])).toEqual([
      ["Ann", "b"],
      ["Ann (2)", "a"],
      ["somebody", "b"],
      ["Ann", [{ role: "assistant", content: "a" }]],
      ["Ann", "a"],
      ["Ann (2)", "b"],
    ]);
    for (const [text, kept] of [
      [rows.slice(0, 1), 1],
      [all.slice(0, 3), 3],
    ] as const) {
      const records = [];
      for await (const record of readRecords(await file(`rows-${kept}.jsonl`, ...text))) records.push(record);
      expect(records).toHaveLength(kept);
      expect(records[0]).toMatchObject({ kind: "preference", prompt: "p", chosen: "b", rejected: "a" });
    }
  });

  it("come to figures", () => {
    const pairs = [
      voted("p", vote("1", 1, 1), vote("2", 1, 0), vote("3", 0, 0)),
      voted("q", vote("1", 0, 0), vote("2", 0, 1), vote("3", null)),
      voted("r", vote("1", null)),
      voted("s"),
    ];
    expect(voteFigures(pairs)).toEqual({
      ...{ votes: 7, people: 3, none: 2, decided: 2, undecided: 1 },
      ...{ agreement: 2 / 4, comparisons: 4, kappa: 0, firstPlace: 3 / 5 },
    });
    expect(voteFigures([voted("s")])).toMatchObject({ agreement: Number.NaN, firstPlace: Number.NaN });
  });
});

describe("pairs to compare", () => {
  it("are every two responses of a row, or a row's preference; equal ones are left out", async () => {
    const responses = await file(
      "responses.jsonl",
      { prompt: "p", responses: ["a", "b", "c"] },
      { prompt: chat, responses: ["d", "d ", "e"] },
      { prompt: "q", responses: ["alone"] },
    );
    expect(await readComparedPairs([responses])).toEqual({
      pairs: [
        { prompt: "p", answers: ["a", "b"] },
        { prompt: "p", answers: ["a", "c"] },
        { prompt: "p", answers: ["b", "c"] },
        { prompt: chat, answers: ["d", "e"] },
        { prompt: chat, answers: ["d ", "e"] },
      ],
      same: 1,
    });
    const say = (content: string) => [{ role: "assistant", content }];
    const plain = await file("plain.jsonl", { prompt: "p", chosen: " x", rejected: " y" });
    const spoken = await file("spoken.jsonl", { prompt: chat, chosen: say("x"), rejected: say("y") });
    const whole = await file("whole.jsonl", { chosen: [...chat, ...say("x")], rejected: [...chat, ...say("y")] });
    expect((await readComparedPairs([plain, spoken, whole])).pairs).toEqual([
      { prompt: "p", answers: [" x", " y"] },
      { prompt: chat, answers: ["x", "y"] },
      { prompt: chat, answers: ["x", "y"] },
    ]);
    expect((await readComparedPairs([responses, plain], 2)).pairs).toHaveLength(2);
  });

  it("are missed where there are none", async () => {
    const none = await file("none.jsonl", { prompt: "p", responses: ["a"] });
    await expect(readComparedPairs([none])).rejects.toThrow(/none\.jsonl: no row has two answers/);
    const same = await file("same.jsonl", { prompt: "p", responses: ["a", "a"] });
    await expect(readComparedPairs([same])).rejects.toThrow(/all 1 pairs have two equal answers/);
    const other = await file("other.jsonl", { text: "hello" });
    await expect(readComparedPairs([other])).rejects.toThrow(/other\.jsonl/);
  });
});
