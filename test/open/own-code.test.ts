/** Modules of people's own, named by path: rewards, datasets, plugins, and what is said of broken ones. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { findDataset, worldTokenizer } from "webrlhf/data";
import { loadPlugins, openDataset, openReward, openRewards, openTokenizer } from "webrlhf/open";
import type { Response } from "webrlhf/rlhf";
// @ts-expect-error a script without types
import { denoExecutable } from "../../scripts/deno.mjs";
import { explained } from "../../src/runtime/own-code.ts";
import { silentTerminal } from "../cli/terminal.ts";

let folder: string;
const tokenizer = worldTokenizer();

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "webrlhf-own-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Writes a module; gives its path. */
async function module(name: string, text: string): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, text);
  return file;
}

const responses = ["a cat", "a dog ran"].map(
  (text, i) => ({ text, promptText: "p", ids: new Uint32Array(), row: { wanted: i } }) as unknown as Response,
);

describe("rewards in modules", () => {
  it("are functions, lists, records, and functions with names and weights", async () => {
    const one = await module(
      "length.mjs",
      "export default (all) => all.map(({ text, row }) => text.length - row.wanted);",
    );
    const reward = await openReward(one);
    expect([reward.name, await reward(responses)]).toEqual(["length", [5, 8]]);
    const several = await module(
      "several.mjs",
      "export async function shortness(all) { return all.map(({ text }) => -text.length); }\n" +
        "export const reward = { shortness, cats: { weight: 3, score: (all) => all.map(({ text }) => +/cat/.test(text)) } };",
    );
    const found = await openRewards([several, one]);
    expect(found.map(({ name, weight }) => [name, weight])).toEqual([
      ["shortness", undefined],
      ["cats", 3],
      ["length", undefined],
    ]);
    expect(await found[1](responses)).toEqual([1, 0]);
    await expect(openReward(several)).rejects.toThrow(/holds 2 rewards \(shortness, cats\)/);
  });

  it("are blamed by path, name and line", async () => {
    const broken = await module(
      "broken.mjs",
      "export default function mine(all) {\n  return all.map((r) => r.row.none.length);\n}\n",
    );
    await expect((await openReward(broken))(responses)).rejects.toThrow(
      /broken\.mjs: the reward mine failed: TypeError: .*undefined.* \(line 2\)/,
    );
    const few = await module("few.mjs", "export const reward = () => [1];");
    await expect((await openReward(few))(responses)).rejects.toThrow(/few\.mjs.* gave 1 numbers for 2 responses/);
    await expect(openReward(await module("other.mjs", "export const score = 1;"))).rejects.toThrow(
      /other\.mjs: a module of rewards exports a function as "default" or "reward".*has score/,
    );
    await expect(openReward(path.join(folder, "none.mjs"))).rejects.toThrow(/cannot read .*none\.mjs: no such file/);
    await expect(openReward(await module("syntax.mjs", "export default (;"))).rejects.toThrow(
      /syntax\.mjs: the module cannot be loaded: /,
    );
  });
});

describe("datasets in modules", () => {
  it("give rows, or a function of the split that gives them, also of mixtures", async () => {
    const rows = await module(
      "rows.mjs",
      'export default [{ prompt: "a boy", level: 1 }, { prompt: "a girl", level: 2 }];',
    );
    const room = { context: 32, response: 8 };
    const { train } = await openDataset(rows).prompts(tokenizer, room);
    expect(train.map(({ row }) => row?.level)).toEqual([1, 2]);
    const made = await module(
      "made.mjs",
      'export default async function* ({ split }) { yield { prompt: "a " + split, completion: " ran" }; }',
    );
    const { train: learned, eval: held } = await openDataset(made, { datasetTestSplit: "test" }).records(null);
    expect([learned, held].map((all) => all.map(({ row }) => row?.prompt))).toEqual([["a train"], ["a test"]]);
    const mixed = await openDataset(`${rows}:1,${made}:1`).prompts(tokenizer, room);
    expect(mixed.train.map(({ text }) => text).sort()).toEqual(["a boy", "a girl", "a train"]);
  });

  it("are blamed by path and line", async () => {
    const texts = async (name: string, text: string) => openDataset(await module(name, text)).texts();
    await expect(texts("no-rows.mjs", "export default 3;")).rejects.toThrow(
      /no-rows\.mjs: a module of a dataset exports/,
    );
    await expect(
      texts("fails.mjs", "export default () => {\n\n  throw new RangeError('too far');\n};"),
    ).rejects.toThrow(/fails\.mjs failed: RangeError: too far \(line 3\)/);
    await expect(texts("odd.mjs", "export default [{ text: 'a' }, 5];")).rejects.toThrow(
      /odd\.mjs, row 2: a row must be/,
    );
  });
});

