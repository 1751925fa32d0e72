import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DataSource, type ReadOptions, readRecords, readRows, worldTokenizer } from "webrlhf/data";
import { openDataset } from "webrlhf/open";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tables-"));
});
afterAll(() => rm(folder, { recursive: true }));

const file = (name: string, content: string): DataSource => ({ name, stream: () => new Blob([content]).stream() });

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
const read = (name: string, content: string, options?: ReadOptions) => all(readRecords(file(name, content), options));
const rows = async (name: string, content: string) => (await all(readRows(file(name, content)))).map((r) => r.value);

describe("CSV", () => {
  it("has a mark of byte order, line ends of Windows, line ends and quotes within cells", async () => {
    const text = '\uFEFFprompt,completion\r\n"One,\r\ntwo ""x""",three\r\n\r\n  four ,"five"\r\n';
    expect(await read("a.csv", text)).toEqual([
      { kind: "prompt_completion", prompt: 'One,\r\ntwo "x"', completion: "three", where: "a.csv:2" },
      { kind: "prompt_completion", prompt: "  four ", completion: "five", where: "a.csv:5" },
    ]);
  });

  it("is read as it was written, whatever its cells hold", async () => {
    const cell = fc.string({ unit: fc.constantFrom("a", ",", '"', "\n", "\r\n", " ", "ü", ";") });
    const table = fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 8 });
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
    await fc.assert(
      fc.asyncProperty(table, fc.constantFrom("\n", "\r\n"), async (cells, end) => {
        const lines = [["x", "y"], ...cells].map((line) => line.map(quoted).join(","));
        const wanted = cells.map(([x, y]) => ({ x: x === "" ? null : x, y: y === "" ? null : y }));
        expect(await rows("a.csv", lines.join(end))).toEqual(wanted);
        expect(await rows("a.csv", lines.join(end) + end)).toEqual(wanted);
      }),
      { numRuns: 200 },
    );
  });

  it("may have tabs or semicolons between its cells, and pandas' column of row numbers", async () => {
    expect(await rows("a.tsv", "x\ty\n1,5\t2\n")).toEqual([{ x: "1,5", y: "2" }]);
    expect(await rows("a.csv", "x;y\n1,5;2")).toEqual([{ x: "1,5", y: "2" }]);
    expect(await rows("a.csv", ",text\n0,Hello\n1,World\n")).toEqual([{ text: "Hello" }, { text: "World" }]);
  });

  it.each([
    ["a row that is too short", "x,y\n1,2\n3\n", "a.csv:3: a row of 1 cells under 2 columns (x, y)"],
    ["a row that is too long", 'x,y\n"a\nb",2\n3,4,5\n', "a.csv:4: a row of 3 cells under 2 columns"],
    [
      "a quote that is not ended",
      'x,y\n1,2\n3,"4\n5,6\n',
      "a.csv:3: a cell begins with a quote here, and none ends it",
    ],
    ["a quote within a cell", 'x,y\n1,2\n3,"4" 5\n', "a.csv:3: a cell in quotes goes on behind its last quote"],
    ["two columns of one name", "x,x\n1,2\n", 'a.csv:1: two columns are called "x"'],
  ])("says where it is wrong: %s", async (_, text, message) => {
    await expect(rows("a.csv", text)).rejects.toThrow(message);
  });

  it("says that it is empty, and which row has an empty cell", async () => {
    await expect(read("a.csv", "prompt,completion\n")).rejects.toThrow("a.csv: the dataset is empty");
    const text = "prompt,completion\nq,a\nq,\n";
    await expect(read("a.csv", text)).rejects.toThrow('a.csv:3: column "completion" is missing');
  });

  it("has numbers, truths and messages where readers need them, and texts everywhere else", async () => {
    expect(await read("a.csv", "prompt,completion,label\n12,true,True\n3,4,0\n")).toMatchObject([
      { prompt: "12", completion: "true", label: true },
      { prompt: "3", completion: "4", label: false },
    ]);
    const [pair] = await read("b.csv", "prompt,chosen,rejected,margin\nq,1,2,0.5\n");
    expect(pair).toMatchObject({ kind: "preference", chosen: "1", rejected: "2", margin: 0.5 });
    const said = '"[{""role"":""user"",""content"":""Hi""},{""role"":""assistant"",""content"":""Yo""}]"';
    expect((await read("c.csv", `messages\n${said}\n`))[0]).toMatchObject({ completion: " Yo" });
  });

  it("holds ratings", async () => {
    const path = join(folder, "rated.csv");
    await writeFile(path, "prompt,response,helpful,note\nHi,Yo,3,a\nHi,Hm,,b\n");
    const rated = await openDataset(path).rated(worldTokenizer(), { maxLength: 32 }, null);
    expect(rated.attributes).toEqual(["helpful"]);
    expect([...rated.labels]).toEqual([3, Number.NaN]);
  });
});

