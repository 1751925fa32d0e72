/**
 * TRL's own losses and trainers beside webrlhf's: the losses of DPO, CPO, SimPO and ORPO on the fixture's answers, and DPO,
 * KTO and SFT for 50 steps from one model, on the same data, in the same order: every number of every step, and the weights. Needs a Python with torch, transformers and
 * trl: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason, where there is none.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { type CausalLM, loadCausalLM } from "webrlhf/nn";
import { BatchPlan, dpo, type TrainEvent, trainDpo, trainKto, trainSft } from "webrlhf/rlhf";
import { uint32 } from "../../src/runtime/rng.ts";
import fixture from "../fixtures/preference.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { distance, recordParity, savedWeights, splitName, weightsOf } from "./parity.ts";
import { askPython } from "./python.ts";
import { deviations, linear, withoutTrl as reason, type Steps, VOCAB, words, writeModel } from "./trl.ts";

const MINUTES = 60_000;

const folder = mkdtempSync(join(tmpdir(), "webrlhf-trl-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(gpuReady);

const ask = <T>(...args: string[]): T => askPython("check_trl_preference.py", args);

const STEPS = 50;
const draw = (...key: number[]) => uint32(7, ...key);

/** Answers of 1 to 9 tokens and an end, behind prompts of 1 to 6. */
const rows = Array.from({ length: 20 }, (_, i) => ({
  prompt: words(1 + (draw(i, 0) % 6), i, 1),
  chosen: [...words(1 + (draw(i, 2) % 9), i, 3), 1],
  rejected: [...words(1 + (draw(i, 4) % 9), i, 5), 1],
  label: draw(i, 6) % 2 === 0,
}));

const { ours, theirs } = linear(5);
const settings = { ...ours, perDeviceTrainBatchSize: 4, maxSteps: STEPS, seed: 3 } as const;

/** Passes of 3 and 2, two to a step: the last pass of every epoch is short. */
const accumulated = { perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 2 };

/** The micro-batches of every step. With the common settings all are of full size, 5 to an epoch. */
const order = <T>(all: readonly T[], own: Run["passes"]): T[][][] => {
  const plan = new BatchPlan(all.length, dpo({ ...settings, ...own }));
  return Array.from({ length: STEPS }, (_, step) => plan.batches(step).map((part) => part.map((i) => all[i])));
};

async function stepsOf(trainer: AsyncGenerator<TrainEvent>): Promise<Steps> {
  const steps: Steps = [];
  for await (const event of trainer) if (event.type === "step") steps.push(event.metrics);
  return steps;
}

/** Every number of both, the same in every step, but for those that only one of them publishes. */
function compare({ name: label, only, unlike = [] }: Run, ours: Steps, theirs: Steps): void {
  expect(theirs).toHaveLength(STEPS);
  const all = deviations(ours, theirs, only).filter(([name]) => !unlike.includes(name));
  console.log(`${label} beside TRL: ${all.map(([n, d]) => `${n} ${d.toExponential(1)}`).join(", ")}`);
  for (const [name, found] of all) expect(found, name).toBeLessThan(1e-3);
}

const data = {
  pairs: rows.map(({ prompt, chosen, rejected }) => ({ prompt, chosen, rejected })),
  answers: rows.map(({ prompt, chosen, label }) => ({ prompt, completion: chosen, label })),
};
const joined = (prompt: number[], answer: number[]) => Uint32Array.from([...prompt, ...answer]);
const pairs = rows.map(({ prompt, chosen, rejected }) => ({
  chosen: joined(prompt, chosen),
  rejected: joined(prompt, rejected),
  promptLength: prompt.length,
}));
const answers = rows.map(({ prompt, chosen, label }) => ({
  ids: joined(prompt, chosen),
  promptLength: prompt.length,
  label,
}));

interface Run {
  name: string;
  kind: "dpo" | "kto" | "sft";
  /** What differs from the common settings, there and here. */
  theirs: Record<string, unknown>;
  /** Sizes of passes that differ from the common ones, and how many examples there are. */
  passes?: typeof accumulated;
  /** Trains a model, which is the caller's. */
  train(policy: CausalLM, reference: CausalLM): Promise<Steps>;
  /** Names that only one of the two has. */
  only: { here: readonly string[]; there: readonly string[] };
  /** Names that are of other things here and there. */
  unlike?: readonly string[];
}

/** The examples of accumulated runs: an epoch's steps are of (3, 3), (3, 3) and (3, 2). */
const some = <T>(all: readonly T[], passes: Run["passes"]): readonly T[] => (passes ? all.slice(0, 17) : all);

const dpoRun = (
  name: string,
  own: Parameters<typeof dpo>[0],
  theirs: Record<string, unknown>,
  here: readonly string[] = [],
  passes?: typeof accumulated,
): Run => ({
  name: `DPO, ${name}`,
  kind: "dpo",
  theirs,
  ...(passes && { passes }),
  train: (policy, reference) =>
    stepsOf(trainDpo({ policy, reference }, some(pairs, passes), { ...settings, ...passes, ...own })),
  only: { here: ["skipped_steps", ...here], there: ["mean_token_accuracy", "num_tokens"] },
});

