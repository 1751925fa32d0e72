import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { loadVerb, verbNames } from "../../src/cli/verbs/index.ts";
import { snakeCase } from "../../src/settings/index.ts";
import { silentTerminal } from "./terminal.ts";

const verbs = (await Promise.all(verbNames().map(loadVerb))).filter((verb) => verb !== null);

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
});
afterEach(() => rm(dir, { recursive: true }));

async function run(...words: string[]): Promise<{ code: number; text: string; results: string }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join(""), results: terminal.results.join("\n") };
}

describe("the program", () => {
  it("lists its verbs, and each verb's options with examples", async () => {
    const { code, results } = await run("--help");
    expect(code).toBe(0);
    for (const name of [...verbs.map((verb) => verb.name), "run", "doctor"])
      expect(results).toMatch(new RegExp(`^  ${name} `, "m"));
    for (const verb of verbs) {
      const help = await run(verb.name, "--help");
      expect(help.code).toBe(0);
      expect(help.results).toContain("Examples:");
      for (const example of verb.examples) expect(help.results).toContain(example);
      for (const option of Object.keys(verb.settings.table)) {
        expect(help.results).toContain(`--${snakeCase(option)} `);
      }
      // Descriptions are wrapped; a flag with many choices has its line.
      const descriptions = help.results
        .split("Examples:")[0]
        .split("\n")
        .filter((line) => !/^ {2}-/.test(line));
      for (const line of descriptions) expect(line.length, line).toBeLessThanOrEqual(120);
    }
  });

  it("understands its own examples", () => {
    for (const verb of verbs) {
      for (const example of verb.examples) {
        const flags = [...example.matchAll(/--([\w-]+)/g)].map((match) => match[1].replaceAll("-", "_"));
        const { table } = verb.settings;
        const names = Object.entries(table).flatMap(([name, { aka }]) => [snakeCase(name), ...(aka ?? [])]);
        for (const flag of flags) expect([...names, "config", "plugin"]).toContain(flag);
      }
    }
  });

  it.each([
    [["sft", "--learning_rate", "fast"], "error: --learning_rate must be a number of at least 0"],
    [["sft", "--max-stepz", "3"], "error: there is no option --max_stepz (did you mean --max_steps?)"],
    [["trian"], "error: unknown command 'trian'"],
    [["reward"], "error: --model_name_or_path is not set"],
    [["sft", "--config", "nowhere.yaml"], "error: nowhere.yaml: cannot be read (ENOENT)"],
    [["run", "nowhere.yaml"], "error: nowhere.yaml: there is no such recipe"],
    [["report", "nowhere"], "error: nowhere: no training run in here"],
    [["tokenizer", "train"], "error: --dataset_name is not set"],
    [["tokenizer", "train", "--dataset_name", "nowhere.jsonl"], "nowhere.jsonl"],
  ])("%j gives one clear error and exit code 1", async (words, message) => {
    const { code, text } = await run(...words);
    expect(code).toBe(1);
    expect(text).toContain(message);
    expect(text).not.toMatch(/\n\s+at /);
  });

  it("names the file and the nearest key of a bad config", async () => {
    const file = join(dir, "ppo.yaml");
    await writeFile(file, "kl_coff: 0.1\n");
    expect((await run("ppo", "--config", file)).text).toContain(
      `error: there is no option kl_coff in ${file} line 1 (did you mean "kl_coef"?)\n`,
    );
  });

  it("shows the stack for --debug", async () => {
    expect((await run("--debug", "report", "nowhere")).text).toMatch(/\n\s+at /);
  });

  it("trains a tokenizer", async () => {
    await writeFile(join(dir, "text.txt"), "the cat sat on the mat\n\nthe hat");
    const { code, text } = await run(
      "tokenizer",
      "train",
      "--dataset-name",
      join(dir, "text.txt"),
      "--vocab-size",
      "260",
      "--output-dir",
      dir,
    );
    expect(text).toBe(`tokenizer of 260 tokens in ${dir}\n`);
    expect(code).toBe(0);
  });
});
