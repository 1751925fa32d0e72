/** Every command line that README and docs show is one that the program reads. */
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { settingNamed } from "webrlhf/rlhf";
import { loadVerb } from "../../src/cli/verbs/index.ts";
import { parsed } from "./parse.ts";

const pages = [
  "README.md",
  ...readdirSync("docs")
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** The words of a shell's line, less comments. */
const wordsOf = (line: string): string[] =>
  [...line.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(#.*)|(\S+)/g)]
    .filter((match) => match[3] === undefined)
    .map(([, double, single, , bare]) => double ?? single ?? bare);

/** Command lines in blocks of shell, and in code within sentences where they have options. */
function commandLines(page: string): string[] {
  const text = readFileSync(page, "utf8");
  const blocks = [...text.matchAll(/^```(?:sh|bash)\n(.*?)^```/gms)].flatMap(([, block]) =>
    block.replaceAll("\\\n", " ").split("\n"),
  );
  const inline = [...text.matchAll(/`((?:npx )?webrlhf [^`]*--[^`]*)`/g)].map(([, line]) => line.replaceAll("\n", " "));
  return [...blocks, ...inline]
    .map((line) => line.trim().replace(/^npx /, ""))
    .filter((line) => /^webrlhf /.test(line));
}

/** A file that the page shows: a block that begins with its name. */
async function shownFile(page: string, name: string): Promise<string> {
  const fence = "```";
  const block = readFileSync(page, "utf8").match(new RegExp(`^${fence}yaml\\n# ${name}.*?^${fence}`, "ms"))?.[0];
  if (!block) return name;
  const file = join(dir, name);
  await writeFile(file, block.split("\n").slice(1, -1).join("\n"));
  return file;
}

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
});
afterAll(() => rm(dir, { recursive: true }));

const lines = pages.flatMap((page) => commandLines(page).map((line) => ({ page, line })));

describe("the pages", () => {
  it("show command lines", () => {
    expect(lines.length).toBeGreaterThan(30);
  });

  it.each(lines)("$page: $line", async ({ page, line }) => {
    const [, verb, ...words] = wordsOf(line.replaceAll(/\[([^\]]*)\]/g, "").replace(/ (\.\.\.|…).*/, ""));
    if (verb === "run" || /^--|^</.test(verb)) return; // a recipe's flags are its own
    if (verb === "doctor") {
      const at = words.indexOf("--trainer");
      const table = at < 0 ? {} : (await loadVerb(words[at + 1]))!.settings.table;
      const own = ["json", "model", "trainer", "memory", "prompt_length"];
      for (const flag of words.filter((word) => word.startsWith("--")).map((word) => word.slice(2))) {
        expect(own.includes(flag) || settingNamed(table, flag) !== null, flag).toBe(true);
      }
      return;
    }
    const at = words.indexOf("--config");
    if (at >= 0) words[at + 1] = await shownFile(page, words[at + 1]);
    const error = await parsed([verb, ...words]).then(
      () => null,
      (error: Error) => error.message,
    );
    // What a line leaves out, because another one has shown it, is no mistake of the line.
    const mistakes = (error ?? "").split("\n").filter((mistake) => mistake !== "" && !/ is not set/.test(mistake));
    expect(mistakes, line).toEqual([]);
  });
});
