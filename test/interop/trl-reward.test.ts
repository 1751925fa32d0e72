/**
 * TRL's RewardTrainer and webrlhf side by side: the same model, pairs, order and hyper-parameters, every step's
 * numbers, and the weights in the end; and the token-wise loss against torch with an attention mask. Needs a Python with torch, transformers, trl
 * and datasets: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason, where there is none.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import type { PreferenceExample } from "webrlhf/data";
import { loadScoreModel, ScoreModel } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { BatchPlan, reward, trainReward } from "webrlhf/rlhf";
import { uniform } from "../../src/runtime/rng.ts";
import { gpuReady } from "../helpers.ts";
import { collect, metricsOf, pairs, tokenizer } from "../rlhf/tiny.ts";
import { distance, recordParity, savedWeights, weightsOf } from "./parity.ts";
import { askPython } from "./python.ts";
import { deviations, withoutTrl as reason, type Steps, writeModel } from "./trl.ts";

const STEPS = 50;
let dir: string;

beforeAll(async () => {
  await gpuReady();
  dir = mkdtempSync(join(tmpdir(), "webrlhf-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A model folder, pairs in TRL's columns, and what to do with them. */
async function prepare(name: string, data: readonly PreferenceExample[], options: object): Promise<string> {
  const folder = join(dir, name);
  mkdirSync(folder);
  const { vocabSize, eosId, padId } = tokenizer;
  const shape = { vocabSize, maxPositions: 64, eosId: eosId ?? null, padId: padId ?? null };
  await writeModel(join(folder, "model"), { kind: ScoreModel, shape, files: tokenizerFiles(tokenizer) });
  const rows = data.map(({ chosen, rejected, margin }) => ({
    chosen_ids: [...chosen],
    rejected_ids: [...rejected],
    ...(margin !== undefined && { margin }),
  }));
  writeFileSync(join(folder, "pairs.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  writeFileSync(join(folder, "options.json"), JSON.stringify(options));
  return folder;
}

const ask = <T>(folder: string): T => askPython("check_trl_reward.py", [folder]);

const relative = (found: number, expected: number): number => Math.abs(found - expected) / Math.abs(expected);

interface Variant {
  name: string;
  options: Parameters<typeof reward>[0];
  trainer: Record<string, unknown>;
  margins?: boolean;
  /** Pairs to learn from. */
  examples: number;
  /** Where the last pass of an epoch is short: numbers that are means over all pairs here, over passes in TRL. */
  unlike?: readonly string[];
}

const variants: Variant[] = [
  {
    name: "linear schedule with warm-up, clipping, weight decay, two passes a step",
    options: {
      lrSchedulerType: "linear",
      warmupSteps: 5,
      maxGradNorm: 1,
      weightDecay: 0.01,
      perDeviceTrainBatchSize: 4,
      gradientAccumulationSteps: 2,
    },
    trainer: {
      lr_scheduler_type: "linear",
      warmup_steps: 5,
      max_grad_norm: 1,
      weight_decay: 0.01,
      per_device_train_batch_size: 4,
      gradient_accumulation_steps: 2,
    },
    examples: 8 * STEPS,
  },
  {
    name: "passes of 3 and 2, accumulation 2",
    options: { lrSchedulerType: "linear", perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 2 },
    trainer: {
      lr_scheduler_type: "linear",
      per_device_train_batch_size: 3,
      gradient_accumulation_steps: 2,
      weight_decay: 0,
    },
    examples: 17,
    unlike: ["accuracy", "margin", "mean_reward"],
  },
  {
    name: "cosine schedule, margins, centring",
    options: {
      lrSchedulerType: "cosine",
      maxGradNorm: 0.5,
      perDeviceTrainBatchSize: 8,
      centerRewardsCoefficient: 0.01,
      adamBeta2: 0.95,
    },
    trainer: {
      lr_scheduler_type: "cosine",
      max_grad_norm: 0.5,
      center_rewards_coefficient: 0.01,
      adam_beta2: 0.95,
      per_device_train_batch_size: 8,
      gradient_accumulation_steps: 1,
      weight_decay: 0,
    },
    margins: true,
    examples: 8 * STEPS,
  },
];

describe.skipIf(reason !== "")(`beside TRL${reason && ` (skipped: ${reason})`}`, () => {
  it.each(variants)(
    "$name: 50 steps",
    { timeout: 600_000 },
    async ({ name, options, trainer, margins, examples, unlike = [] }) => {
      const seed = 3;
      const all = reward({ learningRate: 1e-3, seed, ...options });
      const plan = new BatchPlan(examples, { ...all, maxSteps: STEPS });
      const made = pairs(examples).map((pair, i) => (margins ? { ...pair, margin: uniform(1, i) } : pair));
      const batches = Array.from({ length: STEPS }, (_, step) => plan.batches(step)).flat();
      const order = batches.flat();
      const folder = await prepare(
        `run-${variants.findIndex((v) => v.name === name)}`,
        order.map((i) => made[i]),
        { trainer: { learning_rate: 1e-3, seed, ...trainer }, batches: batches.map((batch) => batch.length) },
      );
      const { steps: theirs, version } = ask<{ steps: Steps; version: string }>(folder);

      const model = await loadScoreModel(await diskFiles(), join(folder, "model"));
      const ours = metricsOf(await collect(trainReward({ model }, made, { ...all, maxSteps: STEPS })));
      const start = await savedWeights(loadScoreModel, join(folder, "model"));
      const apart = distance(
        await weightsOf(model),
        await savedWeights(loadScoreModel, join(folder, "trained")),
        start,
      );
      model.destroy();
      recordParity({ method: "Reward model", settings: name, other: `TRL ${version}`, steps: theirs.length, ...apart });
      expect(theirs).toHaveLength(STEPS);
      const found = deviations(ours, theirs, { here: ["skipped_steps"], there: ["num_tokens"] });
      console.log(`Reward, ${name}, beside TRL: ${found.map(([n, d]) => `${n} ${d.toExponential(1)}`).join(", ")}`);
      for (const [metric, most] of found)
        if (!unlike.includes(metric)) expect(most, metric).toBeLessThan(metric === "learning_rate" ? 1e-6 : 1e-3);
      expect(Math.abs(ours[STEPS - 1].loss - ours[0].loss)).toBeGreaterThan(0.01); // something was learned
    },
  );

  it("token-wise: padding has scores, and no token sees it", async () => {
    const data = pairs(12);
    expect(new Set(data.map((p) => p.chosen.length - p.rejected.length)).size).toBeGreaterThan(2);
    const regularization = 0.01;
    const padId = tokenizer.padId ?? 0;
    const folder = await prepare("token-wise", data, { tokenWise: true, padId, regularization });
    const theirs = ask<{ loss: number; grad_norm: number }>(folder);
    const model = await loadScoreModel(await diskFiles(), join(folder, "model"));
    // In two passes, as accumulation has them.
    const passes = { perDeviceTrainBatchSize: 6, gradientAccumulationSteps: 2, maxSteps: 1 };
    const settings = { ...passes, lossType: "token-wise", regularization, learningRate: 0 } as const;
    const [{ loss, grad_norm: gradNorm }] = metricsOf(await collect(trainReward({ model, tokenizer }, data, settings)));
    model.destroy();
    console.log(
      `token-wise: relative deviations ${JSON.stringify([relative(loss, theirs.loss), relative(gradNorm, theirs.grad_norm)])}`,
    );
    expect(relative(loss, theirs.loss)).toBeLessThan(1e-5);
    expect(relative(gradNorm, theirs.grad_norm)).toBeLessThan(1e-4);
  });
});
