/**
 * TRL's own losses and trainers beside webrlhf's: the losses of DPO, CPO, SimPO and ORPO on the fixture's answers, and DPO,
 * KTO and SFT for 50 steps from one model, on the same data, in the same order. Needs a Python with torch, transformers and
 * trl: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason, where there is none.
 */
import { spawnSync } from "node:child_process";
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
import { deviations, type Steps, VOCAB, whyNot, words, writeModel } from "./trl.ts";

const python = process.env.WEBRLHF_PYTHON ?? "python3";
const script = fileURLToPath(new URL("check_trl_preference.py", import.meta.url));

const reason = whyNot(python);
const MINUTES = 60_000;

const folder = mkdtempSync(join(tmpdir(), "webrlhf-trl-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(gpuReady);

function ask<T>(...args: string[]): T {
  const done = spawnSync(python, [script, ...args], { maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(done.stderr.toString());
  return JSON.parse(done.stdout.toString()) as T;
}

const STEPS = 50;
const draw = (...key: number[]) => uint32(7, ...key);

/** Answers of 1 to 9 tokens and an end, behind prompts of 1 to 6. */
const rows = Array.from({ length: 20 }, (_, i) => ({
  prompt: words(1 + (draw(i, 0) % 6), i, 1),
  chosen: [...words(1 + (draw(i, 2) % 9), i, 3), 1],
  rejected: [...words(1 + (draw(i, 4) % 9), i, 5), 1],
  label: draw(i, 6) % 2 === 0,
}));

const settings = {
  learningRate: 1e-3,
  lrSchedulerType: "linear",
  warmupSteps: 5,
  perDeviceTrainBatchSize: 4,
  maxSteps: STEPS,
  seed: 3,
} as const;
const theirs = {
  learning_rate: 1e-3,
  lr_scheduler_type: "linear",
  warmup_steps: 5,
  weight_decay: 0,
  max_grad_norm: 1,
  adam_beta2: 0.999,
};

/** The batches of every step. All are of full size: there are 5 to an epoch. */
const order = <T>(all: readonly T[]): T[][] => {
  const plan = new BatchPlan(all.length, dpo(settings));
  return Array.from({ length: STEPS }, (_, step) => plan.batches(step)[0].map((i) => all[i]));
};

async function stepsOf(trainer: AsyncGenerator<TrainEvent>): Promise<Steps> {
  const steps: Steps = [];
  for await (const event of trainer) if (event.type === "step") steps.push(event.metrics);
  return steps;
}

/** Every number of both, the same in every step, but for those that only one of them publishes. */
function compare(label: string, ours: Steps, theirs: Steps, only: Run["only"]): void {
  expect(theirs).toHaveLength(STEPS);
  const all = deviations(ours, theirs, only);
  console.log(`${label} beside TRL: ${all.map(([n, d]) => `${n} ${d.toExponential(1)}`).join(", ")}`);
  for (const [name, found] of all) expect(found, name).toBeLessThan(1e-3);
}

const data = rows.map(({ prompt, chosen, rejected, label }) => ({
  pair: { prompt, chosen, rejected },
  answer: { prompt, completion: chosen, label },
}));
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
  train(open: () => Promise<CausalLM>): Promise<Steps>;
  /** Names that only one of the two has. */
  only: { here: readonly string[]; there: readonly string[] };
}

const dpoRun = (
  name: string,
  own: Parameters<typeof dpo>[0],
  theirs: Record<string, unknown>,
  here: readonly string[] = [],
): Run => ({
  name: `DPO, ${name}`,
  kind: "dpo",
  theirs,
  async train(open) {
    const [policy, reference] = [await open(), await open()];
    const steps = await stepsOf(trainDpo({ policy, reference }, pairs, { ...settings, ...own }));
    for (const model of [policy, reference]) model.destroy();
    return steps;
  },
  only: { here: ["skipped_steps", ...here], there: ["mean_token_accuracy", "num_tokens"] },
});

const all: Run[] = [
  dpoRun("sigmoid", {}, {}),
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
    "aot_unpaired, TR-DPO",
    { lossType: ["aot_unpaired"], syncRefModel: true, refModelSyncSteps: 10, refModelMixupAlpha: 0.6 },
    { loss_type: ["aot_unpaired"], sync_ref_model: true, ref_model_sync_steps: 10, ref_model_mixup_alpha: 0.6 },
  ),
  {
    name: "KTO",
    kind: "kto",
    theirs: { undesirable_weight: 0.75 },
    async train(open) {
      const [policy, reference] = [await open(), await open()];
      const own = { ...settings, undesirableWeight: 0.75 };
      const steps = await stepsOf(trainKto({ policy, reference }, answers, own));
      for (const model of [policy, reference]) model.destroy();
      return steps;
    },
    only: { here: ["skipped_steps"], there: ["num_tokens"] },
  },
  {
    name: "SFT",
    kind: "sft",
    theirs: {},
    async train(open) {
      const policy = await open();
      const steps = await stepsOf(trainSft({ policy }, answers, settings));
      policy.destroy();
      return steps;
    },
    only: { here: ["skipped_steps"], there: ["mean_token_accuracy", "num_tokens"] },
  },
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
    beforeAll(async () => {
      model = await writeModel(join(folder, "model"));
      const path = join(folder, "request.json");
      const runs = all.map((run) => ({
        kind: run.kind,
        steps: order(data.map(({ pair, answer }) => (run.kind === "dpo" ? pair : answer))),
        settings: { ...theirs, ...run.theirs },
      }));
      writeFileSync(path, JSON.stringify({ model, vocab_size: VOCAB, runs }));
      found = ask<{ runs: Steps[] }>("runs", path).runs;
    }, 10 * MINUTES);

    for (const [i, run] of all.entries()) {
      it(run.name, { timeout: 5 * MINUTES }, async () => {
        compare(run.name, await run.train(async () => loadCausalLM(await diskFiles(), model)), found[i], run.only);
      });
    }
  });
});
