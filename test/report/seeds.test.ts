import { describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { collectReport } from "../../src/report/collect.ts";
import type { RunData } from "../../src/report/data.ts";
import { buildReport } from "../../src/report/report.ts";
import { bandOf, seedGroups } from "../../src/report/seeds.ts";
import { summarise } from "../../src/report/summary.ts";
import { parsed } from "../cli/parse.ts";
import { checkXml } from "./xml.ts";

/** A run whose reward is its seed at every step. */
const run = (title: string, settings: object, steps = 5): RunData => {
  const seed = (settings as { seed: number }).seed;
  const own = settings as Record<string, unknown>;
  const facts = {
    verb: "ppo",
    webrlhf: "1",
    adapter: null,
    inputs: [],
    parents: [],
    steps,
    state: "finished",
  } as const;
  return {
    ...{ name: title, title, verb: "ppo", record: { ...facts, settings: own }, evals: [] },
    steps: Array.from({ length: steps }, (_, i) => ({ step: i + 1, tokens: 1, reward: seed })),
  };
};

const seeds = [1, 2, 6].map((seed) => run(`ppo-seed-${seed}`, { seed, kl_coef: 0.1 }));
const other = run("free", { seed: 1, kl_coef: 0 });

describe("runs that differ in their seed alone", () => {
  it("are one group, and all others stand alone", () => {
    expect(seedGroups([...seeds, other]).map(({ title }) => title)).toEqual(["ppo, 3 seeds", "free"]);
    const unrecorded = seeds.map((one) => ({ ...one, record: null }));
    expect(seedGroups(unrecorded)).toHaveLength(3);
  });

  it("have a mean and a band at the steps that all have", () => {
    const [group] = seedGroups([...seeds, run("ppo-seed-7", { seed: 7, kl_coef: 0.1 }, 2)]);
    expect(bandOf(group, "reward")).toEqual({
      points: [
        [1, 4],
        [2, 4],
      ],
      band: [
        [1, 1, 7],
        [2, 1, 7],
      ],
    });
  });

  it("are a line with a band in the report, beside other runs", () => {
    const data = { title: "t", facts: [], rewardModels: [], policies: [], samples: [], runs: [...seeds, other] };
    const html = buildReport(data);
    checkXml(html.replace("<!doctype html>", ""));
    const chart = /<svg(?:(?!<\/svg>).)*id="compared-ppo-reward-title".*?<\/svg>/s.exec(html)?.[0] ?? "";
    expect(chart).toContain("ppo, 3 seeds: from 3 at step 1");
    expect(chart).toContain("free: from 1 at step 1");
    expect(chart).toContain("fill-opacity");
    expect(html).toContain("Runs that differ in their seed alone");
  });
});

describe("a report of several folders", () => {
  it("takes them as words, or as one option", async () => {
    const folders = { inputDir: ["a", "b", "c"], title: "t" };
    expect((await parsed(["report", "a", "b", "c", "--title", "t"])).values).toMatchObject(folders);
    expect((await parsed(["report", "--title", "t", "--input_dir", "a,b,c"])).values).toMatchObject(folders);
    expect((await parsed(["report", "a"])).values).toMatchObject({ inputDir: ["a"] });
  });

  it("tells runs of one name apart by their paths, and shows what is wrong with them", async () => {
    const files = memoryFiles();
    const line = (step: number, eos: number) => `${JSON.stringify({ step, tokens: 1, eos_rate: eos })}\n`;
    const many = (eos: number) => Array.from({ length: 9 }, (_, i) => line(i + 1, eos)).join("");
    await files.writeFile("a/ppo/metrics.jsonl", many(1));
    await files.writeFile("b/ppo/metrics.jsonl", many(0));
    const data = await collectReport(files, ["a/ppo", "b/ppo", "a"], null);
    expect(data.title).toBe("ppo, ppo, a");
    expect(summarise(data).runs.map(({ name, findings }) => [name, findings.map(({ id }) => id)])).toEqual([
      ["a/ppo", []],
      ["b/ppo", ["never-ends"]],
    ]);
    expect(buildReport(data)).toContain("No response ends by itself.");
  });
});