describe("plugins", () => {
  it("register what is then known by name, chat templates and verbs too", async () => {
    const plugin = await module(
      "plugin.mjs",
      `export default async ({ registerDataset, registerChatTemplate, registerVerb, defineVerb }) => {
        registerDataset({ name: "own-set", items: () => [{ input: "a", answer: "b" }] });
        registerChatTemplate("own-template", "{% for m in messages %}[{{ m.content }}]{% endfor %}");
        registerVerb?.(defineVerb({ ...await (await import("${import.meta.resolve("../../src/cli/verbs/report.ts")}")).reportVerb, name: "own-verb" }));
      };`,
    );
    const terminal = silentTerminal();
    expect(await main(["--plugin", plugin, "--help"], terminal)).toBe(0);
    expect(terminal.results.join("\n")).toMatch(/Plugins:\n +own-verb/);
    expect(findDataset("own-set")).toBeDefined();
    const { chatTemplate } = await openTokenizer("builtin:world", { chatTemplatePath: "own-template" });
    expect(chatTemplate?.render([{ role: "user", content: "hi" }])).toBe("[hi]");
    expect(worldTokenizer().chatTemplate).toBeNull(); // which others share
    await expect(loadPlugins([plugin])).rejects.toThrow(/plugin\.mjs: there is a dataset "own-set" already/);
  });

  it("are blamed by path", async () => {
    const fails = await module("plugin-fails.mjs", "export default () => undefined.x;");
    await expect(loadPlugins([fails])).rejects.toThrow(/plugin-fails\.mjs failed: TypeError/);
    await expect(loadPlugins([await module("list.mjs", "export default [];")])).rejects.toThrow(
      /list\.mjs: what a plugin exports as "default" is a function, this is object/,
    );
  });
});

describe("TypeScript", () => {
  it("is refused in words where Node does not read it", async () => {
    const file = await module("typed.ts", "export default [] as string[];");
    const code = `import(${JSON.stringify(file)}).then(() => console.log("read"), (e) => console.log(e.code + ": " + e.message))`;
    const { stdout } = await promisify(execFile)(process.execPath, ["--no-warnings", "-e", code]);
    if ("typescript" in process.features && process.features.typescript) expect(stdout.trim()).toBe("read");
    else {
      const [, known, message] = /^(\w+): (.*)/.exec(stdout) as string[];
      expect(explained(Object.assign(new TypeError(message), { code: known }), "typed.ts").message).toMatch(
        /typed\.ts: Node 2\d\.\S+ does not read TypeScript: use Node 22\.18 or newer, or Deno, or compile/,
      );
    }
  });

  it.skipIf(denoExecutable() === null)(
    "is read by Deno, whose import map gives plugins the copy that runs",
    async () => {
      const plugin = await module(
        "plugin.ts",
        'import { registerSchema, type Columns } from "webrlhf/data";\nconst columns: string[] = ["question", "reply"];\n' +
          'registerSchema({ name: "qa", columns, read: ({ question, reply }: Columns, where: string) =>\n' +
          '  ({ kind: "prompt_completion", prompt: String(question), completion: String(reply), where }) });\n',
      );
      const data = await module("data.ts", 'export default [{ question: "why?", reply: "so" }] satisfies object[];');
      const program = path.resolve(import.meta.dirname, "../../src/cli/main.ts");
      const words = ["data", "describe", "--plugin", plugin, "--dataset", data];
      const { stdout } = await promisify(execFile)(denoExecutable(), ["run", "-A", program, ...words], { cwd: folder });
      expect(stdout).toMatch(/prompt: why\?\n +completion: so/);
    },
  );
});
