/**
 * Every number that PPO reports, under each dialect, against float64: the formulas stand here once more, and the weights
 * that each pass had are read back from the run.
 */
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type Response, type TrainEvent, trainPpo } from "webrlhf/rlhf";
import { policyMetrics } from "../../../src/rlhf/ppo-metrics.ts";
import { gpuReady } from "../../helpers.ts";
import { collect, tokenizer } from "../tiny.ts";
import {
  bounded,
  deviation,
  evener,
  eventsOf,
  expectMetrics,
  grouped,
  languageModel,
  located,
  longer,
  mean,
  nll,
  predicted,
  prompts,
  Recorder,
  responseTokens,
  richer,
  rolloutMetrics,
  rolloutNumbers,
  scored,
  scoreModel,
  scripted,
  share,
  sum,
  variance,
} from "./rollout-reference.ts";

beforeAll(gpuReady);
afterEach(() => void vi.restoreAllMocks());

type Dialect = "paddle" | "paddle-late" | "safe" | "trl";
type Numbers = number[][];

const ROLLOUTS = 3;
const TEMPERATURE = 0.7;
const [GAMMA, LAMBDA] = [0.9, 0.8];
const sizes = {
  maxSteps: ROLLOUTS,
  rolloutBatchSize: 4,
  numGenerations: 2,
  perDeviceTrainBatchSize: 3,
  gradientAccumulationSteps: 2,
  numPpoEpochs: 2,
  responseLength: 7,
  temperature: TEMPERATURE,
  gamma: GAMMA,
  lam: LAMBDA,
  learningRate: 0.02,
  lrSchedulerType: "linear",
  warmupSteps: 2,
  criticLearningRate: 0.05,
  criticLrSchedulerType: "cosine",
  criticWarmupSteps: 0.25,
  maxGradNorm: 0.5,
  rewardWeights: [0.7, -1.2],
  showSamples: 3,
  seed: 5,
} as const;
const shapes = [3, -7, 1, 6, -2, 5, 7]; // responses of 7 are as long as they may be
const parts = { longer: { weight: 0.7, of: longer }, evener: { weight: -1.2, of: evener } };

/** What the reference has to know of a dialect, in words of its own. */
interface Rules {
  /** Optimizer steps of a rollout: its responses in two epochs of passes, two to a step. */
  steps: number;
  /** The learning rate changes from rollout to rollout only. */
  rateByRollout?: boolean;
  settings: Record<string, unknown>;
  klCoef: number;
  estimate: (d: number) => number;
  klInReward?: boolean;
  /** Adds the score to the KL penalties, and clips. `longest`: it fills all the room. */
  shape: (penalties: number[], score: number, longest: boolean) => number[];
  missingEos?: number;
  /** Scores are normalised by those of the run. */
  normalize?: boolean;
  target?: { kl: number; horizon: number };
  whitenRewards?: boolean;
  whitenAdvantages?: boolean;
  /** Temperatures of a rollout's and an update's log-probabilities. */
  tempered: [number, number];
  clip: [number, number];
  dualClip?: number;
  valueClip: number;
  /** Averages each sequence's tokens first. */
  bySequence?: boolean;
  klInLoss?: (d: number) => number;
  entropyBonus?: number;
  ptx?: boolean;
  /** Published names. */
  names: (m: Record<string, number>) => Record<string, number | undefined>;
}

const lastPlus = (penalties: number[], score: number) =>
  penalties.map((p, t) => (t === penalties.length - 1 ? p + score : p));

const paddleNames = (m: Record<string, number>) => ({
  "train/actor_loss": m.actor_loss,
  "train/reward_critic_loss": m.critic_loss,
  "train/ptx_loss": m.ptx_loss,
  "train/reward": m.reward,
  "train/kl_divergence": m.kl,
  "train/mean_generated_length": m.mean_length,
  "train/max_generated_length": m.max_length,
  "train/actor_lr": m.learning_rate,
  "train/reward_critic_lr": m.critic_learning_rate,
});

