import { describe, expect, it } from "vitest";
import { ARMO_ATTRIBUTES, chosenColumns, ratedRows, readEntries } from "webrlhf/data";
import { helpSteerLabel, helpSteerRaw } from "../../src/data/rated.ts";

const entriesOf = async (rows: readonly unknown[]) => {
  const bytes = new TextEncoder().encode(rows.map((row) => JSON.stringify(row)).join("\n"));
  const source = { name: "rated.jsonl", stream: () => new Blob([bytes]).stream() as ReadableStream<Uint8Array> };
  const entries = [];
  for await (const entry of readEntries([source])) entries.push(entry);
  return entries;
};

describe("rated rows", () => {
  it("take every column of numbers, and nulls as missing", async () => {
    const entries = await entriesOf([
      { prompt: "a", response: " b", kind: 1, note: "x", depth: null },
      { prompt: "c", response: " d", kind: null, note: "y", depth: 0.5 },
    ]);
    const { attributes, rows } = ratedRows(entries, null, "rated.jsonl");
    expect(attributes).toEqual(["kind", "depth"]);
    expect(rows.map(({ ratings }) => ratings)).toEqual([
      [1, Number.NaN],
      [Number.NaN, 0.5],
    ]);
    expect(rows[1]).toMatchObject({ prompt: "c", completion: " d", where: "rated.jsonl:2" });
  });

  it("read conversations, and columns in the order asked for", async () => {
    const messages = [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello" },
    ];
    const { rows } = ratedRows(await entriesOf([{ messages, x: 1, y: 2 }]), ["y", "x"], "rated.jsonl");
    expect(rows[0].ratings).toEqual([2, 1]);
    expect(rows[0].completion).toBe(" Hello");
  });

  it("are refused where they are not what they should be, with the place", async () => {
    const row = { prompt: "a", completion: "b", x: 1 };
    const read = async (rows: readonly unknown[], attributes: string[] | null = ["x"]) =>
      ratedRows(await entriesOf(rows), attributes, "rated.jsonl");
    await expect(read([row], ["z"])).rejects.toThrow(
      /rated.jsonl: no row has the column "z" \(found: prompt, completion, x\)/,
    );
    await expect(read([row], ["x", "x"])).rejects.toThrow(/named twice/);
    await expect(read([row, { ...row, x: "2" }])).rejects.toThrow(/rated.jsonl:2: "x" must be a number.*"2"/);
    await expect(read([{ prompt: "a", completion: "b" }], null)).rejects.toThrow(/no column of numbers/);
    await expect(read([{ prompt: "a", x: 1 }])).rejects.toThrow(
      /rated.jsonl:1: a rated row needs a prompt and an answer/,
    );
    expect(() => chosenColumns([{ ratings: [1] }], ["x"], ["y"])).toThrow(/no attribute "y"; there are x/);
  });

  it("know ArmoRM's columns and HelpSteer's scale", () => {
    expect(ARMO_ATTRIBUTES).toHaveLength(19);
    expect(ARMO_ATTRIBUTES[4]).toBe("helpsteer-verbosity");
    expect([0, 4].map(helpSteerLabel)).toEqual([0.1, 0.9]);
    expect(helpSteerRaw(helpSteerLabel(3))).toBeCloseTo(3, 12);
  });
});
