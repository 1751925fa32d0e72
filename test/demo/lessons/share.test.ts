/** What lies in a saved run's zip file for those who do not know the site. */
import fs from "node:fs";
import { describe, expect, it } from "vitest";
import { unzipFiles, VERSION } from "webrlhf";
import { readRun, recordFolder } from "webrlhf/report";
import { lesson as labeller } from "../../../demo/src/lessons/labeller/lesson.ts";
import { lesson as sft } from "../../../demo/src/lessons/sft/lesson.ts";
import { fromJsonLines } from "../../../demo/src/lib/labels.ts";
import { sharedFiles } from "../../../demo/src/lib/lesson/share.ts";
import type { Lesson, LessonEvent, Recording } from "../../../demo/src/lib/lesson/types.ts";
import { fromZip, toZip } from "../../../src/worker/snapshot.ts";

const folder = new URL("../../../demo/src/lessons/", import.meta.url);
const recordings = (slug: string): Recording[] =>
  JSON.parse(fs.readFileSync(new URL(`${slug}/recordings.json`, folder), "utf8"));
const slugs = fs.readdirSync(folder);
const address = { size: "S" as const, seed: 42, asked: {} };
const around = { adapter: "an adapter", language: "en" as const };
const rows = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
const zipOf = (slug: string, input: unknown, events: readonly LessonEvent[], files: Record<string, string>) => {
  const contents = new Map([["run/model/config.json", new TextEncoder().encode("{}")]]);
  return toZip({ spec: { program: slug, input: { input, address } }, events, contents, done: true }, files);
};

describe("a saved run", () => {
  it.each(slugs)("has its curves as the command line writes them, and is replayed: %s", async (slug) => {
    const { lesson } = (await import(`../../../demo/src/lessons/${slug}/lesson.ts`)) as { lesson: Lesson };
    const [{ input, events }] = recordings(slug);
    const files = sharedFiles(lesson, { address, input }, events, around);
    const told = events.filter((e) => e.type === "train" && e.event.type === "step");
    const steps = Object.entries(files)
      .filter(([name]) => name.endsWith("/metrics.jsonl"))
      .flatMap(([, text]) => rows(text))
      .filter((row) => "tokens" in row);
    expect(steps).toHaveLength(told.length);
    const losses = told.map((e) => (e.type === "train" && e.event.type === "step" ? e.event.metrics.loss : null));
    expect(steps.map(({ loss }) => loss)).toEqual(losses);
    const measured = events.filter((e) => e.type === "measured").length;
    expect(JSON.stringify(files).match(/eval_/g)?.length ?? 0).toBeGreaterThanOrEqual(measured);
    expect(JSON.parse(files["run.json"])).toMatchObject({ lesson: slug, size: "S", seed: 42, input, webrlhf: VERSION });
    expect("recipe.yaml" in files).toBe(Boolean(lesson.recipe?.(input)));

    const zip = await zipOf(slug, input, events, files);
    expect((await fromZip(zip)).events).toEqual(events);
    if (told.length + measured === 0) return;
    const recording = await readRun("run.zip", zip);
    expect(recording.title).toBe(lesson.title.en);
    // Its tables alone give the same curves.
    const unpacked = await recordFolder(await unzipFiles(zip), "");
    for (const run of recording.runs) {
      expect(unpacked.runs.find(({ name }) => name === run.name)?.metrics).toEqual(run.metrics);
    }
    expect(unpacked.runs).toHaveLength(recording.runs.length);
  });

  it("gives labels in the columns of TRL, and nowhere else but in what the page goes on from", async () => {
    const labels = [
      { prompt: "a", chosen: "secret b", rejected: "c" },
      { prompt: "d", chosen: "e\n", rejected: "f" },
    ];
    const input = { ...labeller.input("S", 42), labeller: "own" as const, labels };
    const files = sharedFiles(labeller, { address, input }, recordings("labeller")[0].events, around);
    expect(fromJsonLines(files["labels.jsonl"])).toEqual(labels);
    const { "labels.jsonl": _, ...others } = files;
    expect(JSON.stringify(others)).not.toContain("secret");
  });

  it("keeps trainings of one stage apart, whatever the stage is called", () => {
    const of = (stage: string, type: "start" | "step", step: number): LessonEvent => {
      const shared = { step, maxSteps: 2 };
      return type === "start"
        ? { type: "train", stage, event: { type, stage: "reward", parameters: 1, ...shared } }
        : {
            type: "train",
            stage,
            event: { type, epoch: 0, metrics: { loss: step }, tokens: 1, seconds: 1, ...shared },
          };
    };
    const events = ["../up", "-up", "../up"].flatMap((stage) => [of(stage, "start", 0), of(stage, "step", 1)]);
    const files = sharedFiles(
      sft,
      { address, input: { ...sft.input("S", 1) } },
      [...events, of("../up", "start", 1)],
      around,
    );
    expect(Object.keys(files).filter((name) => name.endsWith("metrics.jsonl"))).toEqual([
      "-up/metrics.jsonl",
      "-up-2/metrics.jsonl",
      "-up-3/metrics.jsonl",
    ]);
  });

  it("says equal runs in equal texts", () => {
    const input = { ...sft.input("S", 1) };
    const turned = Object.fromEntries(Object.entries(input).reverse());
    const [a, b] = [input, turned].map((input) => sharedFiles(sft, { address, input }, [], around)["run.json"]);
    expect(a).toBe(b);
  });

  it("cannot take the place of what the page goes on from", async () => {
    for (const path of ["events.jsonl", "webrlhf-run.json", "files/run/x"]) {
      await expect(zipOf("sft", {}, [], { [path]: "" })).rejects.toThrow(path);
    }
  });
});
