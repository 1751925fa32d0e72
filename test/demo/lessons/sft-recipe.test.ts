/** The page's recipe in a terminal gives the page's curve and weights, bit for bit on the same adapter. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, memoryFiles, openDevice } from "webrlhf";
import { main } from "webrlhf/cli";
import { diets, lesson, type SftInput } from "../../../demo/src/lessons/sft/lesson.ts";
import { program } from "../../../demo/src/lessons/sft/program.ts";
import { lastMeasured } from "../../../demo/src/lib/lesson/numbers.ts";
import type { LessonEvent } from "../../../demo/src/lib/lesson/types.ts";
import { silentTerminal } from "../../cli/terminal.ts";

const model = resolve(import.meta.dirname, "../../../models/world-sft");
let dir: string;
beforeAll(async () => {
  await openDevice();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-lesson-"));
});
afterAll(() => rm(dir, { recursive: true }));

async function ofThePage(input: SftInput) {
  const files = memoryFiles();
  const context = {
    start: { files: await diskFiles(), folder: model },
    files,
    folder: "run",
    signal: new AbortController().signal,
  };
  const events: LessonEvent[] = [];
  for await (const event of program(input, context)) events.push(event);
  const steps = events.flatMap((e) => (e.type === "train" && e.event.type === "step" ? [e.event] : []));
  const weights = (await files.read("run/sft/model.safetensors")) as Uint8Array;
  return { events, steps, weights: Buffer.from(weights) };
}

async function ofTheRecipe(input: SftInput, name: string) {
  const [recipe, out] = [join(dir, `${name}.yaml`), join(dir, name)];
  await writeFile(recipe, lesson.recipe?.(input) ?? "");
  const terminal = silentTerminal();
  const words = ["run", recipe, "--model", model, "--output_dir", out];
  expect(await main(words, terminal), terminal.written.join("")).toBe(0);
  const lines = (await readFile(join(out, "sft/metrics.jsonl"), "utf8")).trimEnd().split("\n");
  const steps = lines.map((line) => JSON.parse(line)).filter(({ loss }) => loss !== undefined);
  return { steps, weights: await readFile(join(out, "sft/model.safetensors")) };
}

describe("the recipe of the lesson on imitation", { timeout: 300_000 }, () => {
  it.each(["better-half", "best-tenth"] as const)("gives the page's curve and weights: %s", async (diet) => {
    const input: SftInput = { diet, seed: 7, steps: 6 };
    const page = await ofThePage(input);
    const recipe = await ofTheRecipe(input, diet);
    expect(page.steps).toHaveLength(6);
    expect(recipe.steps.map(({ loss }) => loss)).toEqual(page.steps.map(({ metrics }) => metrics.loss));
    expect(recipe.weights.equals(page.weights)).toBe(true);
    expect(lastMeasured(page.events, "after")?.shown).toBeGreaterThan(1);
  });

  it("says what decides the run, and no two runs are of one recipe", () => {
    const recipes = diets.flatMap((diet) =>
      [1, 2].flatMap((seed) => [6, 7].map((steps) => lesson.recipe?.({ diet, seed, steps }))),
    );
    expect(new Set(recipes).size).toBe(diets.length * 4);
  });
});