const dialects: Record<Dialect, Rules> = {
  paddle: {
    steps: 4,
    settings: {
      klPlacement: "loss",
      klEstimator: "k3",
      klCoef: 0.2,
      entropyCoef: 0.03,
      clipRange: 0.1,
      clipRangeValue: 0.1,
      clipRangeScore: 0.8,
      dualClip: 1.2,
      ptxCoef: 0.5,
    },
    klCoef: 0.2,
    estimate: (d) => Math.exp(-d) - 1 + d,
    klInReward: false,
    shape: (penalties, score) => lastPlus(penalties, bounded(score, -0.8, 0.8)),
    tempered: [1, 1],
    clip: [0.1, 0.1],
    dualClip: 1.2,
    valueClip: 0.1,
    klInLoss: (d) => 0.2 * (Math.exp(-d) - 1 + d),
    entropyBonus: 0.03,
    ptx: true,
    names: paddleNames,
  },
  safe: {
    steps: 4,
    settings: { klCoef: 0.3, clipRange: 0.1, clipRangeValue: 0.1, clipRangeScore: 0.6, klClamp: 1.5 },
    klCoef: 0.3,
    estimate: (d) => bounded(d, -1.5, 1.5),
    shape: (penalties, score) => lastPlus(penalties, score).map((r) => bounded(r, -0.6, 0.6)),
    tempered: [1, 1],
    clip: [0.1, 0.1],
    valueClip: 0.1,
    bySequence: true,
    names: (m) => ({
      ...paddleNames(m),
      "train/reward_with_kl_penalty": m.reward_with_kl_penalty,
      "train/reward_advantage": m.advantage,
      "train/reward_return": m.return,
      "train/reward_value": m.value,
    }),
  },
  "paddle-late": {
    steps: 3,
    settings: {
      klEstimator: "k2",
      klCoef: 0.25,
      targetKl: 3,
      klHorizon: 50,
      clipRange: 0.1,
      clipRangeHigh: 0.3,
      clipRangeScore: 1.1,
      clipRangeValue: 0.1,
    },
    klCoef: 0.25,
    target: { kl: 3, horizon: 50 },
    estimate: (d) => d ** 2 / 2,
    shape: (penalties, score) => lastPlus(penalties, bounded(score, -1.1, 1.1)),
    normalize: true,
    whitenAdvantages: true,
    tempered: [TEMPERATURE, 1],
    clip: [0.1, 0.3],
    valueClip: 0.1,
    names: (m) => ({
      train_policy_loss: m.actor_loss,
      train_value_loss: m.critic_loss,
      train_reward: m.reward,
      train_norm_reward: m.norm_reward,
      train_kl_reward: m.kl_reward,
      train_norm_reward_with_kl: m.reward_with_kl_penalty,
      train_values: m.value,
      train_returns: m.return,
      train_kl_divergence: m.kl_per_token,
      train_mean_generated_length: m.mean_length,
      train_max_generated_length: m.max_length,
      train_min_generated_length: m.min_length,
      train_policy_lr: m.learning_rate,
      train_value_lr: m.critic_learning_rate,
    }),
  },
  trl: {
    steps: 3,
    rateByRollout: true,
    settings: { klCoef: 0.2, clipRange: 0.15, missingEosPenalty: 0.9, whitenRewards: true, vfCoef: 0.3 },
    klCoef: 0.2,
    estimate: (d) => d,
    shape: (penalties, score, longest) => (longest ? lastPlus(penalties, score) : [...penalties, score]),
    missingEos: 0.9,
    whitenRewards: true,
    whitenAdvantages: true,
    tempered: [TEMPERATURE, TEMPERATURE],
    clip: [0.15, 0.15],
    valueClip: 0.2,
    names: (m) => ({
      "objective/kl": m.kl,
      "objective/entropy": m.sampled_entropy,
      "objective/non_score_reward": m.kl_reward,
      "objective/rlhf_reward": m.reward_with_kl_penalty,
      "objective/scores": m.reward,
      "policy/approxkl_avg": m.approx_kl,
      "policy/clipfrac_avg": m.bound_fraction,
      "policy/entropy_avg": m.policy_entropy,
      "loss/policy_avg": m.actor_loss,
      "loss/value_avg": m.critic_loss,
      "val/clipfrac_avg": m.value_clip_fraction,
      "val/ratio": m.ratio,
      "val/ratio_var": m.ratio_var,
      "val/num_eos_tokens": m.num_eos_tokens,
      lr: m.learning_rate,
    }),
  },
};

