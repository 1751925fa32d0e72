/**
 * The losses of TRL's GRPOTrainer and RLOOTrainer, with gradients, beside webrlhf's, on the fixture's log-probabilities; its
 * overlong penalty; and both trainers from one model, on the same responses and rewards, with every number that they publish and the weights in the end.
 * Needs a Python with torch, transformers and trl: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the
 * reason, where there is none.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { loadCausalLM } from "webrlhf/nn";
import {
  averagingWeights,
  type LossAveraging,
  overlongPenalty,
  type RatioLossOptions,
  type Response,
  ratioLoss,
  type Sampler,
  trainGrpo,
  trainRloo,
} from "webrlhf/rlhf";
import { permutation, uint32 } from "../../src/runtime/rng.ts";
import { differentiate } from "../differentiate.ts";
import { type FixtureArray, numbers } from "../fixture.ts";
import fixture from "../fixtures/group.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { collect, metricsOf, tokenizer } from "../rlhf/tiny.ts";
import { distance, recordParity, savedWeights, splitName, type Weights, weightsOf } from "./parity.ts";
import { askPython } from "./python.ts";
import { deviations, withoutTrl as reason, type Steps, VOCAB, words, writeModel } from "./trl.ts";

const { losses } = fixture;

const folder = mkdtempSync(join(tmpdir(), "webrlhf-trl-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [, slots] = losses.mask.shape;
const table = (a: FixtureArray): number[][] => {
  const all = numbers(a);
  return Array.from({ length: all.length / slots }, (_, row) => all.slice(row * slots, (row + 1) * slots));
};
const mask = table(losses.mask);
/** One advantage per response, as TRL's trainers have them. */
const advantages = table(losses.advantages).map((row) => row[0]);
const lengths = [1, 16, 17, 19, 20, 25];

const job = {
  ...losses,
  mask,
  logProbs: table(losses.logProbs),
  oldLogProbs: table(losses.oldLogProbs),
  refLogProbs: table(losses.refLogProbs),
  advantages,
  cases: losses.cases.map(({ averaging, options }) => ({
    trainer: options.level === "product" ? "rloo" : "grpo",
    lossType: options.cispo ? "cispo" : options.sapo ? "sapo" : averaging,
    options,
  })),
  lengths,
  longest: 20,
  buffer: 4,
};

interface Answer {
  cases: { loss: number; gradient: number[][] }[];
  penalties: number[];
}

/** What is live of some rows, as one list. */
const live = (rows: readonly number[][], part: readonly number[]): number[] =>
  part.flatMap((row) => rows[row].filter((_, t) => mask[row][t] === 1));

describe.skipIf(reason)(`TRL's losses${reason && ` (skipped: ${reason})`}`, () => {
  let theirs: Answer;
  beforeAll(async () => {
    await gpuReady();
    const path = join(folder, "losses.json");
    writeFileSync(path, JSON.stringify(job));
    theirs = askPython("check_trl_group.py", ["losses", path]);
  }, 300_000);

  it.each(losses.cases.map((c, i) => [c.name, i] as const))("%s", async (_, at) => {
    const { averaging, options } = losses.cases[at];
    const want = theirs.cases[at];
    const tokens = losses.parts.map((part) => part.map((row) => mask[row].reduce((a, b) => a + b, 0)));
    const weights = averagingWeights(tokens, averaging as LossAveraging, losses);
    let loss = 0;
    for (const [p, part] of losses.parts.entries()) {
      const host = (rows: readonly number[][]) => Float32Array.from(live(rows, part));
      const inputs = {
        oldLogProbs: host(job.oldLogProbs),
        refLogProbs: host(job.refLogProbs),
        advantages: host(mask.map((row, i) => row.map(() => advantages[i]))),
        weights: weights[p],
        lengths: tokens[p],
      };
      const [[found], gradient] = await differentiate([live(job.logProbs, part)], ([x]) =>
        ratioLoss(x, inputs, options as RatioLossOptions),
      );
      loss += found;
      expectClose(gradient, live(want.gradient, part), 5e-6, 1e-7, `gradient of part ${p}`);
    }
    // Of a response without tokens, TRL's RLOO counts -A, a constant; here it counts nothing.
    const empty = options.level === "product" ? advantages[4] / losses.parts.flat().length : 0;
    expectClose([loss], [want.loss + empty], 5e-6, 1e-7, "loss");
  });

  it("penalises overlong responses alike", async () => {
    const responses = lengths.map((n) => ({ ids: new Uint32Array(n), promptLength: 0 }) as Response);
    const found = await overlongPenalty(job.longest, job.buffer)(responses);
    expect(Array.from(found, (x) => x + 0)).toEqual(theirs.penalties.map((x) => x + 0));
  });
});

