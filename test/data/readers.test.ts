import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import {
  asKind,
  type DataRecord,
  type DataSource,
  loadRecords,
  type ReadOptions,
  readRecords,
  registerFormat,
  registerSchema,
  shuffled,
  splitRecords,
} from "webrlhf/data";

const encoder = new TextEncoder();

/** A file in memory, handed out in chunks of `chunk` bytes. */
function file(name: string, content: string | Uint8Array, chunk = 7): DataSource {
  const bytes = typeof content === "string" ? encoder.encode(content) : content;
  return {
    name,
    stream() {
      let at = 0;
      return new ReadableStream({
        pull(controller) {
          if (at >= bytes.length) return controller.close();
          controller.enqueue(bytes.slice(at, at + chunk));
          at += chunk;
        },
      });
    },
  };
}

async function gzip(content: string): Promise<Uint8Array> {
  const stream = new Blob([content]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function read(source: DataSource, options?: ReadOptions): Promise<DataRecord[]> {
  const records: DataRecord[] = [];
  for await (const record of readRecords(source, options)) records.push(record);
  return records;
}

const jsonl = (...rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join("\n");

async function complaint(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (e) => e,
  );
  expect(isUserError(error)).toBe(true);
  return error.message;
}

describe("file formats", () => {
  const rows = [
    { prompt: "a – ü", completion: "x" },
    { prompt: "b", completion: "日本" },
  ];
  const records = (where: [string, string]) =>
    rows.map((row, i) => ({ kind: "prompt_completion", ...row, where: where[i] }));

  it.each([1, 2, 3, 1000])(
    "JSONL in chunks of %i bytes, with blank lines, CRLF and a byte-order mark",
    async (chunk) => {
      const text = `\ufeff${JSON.stringify(rows[0])}\r\n\r\n  \n${JSON.stringify(rows[1])}`;
      expect(await read(file("d.jsonl", text, chunk))).toEqual(records(["d.jsonl:1", "d.jsonl:4"]));
    },
  );

  it("JSON lists, JSON with a row per line, a single row", async () => {
    expect(await read(file("d.json", JSON.stringify(rows, null, 2)))).toEqual(
      records(["d.json, row 1", "d.json, row 2"]),
    );
    expect(await read(file("d.json", jsonl(...rows)))).toEqual(records(["d.json:1", "d.json:2"]));
    expect((await read(file("d.json", JSON.stringify(rows[0])))).length).toBe(1);
  });

  it.each([1, 3, 1000])("gzip in chunks of %i bytes, recognised by content", async (chunk) => {
    const bytes = await gzip(jsonl(...rows));
    expect(await read(file("d.jsonl.gz", bytes, chunk))).toEqual(records(["d.jsonl.gz:1", "d.jsonl.gz:2"]));
    expect((await read(file("d.jsonl", bytes, chunk))).length).toBe(2);
    expect((await read(file("d.jsonl.gz", jsonl(...rows), chunk))).length).toBe(2);
  });

  it("plain text, at blank lines or whole", async () => {
    const text = "\n\nOne\ntwo.\n  \n\nThree.\n";
    expect(await read(file("d.txt", text))).toEqual([
      { kind: "text", text: "One\ntwo.", where: "d.txt:3" },
      { kind: "text", text: "Three.", where: "d.txt:7" },
    ]);
    const whole = await read(file("d.txt", "One\n\ntwo.\n"), { textSplit: "whole" });
    expect(whole).toEqual([{ kind: "text", text: "One\n\ntwo.", where: "d.txt:1" }]);
  });

  it("from disk, and stopping early closes the file", async () => {
    const folder = await mkdtemp(join(tmpdir(), "webrlhf-readers-"));
    try {
      const path = join(folder, "d.jsonl");
      const long = Array.from({ length: 20000 }, (_, i) => ({ prompt: `p${i}`, completion: "c".repeat(40) }));
      await writeFile(path, jsonl(...long));
      expect((await read(path)).length).toBe(20000);
      expect((await read(path, { limit: 3 })).length).toBe(3);
      expect(await complaint(read(folder, { format: "jsonl" }))).toMatch(/it is a folder/);
      expect(await complaint(read(join(folder, "none.jsonl")))).toMatch(/none\.jsonl: no such file/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("others can be added", async () => {
    registerFormat({
      name: "lines",
      extensions: [".lines"],
      async *rows(bytes, name) {
        const text = await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).text();
        for (const [i, line] of text.split("\n").entries())
          yield { value: { question: line }, where: `${name}:${i + 1}` };
      },
    });
    registerSchema({
      name: "question",
      columns: ["question"],
      read: (row, where) => ({ kind: "prompt", prompt: `Q: ${row.question}`, where }),
    });
    expect(await read(file("d.lines", "a\nb"))).toEqual([
      { kind: "prompt", prompt: "Q: a", where: "d.lines:1" },
      { kind: "prompt", prompt: "Q: b", where: "d.lines:2" },
    ]);
    expect((await read(file("noname", '{"prompt":"p"}'), { format: "jsonl" })).length).toBe(1);
  });
});

describe("records", () => {
  const one = async (row: unknown, options?: ReadOptions) => {
    const [record] = await read(file("d.jsonl", jsonl(row)), options);
    delete record.where;
    return record;
  };
  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });

  it.each([
    ["text", { text: "t" }, { kind: "text", text: "t" }],
    ["prompt", { prompt: "p", id: 3 }, { kind: "prompt", prompt: "p" }],
    [
      "prompt of messages",
      { prompt: [{ role: "system", content: "Be kind." }, user("Hi")] },
      {
        kind: "prompt",
        prompt: "Be kind.\n\nHuman: Hi\n\nAssistant:",
        messages: [{ role: "system", content: "Be kind." }, user("Hi")],
      },
    ],
    [
      "context_messages",
      { context: "Hi", context_messages: [user("Hi")] },
      { kind: "prompt", prompt: "\n\nHuman: Hi\n\nAssistant:", messages: [user("Hi")] },
    ],
    ["completion", { prompt: "p", completion: "c" }, { kind: "prompt_completion", prompt: "p", completion: "c" }],
    [
      "messages",
      { messages: [user("Hi"), assistant("Hello"), user("Bye"), assistant(" Ciao ")] },
      {
        kind: "prompt_completion",
        prompt: "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:",
        completion: " Ciao",
      },
    ],
    [
      "preference",
      { prompt: "p", chosen: "good", rejected: "bad", extra: null },
      { kind: "preference", prompt: "p", chosen: "good", rejected: "bad" },
    ],
    [
      "preference of messages",
      { prompt: [user("Hi")], chosen: [assistant("Hello")], rejected: [assistant("No")] },
      { kind: "preference", prompt: "\n\nHuman: Hi\n\nAssistant:", chosen: " Hello", rejected: " No" },
    ],
    [
      "preference with the question inside the answers",
      { prompt: "Hi", chosen: [user("Hi"), assistant("Hello")], rejected: [user("Hi"), assistant("No")] },
      { kind: "preference", prompt: "\n\nHuman: Hi\n\nAssistant:", chosen: " Hello", rejected: " No" },
    ],
    [
      "preference with an implicit prompt",
      {
        chosen: [user("Hi"), assistant("A"), user("B"), assistant("C")],
        rejected: [user("Hi"), assistant("A"), user("B"), assistant("D")],
      },
      {
        kind: "preference",
        prompt: "\n\nHuman: Hi\n\nAssistant: A\n\nHuman: B\n\nAssistant:",
        chosen: " C",
        rejected: " D",
      },
    ],
    [
      "transcripts, which may begin their answers alike",
      {
        prompt: null,
        chosen: "\n\nHuman: Hi\n\nAssistant: A\n\nHuman: B\n\nAssistant: The cat",
        rejected: "\n\nHuman: Hi\n\nAssistant: A\n\nHuman: B\n\nAssistant: The dog",
      },
      {
        kind: "preference",
        prompt: "\n\nHuman: Hi\n\nAssistant: A\n\nHuman: B\n\nAssistant:",
        chosen: " The cat",
        rejected: " The dog",
      },
    ],
    [
      "transcripts of which one goes on",
      {
        chosen: "\n\nHuman: Hi\n\nAssistant: Yes",
        rejected: "\n\nHuman: Hi\n\nAssistant: Yes\n\nHuman: Why?\n\nAssistant: So.",
      },
      {
        kind: "preference",
        prompt: "\n\nHuman: Hi\n\nAssistant:",
        chosen: " Yes",
        rejected: " Yes\n\nHuman: Why?\n\nAssistant: So.",
      },
    ],
  ])("%s", async (_, row, expected) => {
    expect(await one(row)).toEqual(expected);
  });

  it("strings become turns on request", async () => {
    expect(await one({ prompt: "Hi ", chosen: " Hello", rejected: "No" }, { template: "turns" })).toEqual({
      kind: "preference",
      prompt: "\n\nHuman: Hi\n\nAssistant:",
      chosen: " Hello",
      rejected: " No",
    });
    expect(await one({ prompt: "Hi" }, { template: "turns" })).toEqual({
      kind: "prompt",
      prompt: "\n\nHuman: Hi\n\nAssistant:",
      messages: [user("Hi")],
    });
  });

  it("that teach nothing are left out, and reported", async () => {
    const skipped: string[] = [];
    const same = { prompt: "p", chosen: "x", rejected: "x" };
    const records = await read(file("d.jsonl", jsonl(same, { ...same, rejected: "y" })), {
      onSkip: (where, reason) => skipped.push(`${where} ${reason}`),
    });
    expect(records.length).toBe(1);
    expect(skipped).toEqual(["d.jsonl:1 both answers are the same"]);
    expect(await complaint(read(file("d.jsonl", jsonl(same, same))))).toBe(
      "d.jsonl: none of its 2 rows can be used: both answers are the same (2)",
    );
  });

  it("may say by how much one answer is better", async () => {
    const row = { prompt: "p", chosen: "x", rejected: "y" };
    const margins = async (...rows: object[]) =>
      (await read(file("d.jsonl", jsonl(...rows)))).map((record) => ("margin" in record ? record.margin : null));
    const rows = [
      { ...row, margin: 0.5 },
      { ...row, margin: null },
      { ...row, margin: -2, chosen_score: 9, rejected_score: 1 },
    ];
    expect(await margins(...rows)).toEqual([0.5, null, -2]);
    expect(await margins({ ...row, chosen_score: 9, rejected_score: 1 })).toEqual([null]);
    const messages = (content: string) => [
      { role: "user", content: "p" },
      { role: "assistant", content },
    ];
    expect(await margins({ chosen: messages("x"), rejected: messages("y"), margin: 3 })).toEqual([3]);
    expect(await complaint(read(file("d.jsonl", jsonl(row, { ...row, margin: "big" }))))).toBe(
      'd.jsonl:2: "margin" must be a number, not "big"',
    );
  });

  it("serve simpler needs", async () => {
    const pair = { kind: "preference", prompt: "p", chosen: "c", rejected: "r", where: "w" } as const;
    expect(asKind(pair, "prompt_completion")).toEqual({
      kind: "prompt_completion",
      prompt: "p",
      completion: "c",
      where: "w",
    });
    expect(asKind(pair, "prompt")).toEqual({ kind: "prompt", prompt: "p", where: "w" });
    expect(asKind(pair, "text")).toEqual({ kind: "text", text: "pc", where: "w" });
    expect(asKind({ kind: "text", text: "t" }, "prompt")).toEqual({ kind: "prompt", prompt: "t" });
    const source = file("d.jsonl", jsonl({ prompt: "p", completion: "c" }));
    expect(await complaint(loadRecords(source, "preference"))).toBe(
      "d.jsonl:1: this is a prompt with a completion, but a preference pair (chosen and rejected) is needed",
    );
  });
});

describe("answers with labels", () => {
  it("are good or bad; a conversation's answer, too", async () => {
    const rows = [
      { prompt: "a", completion: "b", label: true },
      { prompt: [{ role: "user", content: "a" }], completion: [{ role: "assistant", content: "b" }], label: 0 },
    ];
    const records = await read(file("k.jsonl", jsonl(...rows)));
    expect(records[0]).toEqual({ kind: "labelled", prompt: "a", completion: "b", label: true, where: "k.jsonl:1" });
    expect(records[1]).toMatchObject({ kind: "labelled", label: false, completion: " b" });
    expect(asKind(records[0], "prompt")).toEqual({ kind: "prompt", prompt: "a", where: "k.jsonl:1" });
    expect(asKind(records[1], "prompt_completion")).toBeUndefined(); // it may be a bad answer
  });

  it.each([2, -1, "yes", "", [1, 2]])("refuse the label %j", async (label) => {
    const rows = jsonl({ prompt: "a", completion: "b", label });
    expect(await complaint(read(file("k.jsonl", rows)))).toBe(
      `k.jsonl:1: "label" must be true or false (or 1 or 0), not ${JSON.stringify(label)}`,
    );
  });
});

describe("bad input is named", () => {
  const good = JSON.stringify({ prompt: "p", chosen: "a", rejected: "b" });

  it.each([
    ["malformed line", "d.jsonl", `${good}\n${good}\n{"prompt": "p", `, /^d\.jsonl:3: not valid JSON/],
    ["malformed line in .json", "d.json", `${good}\n{"prompt"\n`, /^d\.json:2: not valid JSON/],
    ["malformed list", "d.json", "[{]", /^d\.json: not valid JSON/],
    ["no bytes", "d.jsonl", "", /^d\.jsonl: the dataset is empty/],
    ["only blank lines", "d.jsonl", "\n \n", /^d\.jsonl: the dataset is empty/],
    ["an empty list", "d.json", "[]", /^d\.json: the dataset is empty/],
    ["an empty text", "d.txt", "\n\n", /^d\.txt: the dataset is empty/],
    ["a row that is a number", "d.jsonl", "3", /^d\.jsonl:1: a row must be an object with columns, this is 3/],
    ["unknown columns", "d.jsonl", '{"foo":1,"bar":2}', /^d\.jsonl:1: no known columns \(found: foo, bar\)/],
    [
      "a missing column",
      "d.jsonl",
      `${good}\n{"prompt":"p","chosen":"a"}`,
      /^d\.jsonl:2: column "rejected" is missing \(found: prompt, chosen\)/,
    ],
    [
      "a column of nothing",
      "d.jsonl",
      `${good}\n{"prompt":"p","chosen":"a","rejected":null}`,
      /^d\.jsonl:2: column "rejected" is missing/,
    ],
    [
      "a number for a text",
      "d.jsonl",
      '{"prompt":"p","completion":5}',
      /^d\.jsonl:1: "completion" must be a string or/,
    ],
    ["a strange role", "d.jsonl", '{"prompt":[{"role":"cat","content":"x"}]}', /^d\.jsonl:1: message 1 .* role "cat"/],
    [
      "a message without content",
      "d.jsonl",
      '{"messages":[{"role":"user"}]}',
      /^d\.jsonl:1: message 1 .* no text content/,
    ],
    ["pairs without a prompt", "d.jsonl", '{"chosen":"a","rejected":"b"}', /^d\.jsonl:1: no "prompt" column/],
    ["an unknown kind of file", "d.xlsx", "a,b", /^d\.xlsx: unknown kind of file; known are .*jsonl/],
  ])("%s", async (_, name, content, message) => {
    expect(await complaint(read(file(name, content)))).toMatch(message);
  });

  it("bytes that are not UTF-8", async () => {
    const bytes = new Uint8Array([...encoder.encode(`${good}\n`), 0xff, 0xfe]);
    expect(await complaint(read(file("d.jsonl", bytes, 1000)))).toMatch(/^d\.jsonl:2: not UTF-8 text/);
  });

  it("damaged and truncated gzip data", async () => {
    const bytes = await gzip(`${good}\n`.repeat(2000));
    expect(await complaint(read(file("d.jsonl.gz", bytes.slice(0, bytes.length - 20), 50)))).toMatch(
      /damaged or truncated gzip/,
    );
    const broken = bytes.slice();
    broken[bytes.length >> 1] ^= 0xff;
    expect(await complaint(read(file("d.jsonl.gz", broken, 50)))).toMatch(/^d\.jsonl\.gz/);
  });
});

describe("files made to fill memory are refused in words", () => {
  const good = JSON.stringify({ prompt: "p", chosen: "a", rejected: "b" });
  /** A file that never ends. */
  const endless = (name: string, start: string, more: string): DataSource => {
    const chunk = encoder.encode(more.repeat(2 ** 20 / more.length));
    return {
      name,
      stream: () =>
        new ReadableStream({
          start: (controller) => controller.enqueue(encoder.encode(start)),
          pull: (controller) => controller.enqueue(chunk),
        }),
    };
  };

  it.each([
    ["a line that does not end", endless("x.jsonl", '{"text": "', "a"), /^x\.jsonl:1: a line of more than/],
    [
      "a list that does not end",
      endless("x.json", "[", `{"text":"${"a".repeat(2 ** 16 - 13)}"},\n`),
      /^x\.json: a JSON list .* JSON lines/,
    ],
    ["a line of lists in lists", file("x.jsonl", "[".repeat(5_000_000), 2 ** 20), /^x\.jsonl:1: .* nested more than/],
    ["objects in objects", file("x.json", '{"a":'.repeat(1_000_000), 2 ** 20), /^x\.json: .* nested more than/],
  ])("%s", async (_, source, message) => expect(await complaint(read(source))).toMatch(message), 60_000);

  it("gzip data that grows beyond measure", async () => {
    const megabyte = encoder.encode(`${" ".repeat(2 ** 20 - 1)}\n`);
    let left = 300;
    const big = new ReadableStream({
      pull: (controller) => (left-- > 0 ? controller.enqueue(new Uint8Array(megabyte)) : controller.close()),
    });
    const bomb = new Uint8Array(await new Response(big.pipeThrough(new CompressionStream("gzip"))).arrayBuffer());
    expect(await complaint(read(file("x.jsonl.gz", bomb, 2 ** 20)))).toMatch(/^x\.jsonl\.gz: its gzip data grows/);
  }, 60_000);

  it("many rows in a file called .json are read row by row all the same", async () => {
    expect(await read(file("x.json", `${good}\n${good}\n`))).toHaveLength(2);
  });
});

describe("order", () => {
  const records = Array.from({ length: 40 }, (_, i) => ({ kind: "prompt", prompt: `p${i >> 1}` }) as const);

  it("shuffles by seed", () => {
    expect(shuffled(10, 1)).toEqual(shuffled(10, 1));
    expect(shuffled(10, 1)).not.toEqual(shuffled(10, 2));
  });

  it("splits by seed, keeping equal prompts together", () => {
    const { train, test } = splitRecords(records, 0.25, 3);
    expect([train.length, test.length]).toEqual([30, 10]);
    expect(test.filter((t) => train.some((r) => r.prompt === t.prompt))).toEqual([]);
    expect(splitRecords(records, 0.25, 3)).toEqual({ train, test });
    expect(splitRecords(records, 0.25, 4).test).not.toEqual(test);
    expect(splitRecords(records, 0, 3).test).toEqual([]);
    expect(splitRecords(records, 0.001, 3).test.length).toBe(2);
  });

  it("refuses splits that leave nothing", () => {
    expect(() => splitRecords(records.slice(0, 2), 0.5, 1)).toThrow(/too few/);
    expect(() => splitRecords(records, 1, 1)).toThrow(/below 1/);
  });
});
