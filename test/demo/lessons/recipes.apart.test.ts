/** Lessons' recipes in a terminal give the page's curves and weights, bit for bit on the same adapter. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { diskFiles, memoryFiles, openDevice } from "webrlhf";
import { main } from "webrlhf/cli";
import { lesson as bestOfN } from "../../../demo/src/lessons/best-of-n/lesson.ts";
import { program as bestOfNProgram } from "../../../demo/src/lessons/best-of-n/program.ts";
import { lesson as labeller } from "../../../demo/src/lessons/labeller/lesson.ts";
import { program as labellerProgram } from "../../../demo/src/lessons/labeller/program.ts";
import { lesson as over } from "../../../demo/src/lessons/over-optimisation/lesson.ts";
import { program as overProgram } from "../../../demo/src/lessons/over-optimisation/program.ts";
import { lesson as ppo } from "../../../demo/src/lessons/ppo/lesson.ts";
import { program as ppoProgram } from "../../../demo/src/lessons/ppo/program.ts";
import { lesson as rewardModel } from "../../../demo/src/lessons/reward-model/lesson.ts";
import { program as rewardModelProgram } from "../../../demo/src/lessons/reward-model/program.ts";
import type { Json, Lesson, LessonEvent, Program } from "../../../demo/src/lib/lesson/types.ts";
import { silentTerminal } from "../../cli/terminal.ts";

/** Two steps tell as much as thirty: of page and terminal alike everything else stays. */
const { fewer } = vi.hoisted(() => ({
  fewer:
    (names: readonly string[], change: object) =>
    async (original: () => Promise<unknown>): Promise<never> => {
      const module = (await original()) as Record<string, (input: unknown) => object>;
      const changed = names.map((name) => [name, (input: unknown) => ({ ...module[name](input), ...change })]);
      return { ...module, ...Object.fromEntries(changed) } as never;
    },
}));
vi.mock("../../../demo/src/lessons/ppo/lesson.ts", fewer(["settingsOf"], { maxSteps: 2, rolloutBatchSize: 8 }));
vi.mock("../../../demo/src/lessons/reward-model/lesson.ts", fewer(["settingsOf"], { maxSteps: 2 }));
vi.mock("../../../demo/src/lessons/best-of-n/lesson.ts", fewer(["settingsOf"], { maxSteps: 2 }));
vi.mock(
  "../../../demo/src/lessons/over-optimisation/lesson.ts",
  fewer(["ppoSettings", "raftSettings", "dpoSettings"], { maxSteps: 2 }),
);

const model = resolve(import.meta.dirname, "../../../models/world-sft");
let dir: string;
beforeAll(async () => {
  await openDevice();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-recipes-"));
});
afterAll(() => rm(dir, { recursive: true }));

interface Case {
  // biome-ignore lint/suspicious/noExplicitAny: of any lesson
  lesson: Lesson<any>;
  // biome-ignore lint/suspicious/noExplicitAny: of any lesson
  program: Program<any>;
  input: object;
  /** The page's stages by the recipe's, with the folders of their models. */
  stages: Record<string, { stage: string; folder: string }>;
  set?: string[];
}

const judge = { stage: "judge", folder: "judge" };

const judges = [8, 32, 128].map((pairs) => `judge-${pairs}`);