/** A rollout as TRL takes it: its prompts, responses and rewards, by response. */
interface Given {
  prompts: number[][];
  responses: number[][];
  rewards: number[];
}

const ROLLOUTS = 10;
const GROUP = 4;
const LONGEST = 9;
const prompts = Array.from({ length: 6 }, (_, i) => {
  const ids = words(1 + (uint32(8, i) % 6), i, 20);
  return { text: ids.join(" "), ids: Uint32Array.from(ids) };
});

/**
 * Responses of 1 to 9 tokens that no model drew, of which two thirds end, with rewards from 0 to 2.
 * @param ties the first prompt of every third rollout gets the same reward for all of its responses
 */
function givenResponses(ties: boolean): { sampler: Sampler; rewards: () => Promise<number[]>; rollouts: Given[] } {
  const rollouts: Given[] = [];
  const sampler: Sampler = async (asked, _, { iteration }) => {
    const rollout: Given = { prompts: [], responses: [], rewards: [] };
    rollouts.push(rollout);
    return asked.flatMap((prompt, p) =>
      Array.from({ length: GROUP }, (_, sample): Response => {
        const draw = (what: number) => uint32(9, iteration, p, sample, what);
        const ended = draw(0) % 3 > 0;
        const answer = [...words(1 + (draw(1) % (LONGEST - 1)), iteration, p, sample, 30), ...(ended ? [1] : [])];
        rollout.prompts.push([...prompt.ids]);
        rollout.responses.push(answer);
        rollout.rewards.push(ties && p === 0 && iteration % 3 === 0 ? 1 : (draw(2) % 5) / 2);
        const ids = Uint32Array.from([...prompt.ids, ...answer]);
        return { ids, promptLength: prompt.ids.length, prompt: p, sample, promptText: prompt.text, text: "", ended };
      }),
    );
  };
  return { sampler, rewards: async () => rollouts.at(-1)?.rewards as number[], rollouts };
}

const common = {
  maxSteps: ROLLOUTS,
  numGenerations: GROUP,
  responseLength: LONGEST,
  numIterations: 2,
  learningRate: 3e-3,
  lrSchedulerType: "linear",
  seed: 3,
} as const;
const theirCommon = {
  num_generations: GROUP,
  max_completion_length: LONGEST,
  num_iterations: 2,
  learning_rate: 3e-3,
  lr_scheduler_type: "linear",
  weight_decay: 0,
  max_grad_norm: 1,
  adam_beta2: 0.999,
};

/** Names of TRL's that are called otherwise here. */
const otherwise: Record<string, string> = {
  "completions/mean_length": "mean_length",
  "completions/min_length": "min_length",
  "completions/max_length": "max_length",
  "completions/mean_terminated_length": "mean_terminated_length",
  "completions/clipped_ratio": "cut_off",
};

/** What only TRL publishes, and what only webrlhf does. */
const onlyThere = [
  "clip_ratio/high_max",
  "clip_ratio/low_min",
  "completions/max_terminated_length",
  "completions/min_terminated_length",
  "num_tokens",
  "rewards/reward/mean",
  "rewards/reward/std",
  "step_time",
];
const onlyHere = [
  "distinct_1",
  "distinct_2",
  "kl_coef",
  "kl_reward",
  "n_dropped",
  "num_eos_tokens",
  "ratio",
  "reward_with_kl_penalty",
  "sampled_entropy",
  "skipped_steps",
];

interface GroupRun {
  name: string;
  trainer: "grpo" | "rloo";
  settings: Record<string, unknown>;
  ours: object;
  /** Of the same name, but of another meaning; null compares no numbers but the weights. */
  unlike: string[] | null;
}

/** Between the entropies of the first steps and the last ones, in nats. */
const ENTROPY = 3.28;
const inPassesThere = { per_device_train_batch_size: 4, gradient_accumulation_steps: 2 };
const inPassesHere = { perDeviceTrainBatchSize: 4, gradientAccumulationSteps: 2 };

