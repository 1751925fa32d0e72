/**
 * PPO in every dialect beside PyTorch, from the same weights on the same responses and rewards: the weights of the policy and
 * of the critic after some optimizer steps. In all dialects against a float64 implementation (ppo_reference.py); that of TRL
 * also against TRL's own PPOTrainer, where WEBRLHF_TRL_PPO names a folder with TRL 1.12 (`pip install --no-deps --target
 * FOLDER trl==1.12.0`). Needs a Python with torch, transformers and trl: python3 on the PATH, or the one that WEBRLHF_PYTHON names.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { loadCausalLM, loadScoreModel, ScoreModel } from "webrlhf/nn";
import type { PpoSettings } from "webrlhf/rlhf";
import { PromptOrder } from "../../src/rlhf/prompts.ts";
import { permutation, uint32 } from "../../src/runtime/rng.ts";
import { gpuReady } from "../helpers.ts";
import { type GivenResponse, trainGiven } from "../rlhf/ppo/given.ts";
import { distance, recordParity, savedWeights, weightsOf } from "./parity.ts";
import { askPython } from "./python.ts";
import { withoutTrl as reason, words, writeModel } from "./trl.ts";

const trl = process.env.WEBRLHF_TRL_PPO;

const LONGEST = 9;
const SEED = 3;
type Dialect = "paddle" | "paddle-late" | "safe" | "trl";

/** The defaults of the programs, by their own sources; PaddleNLP's names where they have one. */
const paddle = {
  max_grad_norm: 1,
  adam_beta1: 0.9,
  adam_beta2: 0.95,
  kl_coeff: 0.02,
  clip_range_ratio: 0.2,
  clip_range_score: 50,
  clip_range_value: 5,
  ptx_coeff: 16,
  gamma: 1,
  lam: 0.95,
  update_iters: 1,
  temperature: 1,
};
const defaults: Record<Dialect, object> = {
  paddle,
  "paddle-late": { ...paddle, clip_range_score: 10, normalize_reward: true, normalize_advantage: true },
  safe: paddle,
  trl: {
    ...paddle,
    max_grad_norm: 0,
    adam_beta2: 0.999,
    kl_coeff: 0.05,
    kl_estimator: "k1",
    clip_range_value: 0.2,
    update_iters: 4,
    vf_coef: 0.1,
    response_length: LONGEST,
    whiten_rewards: false,
    missing_eos_penalty: 0,
  },
};

/** Settings of these cases by the names of both sides. */
const theirNames: Partial<Record<keyof PpoSettings, string>> = {
  numGenerations: "num_return_sequences",
  perDeviceTrainBatchSize: "per_device_train_batch_size",
  gradientAccumulationSteps: "gradient_accumulation_steps",
  numPpoEpochs: "update_iters",
  learningRate: "learning_rate",
  lrSchedulerType: "lr_scheduler_type",
  warmupSteps: "warmup_steps",
  weightDecay: "weight_decay",
  criticLearningRate: "critic_learning_rate",
  criticLrSchedulerType: "critic_lr_scheduler_type",
  criticWarmupSteps: "critic_warmup_steps",
  criticWeightDecay: "critic_weight_decay",
  klCoef: "kl_coeff",
  klEstimator: "kl_estimator",
  clipRangeScore: "clip_range_score",
  clipRangeValue: "clip_range_value",
  temperature: "temperature",
  ptxCoef: "ptx_coeff",
  whitenRewards: "whiten_rewards",
  missingEosPenalty: "missing_eos_penalty",
  gamma: "gamma",
};

interface Case {
  name: string;
  dialect: Dialect;
  rollouts: number;
  prompts: number;
  settings: Partial<PpoSettings>;
  ptx?: boolean;
}

const schedules = {
  learningRate: 2e-3,
  lrSchedulerType: "cosine",
  warmupSteps: 2,
  weightDecay: 0.01,
  criticLearningRate: 1e-3,
  criticLrSchedulerType: "constant",
  criticWarmupSteps: 2, // which constant does not have
  criticWeightDecay: 0,
} as const;
/** One optimizer for both models, as TRL has it. */
const together = {
  learningRate: 1e-3,
  lrSchedulerType: "linear",
  warmupSteps: 1,
  weightDecay: 0.01,
  criticLearningRate: 1e-3,
  criticLrSchedulerType: "linear",
  criticWarmupSteps: 1,
  criticWeightDecay: 0.01,
} as const;