/** Supervised sequences. */
const remembered = (seed: number) =>
  prompts(5 + seed).map(({ ids }, i) => ({
    ids: Uint32Array.from([...ids, 3 + ((i + seed) % 9), ...(i % 2 === 0 ? [4, 17 + (i % 3), 1] : [])]),
    promptLength: ids.length,
  }));

/** Runs PPO and keeps everything that the reference needs. The clock stands still, but for two seconds in every rollout. */
async function observed(dialect: Dialect) {
  const { settings, ptx } = dialects[dialect];
  const policy = languageModel(1, "policy");
  const reference = languageModel(2, "reference");
  const critic = scoreModel(3, "critic");
  // Gradients that are not finite, in the middle of a rollout: their steps are left out, and counted.
  const recorder = new Recorder([policy, reference, critic], { policy: [5], critic: [1, 6] });
  const judged: Response[][] = [];
  const rolled: Response[][] = [];
  let now = 100;
  vi.spyOn(performance, "now").mockImplementation(() => now * 1000);
  const sampler = scripted(shapes, () => {
    recorder.mark();
    now += 2;
  });
  const models = {
    policy,
    reference,
    critic,
    tokenizer,
    rewards: {
      longer: (all: readonly Response[]) => {
        judged.push([...all]);
        if (all.length === 8) rolled.push([...all]);
        return all.map(longer);
      },
      evener: (all: readonly Response[]) => all.map(evener),
    },
    gold: richer,
    sampler,
  };
  const data = {
    train: prompts(6),
    ...(ptx && { eval: prompts(3), ptx: remembered(0), ptxEval: remembered(1) }),
  };
  try {
    const options = { dialect, ...sizes, ...settings, ...(ptx && { evalSteps: 2 }) };
    const events = await collect(trainPpo(models, data, options));
    return {
      events,
      rolled,
      evaluated: judged.filter((all) => all.length !== 8),
      reference: await reference.store.read(),
      policy: { passes: recorder.rollouts("policy"), steps: await recorder.steps("policy") },
      critic: { passes: recorder.rollouts("critic"), steps: await recorder.steps("critic") },
    };
  } finally {
    recorder.close();
  }
}

type Observed = Awaited<ReturnType<typeof observed>>;

/** A_t = sum_l (gamma lambda)^l delta_(t + l); the value after the last token is 0. */
function advantagesOf(rewards: number[], values: number[]): number[] {
  const deltas = rewards.map((r, t) => r + GAMMA * (values[t + 1] ?? 0) - values[t]);
  return deltas.map((_, t) => sum(deltas.slice(t).map((delta, l) => (GAMMA * LAMBDA) ** l * delta)));
}

/** (x - mean) / sqrt(var + 1e-8) over all tokens. */
function whitened(all: Numbers, keepMean = false): Numbers {
  const [middle, spread] = [mean(all.flat()), Math.sqrt(variance(all.flat()) + 1e-8)];
  return all.map((own) => own.map((x) => (x - middle) / spread + (keepMean ? middle : 0)));
}

/** An average over the tokens of an optimizer step. */
const averaged = (terms: Numbers, bySequence = false): number =>
  bySequence ? mean(terms.map(mean)) : mean(terms.flat());

