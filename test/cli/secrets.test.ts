/** A key that was given in whatever way reaches the server it is for, and no file and no terminal. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { defineVerb, main, registerVerb } from "webrlhf/cli";
import { serverReward } from "webrlhf/open";
import { defaultWords, group, settings } from "webrlhf/rlhf";
import { loadVerb, verbNames } from "../../src/cli/verbs/index.ts";
import { HttpClient } from "../../src/io/http.ts";
import { silentTerminal } from "./terminal.ts";

const KEY = "sk-QkZ81xPrivate";
const verbs = (await Promise.all(verbNames().map(loadVerb))).filter((verb) => verb !== null);

const test = group("Test");
const askSettings = settings("ask", {
  server: test.text(null, "Server"),
  apiKey: test.text(null, "Key", { secret: "ASK_API_KEY", aka: ["key"] }),
  steps: test.int(1, "Steps"),
  outputDir: test.path("out", "Folder"),
});

let dir: string;
let forget: () => void;
let got: unknown[];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
  got = [];
  const run = async ({ apiKey }: { apiKey: string | null }) => void got.push(apiKey);
  forget = registerVerb(defineVerb({ name: "ask", summary: "Ask", settings: askSettings, examples: [], run }));
});
afterEach(async () => {
  forget();
  await rm(dir, { recursive: true });
});

/** All that the program writes, in files and on the terminal. */
async function written(...words: string[]): Promise<string> {
  const terminal = silentTerminal();
  await main(words, terminal);
  const names = (await readdir(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const files = names.filter(({ name }) => name !== "recipe.yaml");
  const texts = await Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), "utf8")));
  return [...terminal.written, ...terminal.results, ...texts].join("\n");
}

async function recipe(options: object, vars: object = {}): Promise<string> {
  const file = join(dir, "recipe.yaml");
  const stages = [{ name: "a", verb: "ask", options }];
  await writeFile(file, JSON.stringify({ name: "r", output_dir: join(dir, "out"), vars, stages }));
  return file;
}

describe("a key", () => {
  it("is marked as a secret in every verb, and help names its variable", () => {
    const keys = verbs.flatMap(({ name, settings }) =>
      Object.entries(settings.table)
        .filter(([key, { kind }]) => kind === "text" && /key$|token$|password|secret/i.test(key))
        .map(([key, setting]) => [`${name} ${key}`, setting] as const),
    );
    expect(keys.length).toBeGreaterThan(3);
    for (const [name, setting] of keys) {
      expect(setting.secret, name).toMatch(/^[A-Z_]+$/);
      expect(defaultWords(setting)).toContain(setting.secret);
    }
  });

  it.each([
    ["in a recipe", { api_key: KEY }, {}, []],
    ["in a recipe, by another name", { key: KEY }, {}, []],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the reference itself is meant
    ["in a variable", { api_key: "${vars.k}" }, { k: KEY }, []],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the reference itself is meant
    ["in a variable's flag", { api_key: "${vars.k}" }, { k: null }, ["--k", KEY]],
    ["by --set", {}, {}, ["--set", `a.api_key=${KEY}`]],
    ["in an address", { server: `http://me:${KEY}@127.0.0.1`, api_key: "other" }, {}, []],
  ])("%s is in no record and in no dry run", async (_, options, vars, words) => {
    const file = await recipe(options, vars);
    const dry = await written("run", file, "--dry_run", ...words);
    expect(dry).toContain('"steps": 1');
    expect(dry).not.toContain(KEY);
    const all = await written("run", file, ...words);
    expect(got).toEqual(["server" in options ? "other" : KEY]);
    expect(all).toContain("output_dir");
    expect(all).not.toContain(KEY);
  });

  it("does not make a stage run again", async () => {
    await written("run", await recipe({ api_key: KEY }));
    await written("run", await recipe({ api_key: "another" }));
    expect(got).toEqual([KEY]);
  });

  it.each([
    ["a stage that is none", ["--set", `b.api_key=${KEY}`]],
    ["an equals sign that is none", ["--set", `a.api_key:${KEY}`]],
    ["an option that is none", ["--set", `a.api_keey=${KEY}`]],
    ["another mistake", ["--set", `a.api_key=${KEY}`, "--set", "a.steps=x"]],
  ])("is in no message about %s", async (_, words) => {
    const all = await written("run", await recipe({}), ...words);
    expect(all).toContain("error:");
    expect(all).not.toContain(KEY);
    expect(got).toEqual([]);
  });

  it.each([
    ["a key that is no text", `api_key: [${KEY}]\n`],
    ["a key beside a mistake", `api_key: ${KEY}\nsteps: x\n`],
    ["a key twice", `api_key: ${KEY}\nkey: ${KEY}\n`],
  ])("is in no message about %s in a file", async (_, yaml) => {
    const file = join(dir, "recipe.yaml");
    await writeFile(file, yaml);
    const all = await written("ask", "--config", file);
    expect(all).toContain("error:");
    expect(all).not.toContain(KEY);
  });

  it("is in no message about a server that repeats it", async () => {
    const answer = JSON.stringify({ error: { message: `Incorrect API key provided: ${KEY}` } });
    const client = new HttpClient("http://x", {
      apiKey: KEY,
      fetch: async () => new Response(answer, { status: 401 }),
    });
    const error = await client.json("GET", "/models", undefined).catch((e: Error) => e.message);
    expect(error).toBe("http://x/models: 401 Incorrect API key provided: ***");
  });

  it("is in no message about characters that cannot be sent", () => {
    expect(() => new HttpClient("http://x", { apiKey: `${KEY}\nmore` })).toThrow(
      /holds a character that cannot be sent/,
    );
    expect(() => new HttpClient("http://x", { apiKey: `${KEY}…` })).not.toThrow(KEY);
  });

  it("of a reward server may stand in the environment", async () => {
    vi.stubEnv("REWARD_SERVER_API_KEY", KEY);
    const sent: unknown[] = [];
    vi.stubGlobal("fetch", async (_: string, init: { headers: Record<string, string> }) => {
      sent.push(init.headers.Authorization);
      return Response.json({ rewards: [1] });
    });
    const response = { ids: new Uint32Array([1]), promptLength: 1, prompt: 0, sample: 0, promptText: "", text: "" };
    await serverReward("http://x", {})([{ ...response, ended: true }]);
    vi.unstubAllGlobals();
    vi.unstubAllEnvs();
    expect(sent).toEqual([`Bearer ${KEY}`]);
  });
});
