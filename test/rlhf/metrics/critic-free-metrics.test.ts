/** Every number that GRPO, RLOO and REINFORCE++ report, against float64; see `ppo-metrics.test.ts`. */
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type Response, trainGrpo, trainReinforce, trainRloo } from "webrlhf/rlhf";
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
  predicted,
  prompts,
  Recorder,
  responseTokens,
  richer,
  rolloutMetrics,
  rolloutNumbers,
  scripted,
  share,
  sum,
} from "./rollout-reference.ts";

beforeAll(gpuReady);
afterEach(() => void vi.restoreAllMocks());

const ROLLOUTS = 3;
const TEMPERATURE = 0.7;
const LONGEST = 7;
const RESPONSES = 8; // of a rollout
const EPOCHS = 2;
const STEPS = 2; // of an epoch, where nothing is left out
const sizes = {
  maxSteps: ROLLOUTS,
  generationBatchSize: RESPONSES,
  perDeviceTrainBatchSize: 3,
  gradientAccumulationSteps: 2,
  numIterations: EPOCHS,
  responseLength: LONGEST,
  temperature: TEMPERATURE,
  learningRate: 0.02,
  lrSchedulerType: "cosine",
  warmupSteps: 2,
  maxGradNorm: 0.5,
  rewardWeights: [0.7, -1.2],
  showSamples: 2,
  seed: 5,
} as const;
/** Nats, amid the entropies of the optimizer steps. */
const TARGET = 2.5;
const shapes = [3, -7, 1, 6, -2, 5, 7];

/** The responses to the second prompt of a rollout are all worth the same. */
const flatly = (of: (r: Response) => number) => (r: Response) => (r.prompt === 1 ? 0.4 : of(r));
const plain = { longer: { weight: 0.7, of: longer }, evener: { weight: -1.2, of: evener } };
const withFlat = { longer: { weight: 0.7, of: flatly(longer) }, evener: { weight: -1.2, of: flatly(evener) } };

/** A token of an update; where the ratio is a sequence's, all its tokens have it. */
interface Token {
  ratio: number;
  logProb: number;
  advantage: number;
  /** exp(-d) - 1 + d of its log-ratio to the reference. */
  k3: number;
  /** Of the distribution that it was drawn from. */
  entropy: number;
}

/** What the reference has to know of a variant, in words of its own. */
interface Rules {
  train: "grpo" | "rloo" | "reinforce";
  settings: Record<string, unknown>;
  /** Responses to a prompt. */
  group: number;
  parts: typeof plain;
  /** Another reward, for responses that are nearly too long: added as it is. */
  overlong?: (length: number) => number;
  reference: boolean;
  beta: number;
  klInReward?: boolean;
  clipScore?: number;
  /** One advantage for each token of each response. */
  advantages: (rewards: number[][], parts: number[][]) => number[][];
  learned?: (response: Response, groupIsFlat: boolean) => boolean;
  level: "token" | "sequence" | "product";
  loss: (token: Token) => number;
  /** The loss of one optimizer step from its passes: [passes][sequences][tokens]. */
  average: (passes: number[][][], rollout: { tokens: number; steps: number }) => number;
  clips: (units: Token[]) => Record<string, number>;
  /** The weight of an entropy bonus; with a target, the weight that the first step begins with. */
  bonus?: { coef: number; target?: number; delta?: number; most?: number };
}

const inGroups = <T>(all: readonly T[], size: number): T[][] =>
  Array.from({ length: all.length / size }, (_, g) => all.slice(g * size, (g + 1) * size));
/** The same number for each token. */
const spread = (numbers: number[], like: number[][]): number[][] => like.map((own, i) => own.map(() => numbers[i]));
const standardized = (x: number[]): number[] => x.map((v) => (v - mean(x)) / (deviation(x) + 1e-4));

