import { describe, expect, it } from "vitest";
import { allDatasets, consume, findDataset, loadSamples, type RawSample, registerDataset } from "webrlhf/data";
import { complaint, given, jsonl } from "./sources.ts";

describe("the registry", () => {
  it("knows a dataset of one's own after a few lines", async () => {
    registerDataset({
      name: "test/own",
      aliases: ["test/mine"],
      source: { repo: "me/own", split: "train" },
      sample: (row) => ({
        input: String(row.q),
        answer: String(row.good),
        other_answer: String(row.bad),
        better: true,
      }),
    });
    const samples = await loadSamples("test/mine", given({ q: "Why?", good: "Because.", bad: "No." }));
    expect(samples).toEqual([
      { input: "Why?", answer: "Because.", other_answer: "No.", better: true, where: "test/own: rows.jsonl:1" },
    ]);
    expect(allDatasets().filter(({ name }) => name === "test/own")).toHaveLength(1);
  });

  it("takes samples without a file, and several of a row", async () => {
    registerDataset({ name: "test/items", items: () => [{ input: "a" }, { input: "b" }] });
    expect(await loadSamples("test/items")).toEqual([
      { input: "a", where: "sample 1" },
      { input: "b", where: "sample 2" },
    ]);
    registerDataset({
      name: "test/several",
      source: { repo: "x/y", split: "train" },
      sample: (row) =>
        row.n === 0 ? { skip: "empty" } : Array.from({ length: Number(row.n) }, () => ({ input: "x" })),
    });
    const options = given({ n: 2 }, { n: 0 }, { n: 1 });
    expect(await loadSamples("test/several", options)).toHaveLength(3);
    expect(options.skipped).toEqual(["empty"]);
  });

  it("reads the file that a path names instead of the published one", async () => {
    const asked: string[] = [];
    const locate = async (source: { repo: string; split: string }) => {
      asked.push(`${source.repo} ${source.split}`);
      return [jsonl("rows.jsonl", [{ instruction: "Say", input: "it", output: "It." }])];
    };
    await loadSamples("alpaca", { locate });
    await loadSamples("stanford-alpaca", { locate, path: "here/alpaca.json" });
    expect(asked).toEqual(["tatsu-lab/alpaca train", "here/alpaca.json train"]);
  });

  it("refuses names that are taken, or that no mixture could name", async () => {
    const own = { items: () => [] };
    expect(await complaint(() => registerDataset({ name: "alpaca", ...own }))).toMatch(/"alpaca" already/);
    expect(await complaint(() => registerDataset({ name: "test/z", aliases: ["Orca"], ...own }))).toMatch(
      /"Orca" already/,
    );
    expect(findDataset("test/z")).toBeUndefined();
    for (const name of ["a b", "a:b", "a,b", ""]) {
      expect(await complaint(() => registerDataset({ name, ...own }))).toMatch(
        /must not have spaces, colons or commas/,
      );
    }
    expect(await complaint(loadSamples("test/nobody"))).toMatch(/no dataset called "test\/nobody"/);
  });

  it("names the row that lacks a column", async () => {
    expect(
      await complaint(loadSamples("alpaca", given({ instruction: "a", input: "", output: "b" }, { input: "x" }))),
    ).toBe('alpaca: rows.jsonl:2: column "instruction" is missing (found: input)');
    expect(await complaint(loadSamples("alpaca", given()))).toBe("alpaca: the dataset is empty");
    expect(await complaint(loadSamples("alpaca", given("text")))).toMatch(
      /alpaca: rows.jsonl:1: a row must be an object/,
    );
  });
});

describe("the consumers", () => {
  const pair: RawSample = {
    input: ["Hi", "Hello!", "How are you?"],
    answer: "Fine.",
    other_answer: "Bad.",
    better: false,
    safer: true,
    is_safe: true,
    is_other_safe: false,
    where: "f.jsonl:7",
  };
  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });
  const prompt = [user("Hi"), assistant("Hello!"), user("How are you?")];
  const value = (sample: RawSample, consumer: Parameters<typeof consume>[1]) => {
    const row = consume(sample, consumer, "set");
    return "skip" in row ? row : row.value;
  };

  it("take what they need", () => {
    expect(value(pair, "prompt")).toEqual({ prompt });
    expect(value(pair, "supervised")).toEqual({ prompt, completion: [assistant("Fine.")] });
    expect(value(pair, "chosen")).toEqual({ prompt, completion: [assistant("Bad.")] });
    expect(value({ ...pair, margin: 2, subset: "s" }, "preference")).toEqual({
      prompt,
      chosen: [assistant("Bad.")],
      rejected: [assistant("Fine.")],
      margin: 2,
      subset: "s",
    });
    expect(value(pair, "safety")).toEqual({
      prompt,
      chosen: [assistant("Fine.")],
      rejected: [assistant("Bad.")],
      chosen_is_safe: true,
      rejected_is_safe: false,
    });
    expect(value({ dialogue: ["Hi", "Hello!", "Bye", "Bye!"] }, "supervised")).toEqual({
      messages: [user("Hi"), assistant("Hello!"), user("Bye"), assistant("Bye!")],
    });
    expect(value({ system: "Be kind.", input: "Hi" }, "prompt")).toEqual({
      prompt: [{ role: "system", content: "Be kind." }, user("Hi")],
    });
  });

  it("leave out labels that contradict each other, and silence", () => {
    expect(value({ ...pair, is_safe: false, is_other_safe: true }, "safety")).toEqual({
      skip: "the safer answer is labelled unsafe and the other one safe",
    });
    expect(value({ dialogue: ["Hi"] }, "supervised")).toEqual({ skip: "nobody answers in it" });
  });

  it.each([
    ["supervised", ["input", "answer"]],
    ["chosen", ["input", "answer", "other_answer", "better"]],
    ["preference", ["input", "answer", "other_answer", "better"]],
    ["safety", ["input", "answer", "other_answer", "safer", "is_safe", "is_other_safe"]],
    ["prompt", ["input"]],
  ] as const)("%s names dataset, row and the field that is missing", async (consumer, fields) => {
    for (const field of fields) {
      const { [field]: _, ...rest } = pair;
      const text = await complaint(() => consume(rest, consumer, "set"));
      expect(text).toContain("set: f.jsonl:7: ");
      expect(text).toContain(`this sample has no "${field}" (it has `);
      const kind = /input|answer/.test(field) ? "must be text" : "must be true or false";
      const wrong = await complaint(() => consume({ ...pair, [field]: 3 } as never, consumer, "set"));
      expect(wrong).toContain(`set: f.jsonl:7: "${field}" ${kind}`);
    }
  });

  it("refuse an input that ends with the assistant", async () => {
    expect(await complaint(() => consume({ input: ["Hi", "Hello"] }, "prompt", "set"))).toMatch(
      /set: a sample: "input" has 2 turns; it must begin and end with the person's/,
    );
    expect(await complaint(() => consume({ input: [] }, "prompt", "set"))).toMatch(/"input" has 0 turns/);
  });
});
