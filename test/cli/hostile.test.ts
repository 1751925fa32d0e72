/* biome-ignore-all lint/suspicious/noControlCharactersInRegex: they are what is looked for */
/** Files, names and disks that mean harm, or are simply wrong, end in a clear line, and terminals obey none of them. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { diskFiles, isUserError } from "webrlhf";
import { main, processTerminal } from "webrlhf/cli";
import { readRecords } from "webrlhf/data";
import { ModelOpener, parseRecipe } from "webrlhf/open";
import { HubClient } from "../../src/io/hub-client.ts";
import type { HubOptions } from "../../src/io/hub-store.ts";
import { makeFolder } from "../../src/runtime/folders.ts";
import { printable, withoutPassword } from "../../src/runtime/printable.ts";
import { systemError } from "../../src/runtime/system-errors.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeEach(async () => {
  process.setMaxListeners(100);
  dir = await mkdtemp(path.join(tmpdir(), "webrlhf-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(dir, { recursive: true });
});

async function file(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(path.join(dir, name), content);
  return path.join(dir, name);
}

/** What the program says when it fails. */
async function failing(...words: string[]): Promise<string> {
  const terminal = silentTerminal();
  expect(await main(words, terminal)).toBe(1);
  const text = terminal.written.join("");
  expect(text).not.toMatch(/defect of webrlhf/);
  return text;
}

const EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b2J\rback\b\u202egnp";

describe("a terminal", () => {
  it("sees escape sequences and control characters written out", () => {
    const shown = printable(EVIL);
    expect(shown).toBe("a\\u001b[31mred\\u001b]0;title\\u0007\\u009b2J\\u000dback\\u0008\\u202egnp");
    expect(printable("tab\tand\nline, ünï 日本 🙂")).toBe("tab\tand\nline, ünï 日本 🙂");
    expect(JSON.parse(printable(JSON.stringify({ text: EVIL })))).toEqual({ text: EVIL });
    expect(withoutPassword("see https://me:pw@host/x and b@c")).toBe("see https://***@host/x and b@c");
  });

  it("gets none of them by any way, but for this program's own styles", () => {
    const written: string[] = [];
    const keep = (text: unknown) => {
      written.push(String(text));
      return true;
    };
    vi.spyOn(process.stderr, "write").mockImplementation(keep);
    vi.spyOn(process.stdout, "write").mockImplementation(keep);
    const tty = process.stderr.isTTY;
    const { CI, NO_COLOR, TERM } = process.env;
    try {
      process.stderr.isTTY = true;
      delete process.env.CI;
      delete process.env.NO_COLOR;
      process.env.TERM = "xterm";
      const terminal = processTerminal();
      terminal.line(`${terminal.style("red", `error: ${EVIL}`)} ${EVIL}`);
      terminal.write(`${terminal.erase}${EVIL}`);
      terminal.result(EVIL);
    } finally {
      process.stderr.isTTY = tty;
      Object.assign(process.env, { ...(CI && { CI }), ...(NO_COLOR && { NO_COLOR }), ...(TERM && { TERM }) });
    }
    const all = written.join("");
    expect(all.match(/\x1b[^a-zA-Z]*[a-zA-Z]/g)).toEqual(["\x1b[31m", "\x1b[39m", "\x1b[2K"]);
    expect(all).not.toMatch(/\x07|\x9b|\x08|\u202e/);
  });
});