const clipped = (low: number, high: number) => (units: Token[]) => {
  const lower = share(units, ({ ratio, advantage }) => advantage < 0 && ratio < 1 - low);
  const higher = share(units, ({ ratio, advantage }) => advantage > 0 && ratio > 1 + high);
  return { "clip_ratio/low_mean": lower, "clip_ratio/high_mean": higher, "clip_ratio/region_mean": lower + higher };
};
const surrogate =
  (low: number, high: number, most = Number.POSITIVE_INFINITY) =>
  ({ ratio, advantage }: Token): number =>
    -Math.min(Math.min(ratio, most) * advantage, bounded(ratio, 1 - low, 1 + high) * advantage);

const bySequence = (passes: number[][][]) => mean(passes.flat().map(mean));
const ofRollout = (passes: number[][][], { tokens, steps }: { tokens: number; steps: number }) =>
  (sum(passes.flat(2)) * steps) / tokens;

const variants: Record<string, Rules> = {
  "grpo, two-sided, with a KL loss": {
    train: "grpo",
    settings: { numGenerations: 4, lossType: "grpo", beta: 0.3, epsilon: 0.1, epsilonHigh: 0.15, delta: 1.25 },
    group: 4,
    parts: plain,
    reference: true,
    beta: 0.3,
    advantages: (rewards) => spread(inGroups(rewards.map(sum), 4).flatMap(standardized), rewards),
    level: "token",
    loss: (token) => surrogate(0.1, 0.15, 1.25)(token) + 0.3 * token.k3 * token.ratio,
    average: bySequence,
    clips: clipped(0.1, 0.15),
  },
  "dapo, filtered": {
    train: "grpo",
    settings: {
      numGenerations: 2,
      lossType: "dapo",
      scaleRewards: "batch",
      epsilon: 0.1,
      dynamicFiltering: true,
      maxNumGenBatches: 1,
      maskTruncatedCompletions: true,
    },
    group: 2,
    parts: withFlat,
    reference: true,
    beta: 0,
    advantages: (rewards) => {
      const totals = rewards.map(sum);
      const compared = inGroups(totals, 2).flatMap((g) => g.map((r) => (r - mean(g)) / (deviation(totals) + 1e-4)));
      return spread(compared, rewards);
    },
    learned: ({ ended }, groupIsFlat) => ended && !groupIsFlat,
    level: "token",
    loss: surrogate(0.1, 0.1),
    average: ofRollout,
    clips: clipped(0.1, 0.1),
  },
  "gspo of two rewards, one for length": {
    train: "grpo",
    settings: {
      numGenerations: 4,
      lossType: "bnpo",
      importanceSamplingLevel: "sequence",
      multiObjectiveAggregation: "normalize_then_sum",
      useBiasCorrectionKl: false,
      beta: 0.2,
      epsilon: 0.04,
      overlongBufferLen: 3,
      overlongPenaltyFactor: 0.8,
    },
    group: 4,
    parts: plain,
    overlong: (length) => (length <= 4 ? 0 : (-0.8 * (length - 4)) / 3),
    reference: true,
    beta: 0.2,
    advantages: (rewards, parts) => {
      const each = parts.map((own) => inGroups(own, 4).flatMap(standardized));
      const sums = rewards.map((_, i) => 0.7 * each[0][i] - 1.2 * each[1][i] + each[2][i]);
      return spread(standardized(sums), rewards);
    },
    level: "sequence",
    loss: (token) => surrogate(0.04, 0.04)(token) + 0.2 * token.k3,
    average: (passes) => mean(passes.map((pass) => mean(pass.flat()))),
    clips: clipped(0.04, 0.04),
  },
  "dr. grpo": {
    train: "grpo",
    settings: { numGenerations: 4, lossType: "dr_grpo", scaleRewards: "none", epsilon: 0.1 },
    group: 4,
    parts: plain,
    reference: true,
    beta: 0,
    advantages: (rewards) =>
      spread(
        inGroups(rewards.map(sum), 4).flatMap((g) => g.map((r) => r - mean(g))),
        rewards,
      ),
    level: "token",
    loss: surrogate(0.1, 0.1),
    average: (passes) => sum(passes.flat(2)) / (LONGEST * passes.flat().length),
    clips: clipped(0.1, 0.1),
  },
  "cispo, without a reference": {
    train: "grpo",
    settings: { numGenerations: 4, lossType: "cispo", epsilonHigh: 1.1 },
    group: 4,
    parts: plain,
    reference: false,
    beta: 0,
    advantages: (rewards) => spread(inGroups(rewards.map(sum), 4).flatMap(standardized), rewards),
    level: "token",
    loss: ({ ratio, advantage, logProb }) => -Math.min(ratio, 1.1) * advantage * logProb,
    average: ofRollout,
    clips: (units) => ({ cispo_clip_ratio: share(units, ({ ratio, advantage }) => advantage > 0 && ratio > 1.1) }),
  },
  "sapo, with an entropy bonus": {
    train: "grpo",
    settings: { numGenerations: 4, lossType: "sapo", sapoTemperaturePos: 2, sapoTemperatureNeg: 3, entropyCoef: 0.3 },
    group: 4,
    parts: plain,
    reference: true,
    beta: 0,
    advantages: (rewards) => spread(inGroups(rewards.map(sum), 4).flatMap(standardized), rewards),
    level: "token",
    loss: ({ ratio, advantage }) => {
      const tau = advantage > 0 ? 2 : 3;
      return (-4 * advantage) / tau / (1 + Math.exp(tau - tau * ratio));
    },
    average: bySequence,
    clips: () => ({}),
    bonus: { coef: 0.3 },
  },
  "dapo, with an entropy bonus that adapts": {
    train: "grpo",
    settings: {
      numGenerations: 4,
      epsilon: 0.1,
      useAdaptiveEntropy: true,
      entropyCoef: 0.05,
      entropyTarget: TARGET,
      entropyCoefDelta: 0.04,
      entropyCoefMax: 0.1,
    },
    group: 4,
    parts: plain,
    reference: true,
    beta: 0,
    advantages: (rewards) => spread(inGroups(rewards.map(sum), 4).flatMap(standardized), rewards),
    level: "token",
    loss: surrogate(0.1, 0.1),
    average: ofRollout,
    clips: clipped(0.1, 0.1),
    bonus: { coef: 0.05, target: TARGET, delta: 0.04, most: 0.1 },
  },
  rloo: {
    train: "rloo",
    settings: {
      numGenerations: 4,
      beta: 0.2,
      epsilon: 0.1,
      epsilonHigh: 0.3,
      rewardClipRange: 0.6,
      normalizeAdvantages: true,
    },
    group: 4,
    parts: plain,
    reference: true,
    beta: 0.2,
    klInReward: true,
    clipScore: 0.6,
    advantages: (rewards) => {
      const alone = inGroups(rewards.map(sum), 4).flatMap((g) =>
        g.map((r, i) => r - mean(g.filter((_, other) => other !== i))),
      );
      return spread(standardized(alone), rewards);
    },
    level: "product",
    loss: surrogate(0.1, 0.3),
    average: bySequence,
    clips: clipped(0.1, 0.3),
  },
  "reinforce++": {
    train: "reinforce",
    settings: { beta: 0.2, epsilon: 0.1, rewardClipRange: 0.6, gamma: 0.9 },
    group: 1,
    parts: plain,
    reference: true,
    beta: 0.2,
    klInReward: true,
    clipScore: 0.6,
    advantages: (rewards) => {
      const returns = rewards.map((own) => own.map((_, t) => sum(own.slice(t).map((r, later) => 0.9 ** later * r))));
      const all = returns.flat();
      const spreadOf = Math.sqrt(mean(all.map((x) => (x - mean(all)) ** 2)) + 1e-8);
      return returns.map((own) => own.map((x) => (x - mean(all)) / spreadOf));
    },
    level: "token",
    loss: surrogate(0.1, 0.1),
    average: ofRollout,
    clips: clipped(0.1, 0.1),
  },
};