// TRL's entropy is of the tokens in optimizer steps, and GRPO's KL divergence, too: here they are of the rollout's responses.
const groupRuns: GroupRun[] = [
  {
    name: "GRPO, dapo, in whole batches",
    trainer: "grpo",
    settings: { per_device_train_batch_size: 8, beta: 0.04, loss_type: "dapo", epsilon: 0.1, epsilon_high: 0.15 },
    ours: { perDeviceTrainBatchSize: 8, beta: 0.04, lossType: "dapo", epsilon: 0.1, epsilonHigh: 0.15 },
    unlike: ["entropy", "kl"],
  },
  {
    name: "GRPO, grpo, advantages by the batch, two passes a step",
    trainer: "grpo",
    settings: {
      per_device_train_batch_size: 4,
      gradient_accumulation_steps: 2,
      beta: 0.04,
      loss_type: "grpo",
      scale_rewards: "batch",
    },
    ours: {
      perDeviceTrainBatchSize: 4,
      gradientAccumulationSteps: 2,
      beta: 0.04,
      lossType: "grpo",
      scaleRewards: "batch",
    },
    // By passes there, by tokens here; and by the rollout's deviation there.
    unlike: [
      "clip_ratio/high_mean",
      "clip_ratio/low_mean",
      "clip_ratio/region_mean",
      "entropy",
      "frac_reward_zero_std",
      "kl",
    ],
  },
  {
    name: "RLOO, normalised",
    trainer: "rloo",
    settings: {
      per_device_train_batch_size: 8,
      beta: 0.05,
      normalize_advantages: true,
      reward_clip_range: [-1.2, 1.2],
    },
    ours: { perDeviceTrainBatchSize: 8, beta: 0.05, normalizeAdvantages: true, rewardClipRange: 1.2 },
    // With the KL penalty and the clip there, of plain rewards here.
    unlike: ["entropy", "frac_reward_zero_std"],
  },
  ...(["grpo", "bnpo", "dapo", "dr_grpo", "cispo"] as const).map(
    (lossType): GroupRun => ({
      name: `GRPO, ${lossType}, passes of 4, accumulation 2`,
      trainer: "grpo",
      settings: {
        ...inPassesThere,
        beta: 0.04,
        loss_type: lossType,
        ...(lossType === "cispo" && { epsilon_high: 1.5 }),
      },
      ours: { ...inPassesHere, beta: 0.04, lossType, ...(lossType === "cispo" && { epsilonHigh: 1.5 }) },
      unlike: null,
    }),
  ),
  {
    name: "GRPO, ratios of sequences, two-sided clip, temperature 0.7, three passes of 4",
    trainer: "grpo",
    settings: {
      per_device_train_batch_size: 4,
      gradient_accumulation_steps: 3,
      beta: 0.04,
      loss_type: "grpo",
      importance_sampling_level: "sequence",
      delta: 4,
      temperature: 0.7,
    },
    ours: {
      perDeviceTrainBatchSize: 4,
      gradientAccumulationSteps: 3,
      beta: 0.04,
      lossType: "grpo",
      importanceSamplingLevel: "sequence",
      delta: 4,
      temperature: 0.7,
    },
    unlike: null,
  },
  {
    name: "GRPO, dapo, passes of 4, accumulation 2, two optimizer steps to a pass over the rollout",
    trainer: "grpo",
    settings: { ...inPassesThere, steps_per_generation: 4, beta: 0.04, loss_type: "dapo" },
    ours: { ...inPassesHere, stepsPerGeneration: 4, beta: 0.04, lossType: "dapo" },
    unlike: null,
  },
  {
    name: "GRPO, sapo, passes of 4, accumulation 2",
    trainer: "grpo",
    settings: { ...inPassesThere, beta: 0.04, loss_type: "sapo", sapo_temperature_neg: 1.5 },
    ours: { ...inPassesHere, beta: 0.04, lossType: "sapo", sapoTemperatureNeg: 1.5 },
    unlike: null,
  },
  {
    name: "GRPO, dapo, an entropy bonus of 0.05",
    trainer: "grpo",
    settings: { per_device_train_batch_size: 8, loss_type: "dapo", entropy_coef: 0.05 },
    ours: { perDeviceTrainBatchSize: 8, lossType: "dapo", entropyCoef: 0.05 },
    unlike: ["entropy", "kl"],
  },
  {
    name: "GRPO, dapo, an entropy bonus that adapts to 3.28 nats",
    trainer: "grpo",
    settings: {
      per_device_train_batch_size: 8,
      loss_type: "dapo",
      use_adaptive_entropy: true,
      entropy_coef: 0.02,
      entropy_target: ENTROPY,
      entropy_coef_delta: 0.01,
      entropy_coef_max: 0.05,
    },
    ours: {
      perDeviceTrainBatchSize: 8,
      lossType: "dapo",
      useAdaptiveEntropy: true,
      entropyCoef: 0.02,
      entropyTarget: ENTROPY,
      entropyCoefDelta: 0.01,
      entropyCoefMax: 0.05,
    },
    unlike: ["entropy", "entropy_coef", "kl"],
  },
  {
    name: "RLOO, passes of 4, accumulation 2",
    trainer: "rloo",
    settings: { ...inPassesThere, beta: 0.05 },
    ours: { ...inPassesHere, beta: 0.05 },
    unlike: null,
  },
];