/** All metrics of all rollouts. */
function recomputed({ rolled, reference, policy, critic }: Observed, rules: Rules): Record<string, number>[] {
  let { klCoef } = rules;
  let running = { mean: 0, variance: 1, count: 0 };
  return rolled.map((responses, rollout) => {
    // The rollout.
    const [measuring, ...updating] = policy.passes[rollout];
    const [before, during] = rules.tempered;
    const weights = policy.steps[measuring.steps].weights;
    const own = responses.map((r) => predicted(weights, r.ids, r.promptLength, before));
    const refLogProbs = responses.map((r) => predicted(reference, r.ids, r.promptLength, before).logProbs);
    const logProbs = own.map((o) => o.logProbs);
    const facts = {
      responses,
      parts,
      gold: richer,
      logProbs,
      refLogProbs,
      entropy: own.map((o) => o.entropy),
      estimate: rules.estimate,
      klCoef,
      klInReward: rules.klInReward ?? true,
    };
    const { scores, kl } = rolloutNumbers(facts);
    let final = scores.map((score, i) => (responses[i].ended ? score : score - (rules.missingEos ?? 0)));
    if (rules.normalize) {
      const all = running.count + final.length;
      const [old, fresh] = [running.count / all, final.length / all];
      const apart = mean(final) - running.mean;
      running = {
        mean: running.mean + fresh * apart,
        variance: old * running.variance + fresh * variance(final) + old * fresh * apart ** 2,
        count: all,
      };
      final = final.map((score) => (score - running.mean) / (Math.sqrt(running.variance) + 1e-8));
    }
    const shaped = kl.map((terms, i) =>
      rules.shape(
        terms.map((term) => (facts.klInReward ? -klCoef * term : 0)),
        final[i],
        terms.length === sizes.responseLength,
      ),
    );
    const metrics: Record<string, number> = rolloutMetrics(facts, shaped);
    if (rules.normalize) metrics.norm_reward = mean(final);

    // Advantages.
    const rewards = rules.whitenRewards ? whitened(shaped, true) : shaped;
    const [valuing, ...learning] = critic.passes[rollout];
    const places = (i: number) => rewards[i].map((_, t) => responses[i].promptLength - 1 + t);
    const values = responses.map((r, i) => scored(critic.steps[valuing.steps].weights, r.ids, places(i)));
    const estimates = rewards.map((r, i) => advantagesOf(r, values[i]));
    const returns = estimates.map((a, i) => a.map((x, t) => x + values[i][t]));
    const raw = estimates.map((a, i) => a.slice(0, logProbs[i].length));
    const advantages = rules.whitenAdvantages ? whitened(raw) : raw;
    metrics.value = mean(values.map(mean));
    metrics.return = mean(returns.map(mean));
    metrics.advantage = mean(raw.map(mean));

    // The policy's passes.
    const { own: passes, beside } = located(updating, responses);
    const measured = passes.map((pass) => {
      const now = pass.places.map((i) =>
        predicted(policy.steps[pass.steps].weights, responses[i].ids, responses[i].promptLength, during),
      );
      const tokens = pass.places.map((i, k) =>
        now[k].logProbs.map((logProb, t) => ({
          ratio: Math.exp(logProb - logProbs[i][t]),
          difference: logProb - logProbs[i][t],
          advantage: advantages[i][t],
          toReference: logProb - refLogProbs[i][t],
          entropy: now[k].entropy[t],
        })),
      );
      return { ...pass, tokens };
    });
    const [low, high] = [1 - rules.clip[0], 1 + rules.clip[1]];
    const lossOf = ({ ratio, advantage, toReference, entropy }: (typeof measured)[0]["tokens"][0][0]) => {
      let objective = Math.min(ratio * advantage, bounded(ratio, low, high) * advantage);
      if (rules.dualClip && advantage < 0) objective = Math.max(objective, rules.dualClip * advantage);
      return -objective + (rules.klInLoss?.(toReference) ?? 0) - (rules.entropyBonus ?? 0) * entropy;
    };
    /** The mean over the optimizer steps of the means over their passes. */
    const ofSteps = <P extends { steps: number }>(all: P[], of: (pass: P) => number) =>
      mean(grouped(all).map((ofStep) => mean(ofStep.map(of))));
    /** The mean over the passes of the means over their tokens. */
    const ofPasses = (of: (token: (typeof measured)[0]["tokens"][0][0]) => number) =>
      mean(measured.map((pass) => mean(pass.tokens.flat().map(of))));
    const passMeans = measured.map((pass) => mean(pass.tokens.flat().map(({ ratio }) => ratio)));
    metrics.actor_loss = ofSteps(measured, ({ tokens }) =>
      averaged(
        tokens.map((s) => s.map(lossOf)),
        rules.bySequence,
      ),
    );
    metrics.approx_kl = ofPasses(({ difference }) => 0.5 * difference ** 2);
    metrics.clip_fraction = ofPasses(({ ratio }) => Number(ratio < low || ratio > high));
    metrics.bound_fraction = ofPasses(({ ratio, advantage }) => Number(advantage > 0 ? ratio > high : ratio < low));
    metrics.ratio = ofPasses(({ ratio }) => ratio);
    metrics.ratio_var = variance(passMeans);
    metrics.first_ratio = passMeans[0];
    metrics.policy_entropy = ofPasses(({ entropy }) => entropy);
    if (rules.ptx) {
      const known = new Map(remembered(0).map((one) => [one.ids.join(), one]));
      const passes = beside.filter(({ sequences }) => known.has(sequences[0].join()));
      expect(passes.map(({ sequences }) => sequences.length)).toEqual(measured.map(({ places }) => places.length));
      metrics.ptx_loss = ofSteps(passes, ({ sequences, steps }) =>
        nll(
          policy.steps[steps].weights,
          sequences.flatMap((ids) => known.get(ids.join()) ?? []),
        ),
      );
    }

    // The critic's passes.
    const valued = located(learning, responses).own.map((pass) => ({
      ...pass,
      tokens: pass.places.map((i) =>
        scored(critic.steps[pass.steps].weights, responses[i].ids, places(i)).map((value, t) => {
          const old = values[i][t];
          const near = bounded(value, old - rules.valueClip, old + rules.valueClip);
          return { free: (value - returns[i][t]) ** 2, held: (near - returns[i][t]) ** 2 };
        }),
      ),
    }));
    metrics.critic_loss = ofSteps(valued, (pass) =>
      averaged(
        pass.tokens.map((s) => s.map(({ free, held }) => 0.5 * Math.max(free, held))),
        rules.bySequence,
      ),
    );
    metrics.value_clip_fraction = mean(
      valued.map((pass) => share(pass.tokens.flat(), ({ free, held }) => held > free)),
    );

    // The optimizers: their last steps, and what they left out so far.
    const last = (rollout + 1) * rules.steps - 1;
    expect(grouped(measured)).toHaveLength(rules.steps);
    // The schedules count optimizer steps, or rollouts.
    const [at, total] = rules.rateByRollout ? [rollout, ROLLOUTS] : [last, ROLLOUTS * rules.steps];
    const warm = (steps: number) => Math.min(1, at / steps);
    const late = (steps: number) => Math.max(0, at - steps) / (total - steps);
    const criticWarmup = Math.ceil(0.25 * total);
    metrics.learning_rate = 0.02 * warm(2) * (1 - late(2));
    metrics.critic_learning_rate = 0.05 * warm(criticWarmup) * 0.5 * (1 + Math.cos(Math.PI * late(criticWarmup)));
    expect(policy.steps[last].rate).toBeCloseTo(metrics.learning_rate, 12);
    expect(critic.steps[last].rate).toBeCloseTo(metrics.critic_learning_rate, 12);
    metrics.actor_grad_norm = policy.steps[last].gradNorm;
    metrics.critic_grad_norm = critic.steps[last].gradNorm;
    const done = [policy, critic].flatMap(({ steps }) => steps.slice(0, last + 1));
    metrics.skipped_steps = done.filter(({ gradNorm }) => !Number.isFinite(gradNorm)).length;

    if (rules.target) {
      const error = bounded(metrics.kl / rules.target.kl - 1, -0.2, 0.2);
      klCoef *= 1 + (error * responses.length) / rules.target.horizon;
    }
    return metrics;
  });
}