/** Runs a variant and keeps everything that the reference needs. */
async function observed({ train, settings, parts, reference: compared }: Rules) {
  const policy = languageModel(1, "policy");
  const reference = languageModel(2, "reference");
  const recorder = new Recorder([policy, reference], { policy: [2] });
  const rolled: Response[][] = [];
  let now = 100;
  vi.spyOn(performance, "now").mockImplementation(() => now * 1000);
  const sampler = scripted(shapes, () => {
    recorder.mark();
    now += 2;
  });
  const models = {
    policy,
    reference: compared ? reference : null,
    tokenizer,
    rewards: {
      longer: (all: readonly Response[]) => {
        rolled.push([...all]);
        return all.map(parts.longer.of);
      },
      evener: (all: readonly Response[]) => all.map(parts.evener.of),
    },
    gold: richer,
    sampler,
  };
  const trainers = { grpo: trainGrpo, rloo: trainRloo, reinforce: trainReinforce };
  try {
    const events = await collect(trainers[train](models, prompts(6), { ...sizes, ...settings }));
    const weights = await reference.store.read();
    return {
      events,
      rolled,
      reference: weights,
      passes: recorder.rollouts("policy"),
      steps: await recorder.steps("policy"),
    };
  } finally {
    recorder.close();
  }
}