describe("a recipe", () => {
  it.each(["../../..", "..", "a/b", "/etc", "", "a\x1b[31m", "."])("cannot be called %j", (name) => {
    const stages = [{ name: "a", verb: "sft" }];
    expect(() => parseRecipe("r.yaml", { name, stages })).toThrow(/"name" must be letters, digits/);
    expect(parseRecipe("r.yaml", { name: "Größe 1.5_b-c", stages }).name).toBe("Größe 1.5_b-c");
  });

  it("that multiplies itself by aliases, or nests without end, is refused", async () => {
    const levels = Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${"*a".concat(`${i},`).repeat(9)}]`);
    const bomb = await file("bomb.yaml", ["a0: &a0 [x]", ...levels].join("\n"));
    expect(await failing("run", bomb)).toMatch(/bomb\.yaml: cannot be read: .*alias/i);
    expect(await failing("sft", "--config", bomb)).toMatch(/bomb\.yaml: cannot be read: .*alias/i);
    const deep = await file("deep.yaml", `a: ${"[".repeat(100_000)}`);
    expect(await failing("sft", "--config", deep)).toMatch(/deep\.yaml/);
  });
});

describe("a data file", () => {
  const reading = async (name: string) => {
    for await (const _ of readRecords(name));
  };

  it("that nests without end is refused in words", async () => {
    const deep = `[${"[".repeat(2_000_000)}`;
    await expect(reading(await file("deep.json", deep))).rejects.toThrow(
      /deep\.json: (it is nested too deeply|not valid JSON)/,
    );
    const whole = `{"text": ${"[".repeat(500_000)}${"]".repeat(500_000)}}\n`;
    const error = await reading(await file("deep.jsonl", whole)).catch((e: unknown) => e);
    expect(isUserError(error), String(error)).toBe(true);
  });

  it("of Latin-1 is named with the line and what to do", async () => {
    const rows = ["ok", "naïve", "after"].map((text) => `{"text": "${text}"}`);
    const latin = (lines: string[]) => Buffer.from(`${lines.join("\n")}\n`, "latin1");
    await expect(reading(await file("two.jsonl", latin(rows)))).rejects.toThrow(
      /two\.jsonl:2: not UTF-8.*iconv -f latin1/,
    );
    await expect(reading(await file("one.jsonl", latin(rows.slice(1))))).rejects.toThrow(/one\.jsonl:1: not UTF-8/);
    const late = [...Array.from({ length: 20_000 }, (_, i) => `{"text": "line ${i} é"}`)].join("\n");
    const mixed = Buffer.concat([Buffer.from(`${late}\n`), latin(["\xe9 here"])]);
    await expect(reading(await file("late.txt", mixed))).rejects.toThrow(/late\.txt:20001: not UTF-8/);
  });
});

describe("a folder", () => {
  it("with a tokenizer in its older form says how to make one", async () => {
    await mkdir(path.join(dir, "gpt2"));
    for (const name of ["vocab.json", "merges.txt"]) await file(`gpt2/${name}`, "{}");
    const words = ["sft", "--tokenizer_name_or_path", path.join(dir, "gpt2"), "--dataset_name", "x.jsonl"];
    expect(await failing(...words)).toMatch(
      /tokenizer\.json is missing: .*vocab\.json and merges\.txt.*save_pretrained/,
    );
  });

  it("of an adapter whose base has moved says whose base is missing", async () => {
    const adapter = path.join(dir, "adapter");
    await mkdir(adapter);
    const config = {
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      r: 4,
      lora_alpha: 8,
      base_model_name_or_path: path.join(dir, "gone"),
    };
    await file("adapter/adapter_config.json", JSON.stringify(config));
    await expect(new ModelOpener().tokenizer(adapter)).rejects.toThrow(
      /gone: .* It is the base that .*adapter\/adapter_config\.json names; say where it is with baseModelNameOrPath/,
    );
  });
});

describe("a disk", () => {
  it.each(["ENOSPC", "EROFS", "EACCES", "EPERM", "ENOENT", "EMFILE", "EIO", "ENAMETOOLONG", "EDQUOT"])(
    "%s is no defect",
    (code) => {
      const error = Object.assign(new Error(`${code}: x, mkdir '/x'`), { code, syscall: "mkdir", path: "/x" });
      expect(systemError(error)?.message).toMatch(/^cannot mkdir \/x: /);
      expect(systemError(error, { verb: "write", path: "out" })?.message).toMatch(/^cannot write out: /);
      expect(systemError(new Error("x"))).toBeNull();
    },
  );

  it("that fails a write says so, whatever the way of failing", async () => {
    const files = await diskFiles();
    const long = path.join(dir, "x".repeat(300), "y");
    for (const write of [
      () => files.writeFile(long, ""),
      () => files.writeFiles(long, { a: "" }),
      () => files.writeFolder(long, { a: "" }),
      () => files.append(long, ""),
    ]) {
      await expect(write()).rejects.toThrow(/^cannot write .*: the name is too long$/);
    }
  });

  it.skipIf(process.platform !== "linux")("that refuses folders is not waited for", async () => {
    await expect(makeFolder("/proc/webrlhf/out")).rejects.toThrow(/ENOENT/);
    expect(
      await failing(
        "data",
        "prepare",
        "--dataset_name",
        await file("a.jsonl", '{"prompt": "a", "completion": "b"}\n'),
        "--output_dir",
        "/proc/webrlhf/out",
      ),
    ).toMatch(/error: cannot write \/proc\/webrlhf\/out.*its folder cannot be made/);
  });
});

describe("a hub", () => {
  const client = (fetch: typeof globalThis.fetch, timeoutMs = 60_000) =>
    new HubClient({ endpoint: "http://hub", retryMs: 1, timeoutMs, fetch } as unknown as HubOptions);
  const repo = { kind: "models", id: "a/b", revision: "main" } as const;

  it("that never answers is given up", async () => {
    const silent = (_: unknown, init?: RequestInit) =>
      new Promise<Response>((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)));
    await expect(client(silent as typeof fetch, 20).commitOf(repo)).rejects.toThrow(/cannot be reached/);
  });

  it("that answers without end is not heard out", async () => {
    let sent = 0;
    const endless = async () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            sent += 1 << 20;
            controller.enqueue(new Uint8Array(1 << 20).fill(32));
          },
        }),
      );
    await expect(client(endless as typeof fetch).list(repo, "0".repeat(40))).rejects.toThrow(/more than 32 MiB/);
    expect(sent).toBeLessThan(40 << 20);
  });
});