const withNames = (metrics: Record<string, number>, { names }: Rules): Record<string, number> => ({
  ...metrics,
  ...Object.fromEntries(
    Object.entries(names(metrics)).filter((entry): entry is [string, number] => entry[1] !== undefined),
  ),
});

it("counts no token as bounded whose advantage is 0", () => {
  const logRatios = [1, 1, 1, -1, -1, -1];
  const advantages = [1, 0, -1, 1, 0, -1]; // the first and the last one's loss is bounded
  const old = new Float32Array(6);
  const pass = { logProbs: Float32Array.from(logRatios), entropy: new Float32Array(6) };
  const part = [{ logProbs: old, values: old, advantages, returns: old }];
  const found = policyMetrics([pass], [part], { clipRange: 0.2, clipRangeHigh: null });
  expect(found.clip_fraction).toBe(1);
  expect(found.bound_fraction).toBeCloseTo(1 / 3, 12);
});

describe("ppo", () => {
  it.each(Object.keys(dialects) as Dialect[])("reports what float64 finds (%s)", async (dialect) => {
    const rules = dialects[dialect];
    const run = await observed(dialect);
    const { events, rolled, evaluated, policy, reference } = run;
    const expected = recomputed(run, rules);
    const steps = eventsOf(events, "step");
    expect(steps).toHaveLength(ROLLOUTS);
    // Settings under which nothing is clipped would prove nothing.
    for (const name of ["clip_fraction", "bound_fraction", "value_clip_fraction", "eos_rate"]) {
      expect(expected[1][name] * (1 - expected[1][name]), name).toBeGreaterThan(0);
    }
    steps.forEach((step, i) => {
      expectMetrics(step.metrics, withNames(expected[i], rules), `rollout ${i + 1}`);
      const tokens = sum(rolled[i].map(({ ids }) => ids.length));
      expect(step).toMatchObject({ step: i + 1, maxSteps: ROLLOUTS, tokens, seconds: 2 });
      expect(step.epoch).toBeCloseTo(((i + 1) * 4) / 6, 12);
    });
    eventsOf(events, "samples").forEach(({ step, samples }) => {
      const shown = rolled[step - 1].slice(0, 3);
      expect(samples.map(({ response }) => response)).toEqual(shown.map(({ text }) => text));
      samples.forEach(({ reward, gold }, i) => {
        expect(reward).toBeCloseTo(0.7 * longer(shown[i]) - 1.2 * evener(shown[i]), 12);
        expect(gold).toBe(richer(shown[i]));
      });
    });
    const found = evaluations(events);
    expect(found).toHaveLength(rules.ptx ? 3 : 0);
    found.forEach(({ step, metrics }, i) => {
      const responses = evaluated[i];
      const scores = responses.map((r) => 0.7 * longer(r) - 1.2 * evener(r));
      const { weights } = policy.steps[step * rules.steps];
      const measured = (of: typeof weights, r: Response) =>
        sum(predicted(of, r.ids, r.promptLength, rules.tempered[0]).logProbs);
      const own = {
        eval_reward: mean(scores),
        eval_reward_std: deviation(scores),
        eval_gold: mean(responses.map(richer)),
        eval_mean_length: mean(responses.map((r) => responseTokens(r).length)),
        eval_eos_rate: share(responses, (r) => responseTokens(r).at(-1) === 1),
        eval_kl: mean(responses.map((r) => measured(weights, r) - measured(reference, r))),
        eval_ptx_loss: nll(weights, remembered(1)),
      };
      expectMetrics(metrics, { ...own, "eval/reward": own.eval_reward }, `evaluation after ${step}`);
    });
    const end = eventsOf(events, "end")[0];
    expect(end.metrics).toEqual({ ...steps[ROLLOUTS - 1].metrics, ...found.at(-1)?.metrics });
  });
});

const evaluations = (events: readonly TrainEvent[]) => eventsOf(events, "eval");