/** All metrics of all rollouts. */
function recomputed({ rolled, reference, passes, steps }: Awaited<ReturnType<typeof observed>>, rules: Rules) {
  const { group, beta, klInReward = false, clipScore = Number.POSITIVE_INFINITY, level } = rules;
  let done = 0;
  let coef = rules.bonus?.coef ?? 0;
  let applied = rules.bonus?.target === undefined ? coef : 0;
  const seen = new Set<number>();
  const all = rolled.map((responses, rollout) => {
    const [measuring, ...updating] = passes[rollout];
    const under = (weights: Parameters<typeof predicted>[0], r: Response) =>
      predicted(weights, r.ids, r.promptLength, TEMPERATURE);
    const own = responses.map((r) => under(steps[measuring.steps].weights, r));
    const logProbs = own.map((o) => o.logProbs);
    const refLogProbs = responses.map((r) => under(reference, r).logProbs);
    const { overlong } = rules;
    const facts = {
      responses,
      parts: {
        ...rules.parts,
        ...(overlong && { overlong: { weight: 1, of: (r: Response) => overlong(responseTokens(r).length) } }),
      },
      gold: richer,
      logProbs,
      refLogProbs: rules.reference ? refLogProbs : null,
      entropy: own.map((o) => o.entropy),
      estimate: (d: number) => d,
      klCoef: beta,
      klInReward,
    };
    const { scores, kl } = rolloutNumbers(facts);
    const rewards = kl.map((terms, i) =>
      terms.map((term, t) => {
        const score = t === terms.length - 1 ? bounded(scores[i], -clipScore, clipScore) : 0;
        return score - (klInReward ? beta * term : 0);
      }),
    );
    const metrics: Record<string, number> = rolloutMetrics(facts, rewards);
    const flat = inGroups(scores, group).map((own) => own.every((score) => Math.abs(score - own[0]) < 1e-9));
    metrics.reward_std = deviation(scores);
    if (group > 1) metrics.frac_reward_zero_std = share(flat, (one) => one);
    const ends = responses.filter((r) => responseTokens(r).at(-1) === 1);
    metrics.mean_terminated_length = mean(ends.map((r) => responseTokens(r).length));

    const learned = responses.map((r, i) => rules.learned?.(r, flat[Math.floor(i / group)]) ?? true);
    metrics.n_dropped = learned.filter((one) => !one).length;
    const tokens = sum(logProbs.map((l, i) => (learned[i] ? l.length : 0)));
    const advantages = rules.advantages(
      rewards,
      Object.values(facts.parts).map(({ of }) => responses.map(of)),
    );
    const updates = grouped(located(updating, responses).own).map((ofStep) =>
      ofStep.map((pass) =>
        pass.places.map((i): Token[] => {
          expect(learned[i]).toBe(true);
          const { logProbs: now, entropy } = under(steps[pass.steps].weights, responses[i]);
          const differences = now.map((p, t) => p - logProbs[i][t]);
          const exponent = level === "sequence" ? mean(differences) : sum(differences);
          return now.map((logProb, t) => {
            const d = logProb - refLogProbs[i][t];
            const ratio = Math.exp(level === "token" ? differences[t] : exponent);
            return { ratio, logProb, advantage: advantages[i][t], k3: Math.exp(-d) - 1 + d, entropy: entropy[t] };
          });
        }),
      ),
    );
    const perEpoch = updates.length / EPOCHS;
    const losses = updates.map((ofStep) =>
      rules.average(
        ofStep.map((pass) => pass.map((own) => own.map(rules.loss))),
        { tokens, steps: perEpoch },
      ),
    );
    metrics.loss = mean(losses);
    if (rules.bonus) {
      metrics.policy_loss = mean(losses);
      const gained = updates.map((ofStep) => {
        const entropy = mean(ofStep.flat(2).map((token) => token.entropy));
        const counted = applied * entropy;
        const { target, delta = 0, most = 1 } = rules.bonus as NonNullable<Rules["bonus"]>;
        if (target === undefined) return counted;
        seen.add(applied);
        coef = bounded(coef + (entropy <= target ? delta : -delta), 0, most);
        applied = entropy <= target ? coef : 0;
        return counted;
      });
      metrics.loss -= mean(gained);
      metrics.entropy_coef = coef;
    }
    const units = level === "token" ? updates.flat(3) : updates.flat(2).map((own) => own[0]);
    metrics.ratio = mean(units.map(({ ratio }) => ratio));
    Object.assign(metrics, rules.clips(units));

    done += updates.length;
    const at = (rollout * EPOCHS + EPOCHS - 1) * STEPS + perEpoch - 1;
    const progress = (at - 2) / (ROLLOUTS * EPOCHS * STEPS - 2);
    metrics.learning_rate = 0.02 * 0.5 * (1 + Math.cos(Math.PI * progress));
    expect(steps[done - 1].rate).toBeCloseTo(metrics.learning_rate, 12);
    metrics.grad_norm = steps[done - 1].gradNorm;
    metrics.skipped_steps = steps.slice(0, done).filter(({ gradNorm }) => !Number.isFinite(gradNorm)).length;
    return metrics;
  });
  // A weight that never moved, or never counted, would prove nothing.
  if (rules.bonus?.target !== undefined) expect(seen.size).toBeGreaterThan(1);
  return all;
}

describe("without a critic", () => {
  it.each(Object.keys(variants))("reports what float64 finds (%s)", async (name) => {
    const rules = variants[name];
    const run = await observed(rules);
    const expected = recomputed(run, rules);
    // Settings under which nothing is clipped would prove nothing.
    for (const clip of Object.keys(expected[0]).filter((metric) => /clip/.test(metric))) {
      expect(
        expected.some((metrics) => metrics[clip] > 0),
        clip,
      ).toBe(true);
    }
    const steps = eventsOf(run.events, "step");
    expect(steps).toHaveLength(ROLLOUTS);
    steps.forEach((step, i) => {
      expectMetrics(step.metrics, expected[i], `rollout ${i + 1}`);
      const tokens = sum(run.rolled[i].map(({ ids }) => ids.length));
      expect(step).toMatchObject({ step: i + 1, maxSteps: ROLLOUTS, tokens, seconds: 2 });
      expect(step.epoch).toBeCloseTo(((i + 1) * RESPONSES) / rules.group / 6, 12);
    });
    expect(eventsOf(run.events, "end")[0].metrics).toEqual(steps[ROLLOUTS - 1].metrics);
  });
});
