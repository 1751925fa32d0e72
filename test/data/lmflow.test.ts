import { describe, expect, it } from "vitest";
import { type DataRecord, type DataSource, type Entry, readEntries, readRecords } from "webrlhf/data";
import { lmflowTypes } from "../../src/data/lmflow.ts";
import { columnsToWrite, containerText, lmflowMarks, writtenTypes } from "../../src/data/lmflow-write.ts";
import { complaint } from "./raw/sources.ts";

const file = (json: unknown, name = "train.json"): DataSource => ({
  name,
  stream: () =>
    new Blob([typeof json === "string" ? json : JSON.stringify(json)]).stream() as ReadableStream<Uint8Array>,
});
const container = (type: string, ...instances: unknown[]) => file({ type, instances });

async function read(...sources: DataSource[]): Promise<DataRecord[]> {
  return (await entries(...sources)).map(({ record }) => record);
}
async function entries(...sources: DataSource[]): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of readEntries(sources)) found.push(entry);
  return found;
}
const says = (role: string, content: string) => ({ role, content });
const talk = (...contents: string[]) => contents.map((text, i) => says(i % 2 === 0 ? "user" : "assistant", text));
const where = (n: number) => `train.json, instance ${n}`;

describe("LMFlow's containers", () => {
  it("text_only and text2text", async () => {
    expect(await read(container("text_only", { text: "a" }, { text: "b", more: 1 }))).toEqual([
      { kind: "text", text: "a", where: where(1) },
      { kind: "text", text: "b", where: where(2) },
    ]);
    expect(await read(container("text2text", { input: "in", output: "out" }))).toEqual([
      { kind: "prompt_completion", prompt: "in", completion: "out", where: where(1) },
    ]);
  });

  it("the type may stand behind the instances", async () => {
    const padding = "x".repeat(500);
    expect(await read(file({ instances: [{ text: padding }], note: padding, type: "text_only" }))).toHaveLength(1);
  });

  it("conversation: everything the assistant says is learned, a last question counts for nothing", async () => {
    const [record] = await read(
      container("conversation", {
        conversation_id: 1,
        system: "Be kind.",
        tools: [],
        messages: talk("a", "b", "c", "d", "e"),
      }),
    );
    expect(record).toMatchObject({ kind: "prompt_completion", prompt: "" });
    const { completion, answers = [] } = record as Extract<DataRecord, { kind: "prompt_completion" }>;
    expect(completion).toBe("Be kind.\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d");
    expect(answers.map(([start, end]) => completion.slice(start, end))).toEqual([" b", " d"]);
    const skipped: string[] = [];
    const bad = [
      { messages: [] },
      { messages: talk("a") },
      { messages: talk("a", "b").reverse() },
      { messages: talk("a", "b") },
    ];
    const options = { onSkip: (place: string) => void skipped.push(place) };
    const kept: DataRecord[] = [];
    for await (const one of readRecords(container("conversation", ...bad), options)) kept.push(one);
    expect(kept).toHaveLength(1);
    expect(skipped).toEqual([where(1), where(2), where(3)]);
  });

  it("pairs", async () => {
    const pair = { prompt: "q", chosen: "good", rejected: "bad", margin: 0.5 };
    expect(await read(container("paired_text_to_text", pair))).toEqual([
      { kind: "preference", ...pair, where: where(1) },
    ]);
    const sides = {
      chosen: { messages: talk("q", "good"), system: "S" },
      rejected: { messages: talk("q", "bad"), system: "S" },
    };
    expect(await read(container("paired_conversation", sides))).toMatchObject([
      { prompt: "S\n\nHuman: q\n\nAssistant:", chosen: " good", rejected: " bad" },
    ]);
  });

  it("several answers: each is one to learn; of scored ones the best against the worst", async () => {
    expect(
      await read(container("text_to_textlist", { input: "q", output: ["a", "b"] }, { input: "r", output: [] })),
    ).toMatchObject([
      { kind: "prompt_completion", prompt: "q", completion: "a" },
      { kind: "prompt_completion", prompt: "q", completion: "b" },
      { kind: "prompt", prompt: "r" },
    ]);
    const scored = (...scores: number[]) => ({
      input: "q",
      output: scores.map((score, i) => ({ score, text: `t${i}` })),
    });
    expect(await read(container("text_to_scored_textlist", scored(1, 3, 0, 3), scored(2, 2), scored(5)))).toMatchObject(
      [{ kind: "preference", prompt: "q", chosen: "t1", rejected: "t2" }],
    );
  });

  it("positive and negative, without a type", async () => {
    const pairs = [
      { positive: "###Human: q###Assistant: good", negative: "###Human: q###Assistant: bad" },
      { positive: "\n\nHuman: q\n\nAssistant: good", negative: "\n\nHuman: q\n\nAssistant: bad" },
      { positive: "The cat sat well.", negative: "The cat swam." },
      { positive: "same", negative: "same" },
    ];
    expect(await read(file({ instances: pairs }))).toMatchObject([
      { prompt: "###Human: q###Assistant:", chosen: " good", rejected: " bad" },
      { prompt: "\n\nHuman: q\n\nAssistant:", chosen: " good", rejected: " bad" },
      { prompt: "The cat ", chosen: "sat well.", rejected: "swam." },
    ]);
  });

  it.each([
    [
      { instances: [{ text: "a" }] },
      /train\.json: there are "instances" but no "type"; it must be one of text_only, text2text/,
    ],
    [{ instances: [] }, /no "type"/],
    [{ type: "text", instances: [] }, /train\.json: unknown type "text"; it must be one of/],
    [{ type: "text_only", instances: {} }, /"instances" must be a list/],
    [{ type: "text_only", instances: [] }, /train\.json: the dataset is empty/],
    [{ type: "text_only", instances: ["a"] }, /instance 1: must be an object, not "a"/],
    [{ type: "text_only", instances: [{ text: 5 }] }, /instance 1: "text" must be a string/],
    [
      { type: "text2text", instances: [{ input: "a", output: "b" }, { input: "a" }] },
      /instance 2: text2text needs input, output; "output" is missing \(found: input\)/,
    ],
    [
      { type: "paired_conversation", instances: [{ chosen: talk("a", "b"), rejected: {} }] },
      /"chosen" must be an object with "messages"/,
    ],
    [
      { type: "text_to_scored_textlist", instances: [{ input: "a", output: [{ score: "1", text: "b" }] }] },
      /output 1 must be \{"score": number/,
    ],
    [{ type: "text_to_textlist", instances: [{ input: "a", output: "b" }] }, /"output" must be a list/],
    [{ type: "float_only", instances: [{ value: 1 }] }, /float_only holds numbers/],
    [{ type: "image_text", instances: [{ images: [], text: "a" }] }, /only text is read/],
  ])("%#: is refused", async (json, message) => {
    expect(await complaint(read(file(json)))).toMatch(message);
  });

  it("several files of one type are one dataset; of two types they are none", async () => {
    const a = container("text_only", { text: "a" });
    const b = file({ type: "text2text", instances: [{ input: "a", output: "b" }] }, "b.json");
    expect(await read(a, container("text_only", { text: "b" }))).toHaveLength(2);
    expect(await complaint(read(a, b))).toMatch(/b\.json is text2text, but train\.json is text_only: .* of one type/);
    expect(await complaint(read(a, file([{ text: "b" }], "c.json")))).toMatch(
      /c\.json is untyped, but train\.json is text_only/,
    );
  });

  it("knows the types there are", () => {
    expect(lmflowTypes).toHaveLength(9);
  });
});

describe("writing containers", () => {
  const pair = {
    kind: "preference",
    prompt: "\n\nHuman: q\n\nAssistant:",
    chosen: " good",
    rejected: " bad",
    margin: 2,
  } as const;
  const entryOf = (record: DataRecord, value: unknown = {}): Entry => ({ record, row: { value, where: "x" } });
  const written = (record: DataRecord, type: (typeof writtenTypes)[number], marks: "keep" | "lmflow" = "keep") =>
    JSON.parse(containerText([entryOf(record)], type, marks)).instances[0];

  it("changes the marks of transcripts", () => {
    expect(lmflowMarks("\n\nHuman: Hi\n\nAssistant: Ho\n\nHumans: x")).toBe(
      "###Human: Hi###Assistant: Ho\n\nHumans: x",
    );
  });

  it("of pairs keeps the chosen answer where one answer is asked for", () => {
    expect(written(pair, "text_only", "lmflow")).toEqual({ text: "###Human: q###Assistant: good" });
    expect(written(pair, "text2text")).toEqual({ input: pair.prompt, output: " good" });
    expect(written(pair, "conversation")).toEqual({ messages: talk("q", "good") });
    expect(written(pair, "paired_conversation")).toEqual({
      chosen: { messages: talk("q", "good") },
      rejected: { messages: talk("q", "bad") },
      margin: 2,
    });
    expect(written(pair, "paired_text_to_text", "lmflow")).toEqual({
      prompt: "###Human: q###Assistant:",
      chosen: " good",
      rejected: " bad",
      margin: 2,
    });
    expect(written({ ...pair, prompt: "q" }, "conversation")).toEqual({ messages: talk("q", "good") });
  });

  it("puts the type into the first characters", () => {
    expect(containerText([entryOf({ kind: "text", text: "x".repeat(300) })], "text_only", "keep")).toMatch(
      /^\{\s*"type": "text_only"/,
    );
  });

  it("reads back what it wrote", async () => {
    for (const type of writtenTypes) {
      const [record] = await read(file(containerText([entryOf(pair)], type, "keep")));
      const text =
        "text" in record
          ? record.text
          : record.prompt + ("chosen" in record ? record.chosen : (record as { completion: string }).completion);
      expect(text).toBe("\n\nHuman: q\n\nAssistant: good");
    }
  });

  it("keeps a pair's margin", async () => {
    for (const type of ["paired_conversation", "paired_text_to_text"] as const) {
      const [record] = await read(file(containerText([entryOf({ ...pair, margin: 0.5 })], type, "keep")));
      expect(record).toMatchObject({ kind: "preference", margin: 0.5 });
    }
  });

  it("says which record has not what a type needs", async () => {
    const prompt: DataRecord = { kind: "prompt", prompt: "q", where: "p.jsonl:3" };
    expect(written(prompt, "text_only")).toEqual({ text: "q" });
    expect(await complaint(() => written(prompt, "text2text"))).toBe(
      "p.jsonl:3: text2text needs an answer, and there is none in it",
    );
    const answer: DataRecord = { kind: "prompt_completion", prompt: "q", completion: "a", where: "p.jsonl:4" };
    expect(await complaint(() => written(answer, "paired_text_to_text"))).toMatch(
      /p\.jsonl:4: paired_text_to_text needs a chosen/,
    );
  });

  it("writes rows of containers so that JSON lines can hold them", async () => {
    const back = async (source: DataSource) => {
      const lines = (await entries(source)).map((entry) => JSON.stringify(columnsToWrite(entry, false))).join("\n");
      return (await read(file(lines, "back.jsonl"))).map(({ where: _, ...record }) => record);
    };
    const plain = async (source: DataSource) => (await read(source)).map(({ where: _, ...record }) => record);
    for (const source of [
      container("text_only", { text: "a" }),
      container("text2text", { input: "a", output: "b" }),
      container("paired_text_to_text", { prompt: "q", chosen: "a", rejected: "b", margin: 1 }),
      container("paired_conversation", {
        chosen: { messages: talk("q", "a") },
        rejected: { messages: talk("q", "b"), system: "" },
      }),
      container("text_to_textlist", { input: "q", output: ["a", "b"] }),
      container("text_to_scored_textlist", {
        input: "q",
        output: [
          { score: 1, text: "a" },
          { score: 0, text: "b" },
        ],
      }),
    ]) {
      expect(await back(source)).toEqual(await plain(source));
    }
    const [{ row }] = await entries(container("conversation", { system: "S", messages: talk("a", "b") }));
    expect(columnsToWrite({ row, record: { kind: "prompt", prompt: "" } }, false)).toEqual({
      messages: [says("system", "S"), ...talk("a", "b")],
    });
    const safe: DataRecord = { ...pair, safety: { chosen: true, rejected: false } };
    expect(columnsToWrite(entryOf(safe), true)).toEqual({
      prompt: pair.prompt,
      chosen: " good",
      rejected: " bad",
      margin: 2,
      chosen_is_safe: true,
      rejected_is_safe: false,
    });
  });
});