const ktoRun = (name: string, passes?: typeof accumulated): Run => ({
  name,
  kind: "kto",
  theirs: { undesirable_weight: 0.75 },
  ...(passes && { passes }),
  train: (policy, reference) =>
    stepsOf(
      trainKto({ policy, reference }, some(answers, passes), { ...settings, ...passes, undesirableWeight: 0.75 }),
    ),
  only: { here: ["skipped_steps"], there: ["num_tokens"] },
});

const sftRun = (name: string, passes?: typeof accumulated): Run => ({
  name,
  kind: "sft",
  theirs: {},
  ...(passes && { passes, unlike: ["entropy"] }), // a mean over passes there, over tokens here
  train: (policy) => stepsOf(trainSft({ policy }, some(answers, passes), { ...settings, ...passes })),
  only: { here: ["skipped_steps"], there: ["mean_token_accuracy", "num_tokens"] },
});

const all: Run[] = [
  dpoRun("sigmoid", {}, {}),
  dpoRun("sigmoid, passes of 3 and 2, accumulation 2", {}, {}, [], accumulated),
  dpoRun("ipo", { lossType: ["ipo"] }, { loss_type: ["ipo"] }),
  dpoRun(
    "sigmoid + apo_zero, LD-DPO, WPO",
    { lossType: ["sigmoid", "apo_zero"], lossWeights: [0.8, 0.2], ldAlpha: 0.5, useWeighting: true },
    { loss_type: ["sigmoid", "apo_zero"], loss_weights: [0.8, 0.2], ld_alpha: 0.5, use_weighting: true },
  ),
  dpoRun(
    "sigmoid + sft",
    { lossType: ["sigmoid", "sft"], lossWeights: [1, 0.5] },
    { loss_type: ["sigmoid", "sft"], loss_weights: [1, 0.5] },
    ["nll_loss"],
  ),
  dpoRun(
    "sigmoid + sft, passes of 3 and 2, accumulation 2",
    { lossType: ["sigmoid", "sft"], lossWeights: [1, 0.5] },
    { loss_type: ["sigmoid", "sft"], loss_weights: [1, 0.5] },
    ["nll_loss"],
    accumulated,
  ),
  dpoRun(
    "aot_unpaired, TR-DPO",
    { lossType: ["aot_unpaired"], syncRefModel: true, refModelSyncSteps: 10, refModelMixupAlpha: 0.6 },
    { loss_type: ["aot_unpaired"], sync_ref_model: true, ref_model_sync_steps: 10, ref_model_mixup_alpha: 0.6 },
  ),
  ktoRun("KTO"),
  ktoRun("KTO, passes of 3 and 2, accumulation 2", accumulated),
  sftRun("SFT"),
  sftRun("SFT, passes of 3 and 2, accumulation 2", accumulated),
];

describe.skipIf(reason !== "")(`TRL${reason ? ` (skipped: ${reason})` : ""}`, () => {
  it("has the same losses and gradients", { timeout: 3 * MINUTES }, () => {
    type Grads = { chosen: number[][]; rejected: number[][] };
    const file = fileURLToPath(new URL("../fixtures/preference.json", import.meta.url));
    const { cases } = ask<{ cases: { index: number; loss: number; grads: Grads }[] }>("losses", file);
    expect(cases.length).toBeGreaterThan(30);
    for (const { index, loss, grads } of cases) {
      const own = fixture.cases[index];
      const label = `${own.trainer} ${own.losses.map((l) => l.type)} ${JSON.stringify(own.options)}`;
      expectClose([loss], [own.loss], 1e-6, 0, label);
      const flat = (g: Grads) => [...g.chosen, ...g.rejected].flat();
      expectClose(flat(grads), flat(own.grads), 1e-6, 0, label);
    }
  });

  describe("side by side for 50 steps", () => {
    let model: string;
    let found: Steps[];
    let version: string;
    beforeAll(async () => {
      model = await writeModel(join(folder, "model"));
      const path = join(folder, "request.json");
      const runs = all.map((run) => ({
        kind: run.kind,
        steps: order(some<object>(run.kind === "dpo" ? data.pairs : data.answers, run.passes), run.passes),
        settings: { ...theirs, ...run.theirs },
        out: join(folder, run.name),
      }));
      writeFileSync(path, JSON.stringify({ model, vocab_size: VOCAB, runs }));
      const answer = ask<{ version: string; runs: Steps[] }>("runs", path);
      found = answer.runs;
      version = answer.version;
    }, 10 * MINUTES);

    for (const [i, run] of all.entries()) {
      it(run.name, { timeout: 5 * MINUTES }, async () => {
        const files = await diskFiles();
        const [policy, reference] = [await loadCausalLM(files, model), await loadCausalLM(files, model)];
        compare(run, await run.train(policy, reference), found[i]);
        const theirs = await savedWeights(loadCausalLM, join(folder, run.name));
        const apart = distance(await weightsOf(policy), theirs, await savedWeights(loadCausalLM, model));
        const [method, settings] = splitName(run.name);
        recordParity({ method, settings, other: `TRL ${version}`, steps: STEPS, ...apart });
        for (const one of [policy, reference]) one.destroy();
      });
    }
  });
});