/** One rollout's numbers, of the optimizer steps on it: means, and the last one's learning rate and gradient norm. */
function byRollout(steps: Steps): Steps {
  return Array.from({ length: steps.length / common.numIterations }, (_, i) => {
    const own = steps.slice(i * common.numIterations, (i + 1) * common.numIterations);
    const names = [...new Set(own.flatMap((step) => Object.keys(step)))];
    return Object.fromEntries(
      names.map((name) => {
        const values = own.flatMap((step) => step[name] ?? []);
        const last = name === "learning_rate" || name === "grad_norm";
        return [
          otherwise[name] ?? name,
          last ? (values.at(-1) as number) : values.reduce((a, b) => a + b, 0) / values.length,
        ];
      }),
    );
  });
}

const without = (step: Record<string, number>, names: readonly string[]): Record<string, number> =>
  Object.fromEntries(Object.entries(step).filter(([name]) => !names.includes(name)));

describe.skipIf(reason)(`TRL's trainers of groups${reason && ` (skipped: ${reason})`}`, () => {
  it("publish the same numbers", { timeout: 600_000 }, async () => {
    await gpuReady();
    const model = await writeModel(join(folder, "model"));
    const ours: Steps[] = [];
    const weights: Weights[] = [];
    const request = { model, vocab_size: VOCAB, runs: [] as object[] };
    for (const { trainer, settings, ours: own } of groupRuns) {
      const [policy, reference] = [
        await loadCausalLM(await diskFiles(), model),
        await loadCausalLM(await diskFiles(), model),
      ];
      // Where all rewards of a group are the same, TRL's RLOO has advantages of 1e-8 instead of 0, and with them gradients, of
      // which AdamW makes whole steps.
      const { sampler, rewards, rollouts } = givenResponses(trainer === "grpo");
      const train = trainer === "grpo" ? trainGrpo : trainRloo;
      const models = { policy, reference, rewards, sampler, tokenizer };
      ours.push(metricsOf(await collect(train(models, prompts, { ...common, ...own }))));
      weights.push(await weightsOf(policy));
      for (const one of [policy, reference]) one.destroy();
      const out = join(folder, `${request.runs.length}`);
      const ordered = rollouts.map((rollout, step) => ({
        ...rollout,
        order: [...permutation(rollout.responses.length, common.seed, step + 1)],
      }));
      request.runs.push({ trainer, settings: { ...theirCommon, ...settings }, rollouts: ordered, out });
    }
    const path = join(folder, "request.json");
    writeFileSync(path, JSON.stringify(request));
    const { runs, version } = askPython<{ runs: Steps[]; version: string }>("check_trl_group.py", ["runs", path]);
    const start = await savedWeights(loadCausalLM, model);
    for (const [i, { name }] of groupRuns.entries()) {
      const apart = distance(weights[i], await savedWeights(loadCausalLM, join(folder, `${i}`)), start);
      const [method, settings] = splitName(name);
      recordParity({ method, settings, other: `TRL ${version}`, steps: runs[i].length, ...apart });
    }
    groupRuns.forEach(({ name, trainer, unlike }, i) => {
      if (unlike === null) return;
      const here = ours[i].map(({ eos_rate, kl_per_token, ...step }) =>
        without({ ...step, cut_off: 1 - eos_rate, ...(trainer === "rloo" && { kl: kl_per_token }) }, unlike),
      );
      const there = byRollout(runs[i]).map((step) => without(step, unlike));
      const found = deviations(here, there, { here: onlyHere, there: onlyThere });
      console.log(`${name} beside TRL: ${found.map(([n, d]) => `${n} ${d.toExponential(1)}`).join(", ")}`);
      for (const [metric, most] of found) expect(most, `${name}: ${metric}`).toBeLessThan(1e-3);
      if (i === 0) expect(Math.max(...here.map((step) => step["clip_ratio/region_mean"]))).toBeGreaterThan(0.02);
    });
  });
});