const cases: Record<string, Case> = {
  "reward model": {
    ...{ lesson: rewardModel, program: rewardModelProgram },
    input: { pairs: 128, noise: 0.25, liking: "a bit shorter", seed: 7 },
    stages: Object.fromEntries(judges.map((stage) => [stage, { stage, folder: stage }])),
    set: judges.map((stage) => `${stage}.max_steps=2`),
  },
  ppo: {
    ...{ lesson: ppo, program: ppoProgram, input: ppo.input("S", 7) },
    stages: { judge, ppo: { stage: "ppo", folder: "ppo" } },
    set: ["ppo.max_steps=2", "ppo.rollout_batch_size=8"],
  },
  labeller: {
    ...{ lesson: labeller, program: labellerProgram, input: { labeller: "friend", seed: 7, count: 6, rounds: 1 } },
    stages: { judge, raft: { stage: "raft", folder: "policy" } },
  },
  "labeller, of one's own labels": {
    ...{ lesson: labeller, program: labellerProgram },
    input: {
      ...{ labeller: "own", seed: 7, count: 20, rounds: 0 },
      labels: ["red", "blue", "big", "new", "old"].map((word) => ({
        prompt: `One day Tim the cat wanted a ${word} ball.`,
        chosen: " Tim got a ball. He shared it with a friend.",
        rejected: ` Tim sat down. "${word}"`,
      })),
    },
    stages: { judge },
  },
  "best of n, by the judge": {
    ...{ lesson: bestOfN, program: bestOfNProgram, input: { by: "judge", pairs: 32, rounds: 2, seed: 7 } },
    stages: { judge, raft: { stage: "raft", folder: "raft" } },
  },
  "best of n, by the truth": {
    ...{ lesson: bestOfN, program: bestOfNProgram, input: { by: "truth", pairs: 32, rounds: 2, seed: 7 } },
    stages: { judge, raft: { stage: "raft", folder: "raft" } },
  },
  ...Object.fromEntries(
    (["ppo", "raft", "dpo"] as const).map((method): [string, Case] => [
      `over-optimisation, ${method}`,
      {
        ...{ lesson: over, program: overProgram, input: { method, pairs: 64, klCoef: 0.1, size: "S", seed: 7 } },
        stages: { judge, [method]: { stage: "policy", folder: method } },
        set: [`${method}.max_steps=2`],
      },
    ]),
  ),
};

async function ofThePage({ program, input, stages }: Case) {
  const files = memoryFiles();
  const abort = new AbortController();
  const start = { files: await diskFiles(), folder: model };
  const events: LessonEvent[] = [];
  const left = new Set(Object.values(stages).map(({ stage }) => stage));
  for await (const event of program(input, { start, files, folder: "run", signal: abort.signal })) {
    events.push(event);
    if (event.type === "train" && event.event.type === "end") left.delete(event.stage);
    if (left.size === 0) abort.abort(); // what is looked at afterwards changes nothing
  }
  // Of several trainings of one stage the last one's model is kept.
  const losses = (of: string) => {
    const begin = events.findLastIndex((e) => e.type === "train" && e.stage === of && e.event.type === "start");
    return events
      .slice(begin)
      .flatMap((e) => (e.type === "train" && e.stage === of && e.event.type === "step" ? [e.event.metrics] : []));
  };
  return {
    files,
    losses,
    weights: async (folder: string) => (await files.read(`run/${folder}/model.safetensors`)) as Uint8Array,
  };
}

describe("a lesson's recipe", { timeout: 300_000 }, () => {
  it.each(Object.keys(cases))("gives the page's curves and weights: %s", async (name) => {
    const { lesson, input, stages, set = [] } = cases[name];
    const page = await ofThePage(cases[name]);
    const [recipe, out] = [join(dir, name, "recipe.yaml"), join(dir, name, "out")];
    await mkdir(join(dir, name, "files/run"), { recursive: true });
    const given = await page.files.read("run/given.jsonl"); // it lies in a saved run beside the recipe
    if (given) await writeFile(join(dir, name, "files/run/given.jsonl"), given);
    await writeFile(recipe, lesson.recipe?.(input) ?? "");
    const terminal = silentTerminal();
    const words = ["run", recipe, "--model", model, "--output_dir", out, ...set.flatMap((one) => ["--set", one])];
    expect(await main(words, terminal), terminal.written.join("")).toBe(0);
    for (const [own, { stage, folder }] of Object.entries(stages)) {
      const lines = (await readFile(join(out, own, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
      const rows = lines.map((line): Record<string, Json> => JSON.parse(line)).filter((row) => "tokens" in row);
      const told = page.losses(stage);
      expect(told.length, stage).toBeGreaterThan(0);
      expect(rows).toMatchObject(JSON.parse(JSON.stringify(told))); // a file knows no -0
      const weights = await readFile(join(out, own, "model.safetensors"));
      expect(weights.equals(await page.weights(folder)), `weights of ${stage}`).toBe(true);
    }
  });

  it("is none where a terminal cannot do what the page does, and the page says why", () => {
    expect(ppo.recipe?.({ ...ppo.input("S", 1), critic: "none" })).toBeNull();
    expect(bestOfN.recipe?.({ ...bestOfN.input("S", 1), by: "lot" })).toBeNull();
    for (const { noRecipe } of [ppo, bestOfN]) expect(noRecipe?.en && noRecipe.zh).toBeTruthy();
  });
});