const cases: Case[] = [
  {
    name: "two responses to each of 4 prompts, passes of 2, accumulation 2, two epochs",
    dialect: "paddle",
    rollouts: 3,
    prompts: 4,
    settings: { numGenerations: 2, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, numPpoEpochs: 2 },
  },
  {
    name: "three responses to each of 5 prompts, passes of 2 and 1, score clipped at 1",
    dialect: "paddle",
    rollouts: 2,
    prompts: 5,
    settings: { numGenerations: 3, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 1, clipRangeScore: 1 },
  },
  {
    name: "ptx, accumulation 2",
    dialect: "paddle",
    rollouts: 5,
    prompts: 4,
    settings: { numGenerations: 2, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, ptxCoef: 2 },
    ptx: true,
  },
  {
    name: "two responses to each of 6 prompts, passes of 3, accumulation 2, temperature 0.7, scores and advantages normalised",
    dialect: "paddle-late",
    rollouts: 5,
    prompts: 6,
    settings: { numGenerations: 2, perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 2, temperature: 0.7 },
  },
  {
    name: "two responses to each of 6 prompts, passes of 3, accumulation 2, every reward clipped at 0.5, KL 0.3",
    dialect: "safe",
    rollouts: 5,
    prompts: 6,
    settings: {
      numGenerations: 2,
      perDeviceTrainBatchSize: 3,
      gradientAccumulationSteps: 2,
      clipRangeScore: 0.5,
      klCoef: 0.3,
    },
  },
  {
    name: "passes of 3, accumulation 3, four epochs, temperature 0.7",
    dialect: "trl",
    rollouts: 4,
    prompts: 9,
    settings: { perDeviceTrainBatchSize: 3, gradientAccumulationSteps: 3, temperature: 0.7 },
  },
  {
    name: "passes of 2, accumulation 4, k3, whitened rewards, a penalty for missing ends, gamma 0.9",
    dialect: "trl",
    rollouts: 4,
    prompts: 8,
    settings: {
      perDeviceTrainBatchSize: 2,
      gradientAccumulationSteps: 4,
      klEstimator: "k3",
      whitenRewards: true,
      missingEosPenalty: 1,
      gamma: 0.9,
    },
  },
];

/** Prompts of 1 to 6 tokens, responses of 1 to 9 that end or are as long as they may be, rewards from -2 to 2. */
function rolloutsOf(c: Case, at: number): GivenResponse[][] {
  const samples = c.settings.numGenerations ?? 1;
  return Array.from({ length: c.rollouts }, (_, r) =>
    Array.from({ length: c.prompts * samples }, (_, i) => {
      const prompt = Math.floor(i / samples);
      const draw = (what: number) => uint32(17, at, r, i, what);
      const ended = draw(0) % 4 > 0;
      const response = words(ended ? draw(1) % LONGEST : LONGEST, at, r, i);
      return {
        prompt: words(1 + (uint32(18, at, r, prompt) % 6), at, r, prompt, 77),
        response: ended ? [...response, 1] : response,
        ended,
        reward: ((draw(2) % 9) - 4) / 2,
      };
    }),
  );
}

const supervised: GivenResponse[] = Array.from({ length: 7 }, (_, i) => ({
  prompt: words(1 + (uint32(19, i) % 4), i, 5),
  response: [...words(1 + (uint32(19, i, 1) % 6), i, 6), 1],
  ended: true,
  reward: 0,
}));

/** What the other side is told of a case. */
function requested(c: Case, at: number, out: string) {
  const own = { ...(c.dialect === "trl" ? together : schedules), ...c.settings };
  const settings = Object.fromEntries(
    Object.entries(own).map(([name, value]) => [theirNames[name as keyof PpoSettings], value]),
  );
  const rollouts = rolloutsOf(c, at);
  const epochs = 4;
  const orders = rollouts.map((rollout, r) =>
    Array.from({ length: epochs }, (_, epoch) => [...permutation(rollout.length, SEED, r * epochs + epoch + 1)]),
  );
  const order = new PromptOrder(supervised.length, SEED);
  const ptx = rollouts.map(({ length }, r) => order.take(r * length, length).map((i) => supervised[i]));
  return {
    dialect: c.dialect,
    settings: { num_return_sequences: 1, ...defaults[c.dialect], ...settings },
    rollouts,
    ...(c.dialect === "trl" && { orders }),
    ...(c.ptx && { ptx }),
    out,
  };
}

