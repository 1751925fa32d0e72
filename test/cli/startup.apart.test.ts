import { readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { expect, it, vi } from "vitest";
import { main } from "webrlhf/cli";
import { silentTerminal } from "./terminal.ts";

const loaded = vi.hoisted(() => [] as string[]);
const noted = vi.hoisted(() => (name: string) => (original: () => Promise<unknown>) => {
  loaded.push(name);
  return original() as Promise<object>;
});
vi.mock("../../src/rlhf/ppo.ts", noted("ppo"));
vi.mock("../../src/rlhf/dpo.ts", noted("dpo"));
vi.mock("../../src/report/figure.ts", noted("figure"));
vi.mock("../../src/cli/verbs/doctor/examine.ts", noted("doctor"));

it("loads what the words call for, and no more", async () => {
  const terminal = silentTerminal();
  const loadedBy = async (...words: string[]) => {
    await main(words, terminal);
    return loaded.splice(0);
  };
  for (const words of [["--version"], ["--help"], [], ["help"], ["trian"]])
    expect(await loadedBy(...words)).toEqual([]);
  expect(terminal.results.join("\n")).toMatch(/^ {2}ppo +Train a policy against a reward model with PPO$/m);
  expect(await loadedBy("figure", "--help")).toEqual(["figure"]);
  expect(await loadedBy("ppo", "--help")).toEqual(["ppo"]);
  expect(await loadedBy("help", "dpo")).toEqual(["dpo"]);
  expect(await loadedBy("doctor", "--help")).toEqual(["doctor"]);
});

it("starts with a handful of files of its own, none of them with tensors, models or trainers", () => {
  const src = resolve(import.meta.dirname, "../../src");
  const files = new Set<string>();
  const visit = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(file, "utf8");
    for (const [, target] of text.matchAll(/^(?:import|export) (?!type )(?:[^;]*? from )?"(\.[^"]+)";/gm)) {
      visit(resolve(dirname(file), target));
    }
  };
  visit(resolve(src, "cli/main.ts"));
  const rooms = new Set([...files].map((file) => relative(src, file).replaceAll("\\", "/").split("/")[0]));
  for (const heavy of ["gpu", "tensor", "nn", "rlhf", "report", "serve"]) expect([...rooms]).not.toContain(heavy);
  expect([...rooms]).toContain("settings");
  expect(files.size).toBeLessThan(40);
});