describe("column", () => {
  const lines = '{"question": "q", "answer": "a", "messages": "x", "n": 1}\n{"question": "r", "answer": "b"}\n';

  it("says where prompts and answers stand", async () => {
    const column = ["prompt=question", " completion = answer "];
    const found = await read("a.jsonl", lines, { column });
    expect(found).toMatchObject([
      { kind: "prompt_completion", prompt: "q", completion: "a" },
      { kind: "prompt_completion", prompt: "r", completion: "b" },
    ]);
    expect(await read("a.csv", "question,answer\nq,a\n", { column })).toMatchObject([{ prompt: "q", completion: "a" }]);
  });

  it("goes before columns that nobody named", async () => {
    expect(await read("a.jsonl", lines, { column: ["prompt=question"] })).toMatchObject([
      { kind: "prompt", prompt: "q" },
      { kind: "prompt", prompt: "r" },
    ]);
  });

  it("leaves the row its own columns, and adds the new ones", async () => {
    const path = join(folder, "own.jsonl");
    await writeFile(path, lines);
    const { train } = await openDataset(path, { column: ["prompt=question"] }).records(null);
    expect(train[0].row).toEqual({ question: "q", answer: "a", messages: "x", n: 1, prompt: "q" });
  });

  it.each([
    [
      ["prompt=where"],
      'a.jsonl:1: there is no column "where" to take "prompt" from (found: question, answer, messages, n)',
    ],
    [["prompt"], "column must be like prompt=question"],
    [["prompt=question", "prompt=answer"], 'column names "prompt" twice'],
  ])("says what is wrong with %j", async (column, message) => {
    await expect(read("a.jsonl", lines, { column })).rejects.toThrow(message);
  });

  it("is refused where it would mean nothing", async () => {
    const column = ["prompt=question"];
    expect(() => openDataset("builtin:world", { column })).toThrow("column is for files; builtin:world is made up");
    await expect(openDataset("alpaca", { column }).records(null)).rejects.toThrow("alpaca is a registered dataset");
    const container = '{"type": "text_only", "instances": [{"text": "x"}]}';
    await expect(read("a.json", container, { column })).rejects.toThrow("this is a file of the type text_only");
  });
});

describe("ShareGPT", () => {
  const human = (value: string) => ({ from: "human", value });
  const gpt = (value: string) => ({ from: "gpt", value });
  const line = (row: object) => `${JSON.stringify(row)}\n`;

  it("is a conversation of which all answers are learned", async () => {
    const conversations = [
      { from: "system", value: "Be kind." },
      human("a"),
      gpt("b"),
      human("c"),
      gpt("d"),
      human("e"),
    ];
    const [found] = await read("a.jsonl", line({ id: "1", conversations }));
    const text = "Be kind.\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d";
    expect(found).toMatchObject({ kind: "prompt_completion", prompt: "", completion: text });
    const { answers = [] } = found as { answers?: [number, number][] };
    expect(answers.map(([from, to]) => text.slice(from, to))).toEqual([" b", " d"]);
  });

  it("is a prompt up to its last answer", async () => {
    const path = join(folder, "share.json");
    await writeFile(path, JSON.stringify([{ conversations: [human("a"), gpt("b"), human("c"), gpt("d")] }]));
    const room = { context: 128, response: 8 };
    const { train } = await openDataset(path).prompts(worldTokenizer(), room);
    expect(train).toMatchObject([{ text: "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", target: " d" }]);
  });

  it.each(["conversation", "conversations"])("may have roles and contents: %s", async (name) => {
    const said = [
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
    ];
    expect(await read("a.jsonl", line({ [name]: said, system: "S" }))).toMatchObject([
      { completion: "S\n\nHuman: a\n\nAssistant: b" },
    ]);
  });

  it("may stand wherever messages may", async () => {
    const pair = { prompt: [human("a")], chosen: [gpt("b")], rejected: [gpt("c")] };
    const wanted = { kind: "preference", prompt: "\n\nHuman: a\n\nAssistant:", chosen: " b", rejected: " c" };
    expect(await read("a.jsonl", line(pair))).toMatchObject([wanted]);
    const whole = { chosen: [human("a"), gpt("b")], rejected: [human("a"), gpt("c")] };
    expect(await read("b.jsonl", line(whole))).toMatchObject([wanted]);
    const factory = { conversations: [human("a")], chosen: gpt("b"), rejected: gpt("c") };
    expect(await read("c.jsonl", line(factory))).toMatchObject([wanted]);
  });

  it("calls tools", async () => {
    const call = { name: "f", arguments: {} };
    const conversations = [
      human("a"),
      { from: "function_call", value: JSON.stringify(call) },
      { from: "observation", value: "7" },
      gpt("b"),
    ];
    let seen: unknown;
    const chat = {
      renderAnswers(messages: unknown) {
        seen = messages;
        return { text: "abc", spans: [[1, 2]] };
      },
    };
    await read("a.jsonl", line({ conversations }), { chat: chat as never });
    expect(seen).toEqual([
      { role: "user", content: "a" },
      { role: "assistant", content: "", tool_calls: [{ type: "function", function: call }] },
      { role: "tool", content: "7" },
      { role: "assistant", content: "b" },
    ]);
  });

  it("says who is unknown, and what has no answer", async () => {
    const strange = line({ conversations: [{ from: "narrator", value: "x" }] });
    await expect(read("a.jsonl", strange)).rejects.toThrow(
      'a.jsonl:1: message 1 of "conversations" is from "narrator"',
    );
    await expect(read("a.jsonl", line({ conversations: [human("a")] }))).rejects.toThrow("that is answered (1)");
  });
});