/** What both log; TRL's means of ratios, their KL and entropies count padding, too. */
const logged = [
  "loss/policy_avg",
  "loss/value_avg",
  "lr",
  "objective/entropy",
  "objective/kl",
  "objective/non_score_reward",
  "objective/rlhf_reward",
  "objective/scores",
  "policy/clipfrac_avg",
  "val/clipfrac_avg",
  "val/num_eos_tokens",
];

interface Models {
  policy: string;
  reference: string;
  critic: string;
}

/** Trains here, and gives the weights of policy and critic in the end, and the metrics of every rollout. */
async function trained(c: Case, at: number, folders: Models) {
  const files = await diskFiles();
  const [policy, reference] = [await loadCausalLM(files, folders.policy), await loadCausalLM(files, folders.reference)];
  const critic = await loadScoreModel(files, folders.critic);
  const run = {
    dialect: c.dialect,
    settings: { ...(c.dialect === "trl" ? together : schedules), ...c.settings },
    rollouts: rolloutsOf(c, at),
    ...(c.ptx && { ptx: supervised }),
  };
  const metrics = await trainGiven({ policy, reference, critic }, run, { responseLength: LONGEST, seed: SEED });
  const weights = { policy: await weightsOf(policy), critic: await weightsOf(critic), metrics };
  for (const model of [policy, reference, critic]) model.destroy();
  return weights;
}

interface Answer {
  versions: Record<string, string>;
  steps: number[];
  logs: Record<string, number>[][];
}

const ask = (request: string, how: "reference" | "original"): Answer =>
  askPython("check_ppo.py", [request, how], how === "original" ? { env: { PYTHONPATH: trl } } : {});

describe.skipIf(reason)(`PPO beside PyTorch${reason && ` (skipped: ${reason})`}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "webrlhf-ppo-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const folders: Models = { policy: join(folder, "p"), reference: join(folder, "r"), critic: join(folder, "c") };
  let reference: Answer;
  let original: Answer | null = null;

  beforeAll(async () => {
    await gpuReady();
    await writeModel(folders.policy);
    await writeModel(folders.reference, { near: 8 });
    await writeModel(folders.critic, { kind: ScoreModel, seed: 6 });
    const asked = (how: "reference" | "original") => {
      const runs = cases.flatMap((c, i) =>
        how === "reference" || c.dialect === "trl" ? [requested(c, i, join(folder, how, `${i}`))] : [],
      );
      const path = join(folder, `${how}.json`);
      writeFileSync(path, JSON.stringify({ ...folders, runs }));
      return ask(path, how);
    };
    reference = asked("reference");
    if (trl) original = asked("original");
  }, 900_000);

  it.each(cases.map((c, i) => [c.dialect, c.name, i] as const))("%s: %s", { timeout: 120_000 }, async (_, name, at) => {
    const c = cases[at];
    const ours = await trained(c, at, folders);
    const compare = async (how: "reference" | "original", other: string, steps: number) => {
      const saved = join(folder, how, `${at}`);
      const [policy, critic] = [
        distance(
          ours.policy,
          await savedWeights(loadCausalLM, join(saved, "policy")),
          await savedWeights(loadCausalLM, folders.policy),
        ),
        distance(
          ours.critic,
          await savedWeights(loadScoreModel, join(saved, "critic")),
          await savedWeights(loadScoreModel, folders.critic),
        ),
      ];
      const method = `PPO, ${c.dialect}`;
      recordParity({ method: `${method}: policy`, settings: name, other, steps, ...policy });
      recordParity({ method: `${method}: critic`, settings: name, other, steps, ...critic });
    };
    const { torch, transformers } = reference.versions;
    await compare(
      "reference",
      `PyTorch ${torch}, float64, models of transformers ${transformers}`,
      reference.steps[at],
    );
    if (!original || c.dialect !== "trl") return;
    const own = cases.slice(0, at).filter(({ dialect }) => dialect === "trl").length;
    expect(original.steps[own]).toBe(reference.steps[at]);
    await compare("original", `PPOTrainer of TRL ${original.versions.trl}`, original.steps[own]);
    // Penalties for missing ends are part of TRL's scores.
    const names = logged.filter((name) => !(c.settings.missingEosPenalty && name === "objective/scores"));
    original.logs[own].forEach((log, rollout) => {
      for (const metric of names) {
        const [here, there] = [ours.metrics[rollout][metric], log[metric]];
        const apart = Math.abs(here - there) / Math.max(0.1, Math.abs(there));
        expect(apart, `rollout ${rollout}: ${metric} is ${here}, not ${there}`).toBeLessThan(1e-4);
      }
    });
  });
});
