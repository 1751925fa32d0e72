/** Every number that online iterative DPO reports, of its rounds and its steps, against float64; see `ppo-metrics.test.ts`. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { type Response, trainIteratively } from "webrlhf/rlhf";
import { gpuReady } from "../../helpers.ts";
import { collect } from "../tiny.ts";
import {
  deviation,
  distinct,
  evener,
  eventsOf,
  expectMetrics,
  languageModel,
  longer,
  mean,
  predicted,
  prompts,
  Recorder,
  responseTokens,
  richer,
  scripted,
  share,
  sum,
  unique,
  wordTokenizer,
} from "./rollout-reference.ts";

beforeAll(gpuReady);

const ROUNDS = 2;
const K = 3;
const EPOCHS = 2;
const BATCH = 2;
const BETA = 0.3;
const sizes = {
  iterations: ROUNDS,
  promptsPerIteration: 6,
  numGenerations: K,
  responseLength: 7,
  temperature: 0.8,
  numTrainEpochs: EPOCHS,
  perDeviceTrainBatchSize: BATCH,
  learningRate: 0.02,
  lrSchedulerType: "linear",
  warmupSteps: 1,
  maxGradNorm: 0.5,
  beta: BETA,
  rewardWeights: [0.7, -1.2],
  marginScale: 0.5,
  showSamples: 2,
  seed: 5,
} as const;

/** The responses to a round's second prompt are all worth the same; held-out ones are not. */
const flat = (r: Response) => r.prompt === 1 && r.promptText.startsWith("prompt");
const parts = {
  longer: (r: Response) => (flat(r) ? 0.4 : longer(r)),
  evener: (r: Response) => (flat(r) ? 0.4 : evener(r)),
};
const rewardOf = (r: Response): number => 0.7 * parts.longer(r) - 1.2 * parts.evener(r);
const held = prompts(4).map((prompt, i) => ({ ...prompt, text: `held out ${i}` }));

interface Rules {
  settings: Record<string, unknown>;
  /** What chooses the two responses. */
  chooses: (response: Response) => number;
  /** The reference of a round is the model that it starts from, or the first of all. */
  previous: boolean;
}

const variants: Record<string, Rules> = {
  "against the model before": { settings: { reference: "previous" }, chooses: rewardOf, previous: true },
  "against the first model, long responses penalised": {
    settings: { reference: "initial", chooseType: "max_min_p", lengthPenalty: 0.04 },
    chooses: (r) => rewardOf(r) - 0.04 * r.text.length,
    previous: false,
  },
};

/** Runs a variant and keeps everything that the reference needs. */
async function observed({ settings }: Rules) {
  const policy = languageModel(1, "policy");
  const initial = languageModel(1, "initial");
  const start = await initial.store.read();
  const recorder = new Recorder([policy, initial], { policy: [2] });
  const judged: Response[][] = [];
  const evaluated: Response[][] = [];
  const models = {
    policy,
    initial,
    tokenizer: wordTokenizer,
    rewards: {
      longer: (all: readonly Response[]) => {
        (all.length === held.length ? evaluated : judged).push([...all]);
        return all.map(parts.longer);
      },
      evener: (all: readonly Response[]) => all.map(parts.evener),
    },
    gold: richer,
    sampler: scripted([3, -7, 1, 6, -2, 5, 7], () => recorder.mark()),
  };
  try {
    const folder = { files: memoryFiles(), path: "run" };
    const data = { train: prompts(12), eval: held };
    const events = await collect(trainIteratively(models, data, { ...sizes, ...settings }, { folder }));
    return {
      events,
      judged,
      evaluated,
      start,
      passes: recorder.rollouts("policy"),
      steps: await recorder.steps("policy"),
    };
  } finally {
    recorder.close();
  }
}

type Observed = Awaited<ReturnType<typeof observed>>;
type Weights = Parameters<typeof predicted>[0];

const under = (weights: Weights, { ids, promptLength }: Response) => predicted(weights, ids, promptLength);
const logProb = (weights: Weights, r: Response): number => sum(under(weights, r).logProbs);
/** Mean over responses of log p / p_start. */
const divergence = (weights: Weights, start: Weights, responses: Response[]) =>
  mean(responses.map((r) => logProb(weights, r) - logProb(start, r)));

interface Pair {
  chosen: Response;
  rejected: Response;
}

/** The best and the worst response of each prompt, by what chooses; the better one by reward is chosen, equal ones are left. */
function pairsOf(responses: Response[], chooses: (r: Response) => number): Pair[] {
  const rows = Array.from({ length: responses.length / K }, (_, i) => responses.slice(i * K, (i + 1) * K));
  return rows.flatMap((row) => {
    const most = row.reduce((a, b) => (chooses(b) > chooses(a) ? b : a));
    const least = row.reduce((a, b) => (chooses(b) < chooses(a) ? b : a));
    if (Math.abs(rewardOf(most) - rewardOf(least)) < 1e-9) return [];
    return [rewardOf(most) > rewardOf(least) ? { chosen: most, rejected: least } : { chosen: least, rejected: most }];
  });
}

/** The numbers of DPO's step on some pairs. */
function stepMetrics(pairs: Pair[], weights: Weights, reference: Weights): Record<string, number> {
  const sides = (["chosen", "rejected"] as const).map((side) =>
    pairs.map((pair) => {
      const { logProbs, entropy, meanLogits } = under(weights, pair[side]);
      return {
        logProb: sum(logProbs),
        reward: BETA * (sum(logProbs) - logProb(reference, pair[side])),
        entropy,
        meanLogits,
      };
    }),
  );
  const [chosen, rejected] = sides;
  const margins = chosen.map(({ reward }, i) => reward - rejected[i].reward);
  return {
    loss: mean(margins.map((margin) => Math.log(1 + Math.exp(-margin)))),
    entropy: mean([...chosen, ...rejected].flatMap(({ entropy }) => entropy)),
    "rewards/chosen": mean(chosen.map(({ reward }) => reward)),
    "rewards/rejected": mean(rejected.map(({ reward }) => reward)),
    "rewards/margins": mean(margins),
    "rewards/accuracies": share(margins, (margin) => margin > 0),
    "logps/chosen": mean(chosen.map(({ logProb }) => logProb)),
    "logps/rejected": mean(rejected.map(({ logProb }) => logProb)),
    "logits/chosen": mean(chosen.flatMap(({ meanLogits }) => meanLogits)),
    "logits/rejected": mean(rejected.flatMap(({ meanLogits }) => meanLogits)),
  };
}

/** The policy on held-out prompts. */
function heldOut(responses: Response[], weights: Weights, start: Weights): Record<string, number> {
  const [rewards, golds] = [responses.map(rewardOf), responses.map(richer)];
  const texts = responses.map(({ text }) => text);
  return {
    heldout_mean_length: mean(responses.map((r) => responseTokens(r).length)),
    heldout_eos_rate: share(responses, (r) => responseTokens(r).at(-1) === 1),
    heldout_reward: mean(rewards),
    heldout_reward_std: deviation(rewards),
    heldout_gold: mean(golds),
    heldout_gold_std: deviation(golds),
    heldout_kl: divergence(weights, start, responses),
    heldout_distinct_1: distinct(texts, 1),
    heldout_distinct_2: distinct(texts, 2),
    heldout_unique_1: unique(texts, 1),
    heldout_unique_2: unique(texts, 2),
    heldout_prompts: held.length,
  };
}

/** The metrics of all steps, and of all rounds; the start itself is round 0. */
function recomputed({ judged, evaluated, start, passes, steps }: Observed, { chooses, previous }: Rules) {
  const ofSteps: Record<string, number>[] = [];
  const ofRounds: Record<string, number>[] = [{ iteration: 0, ...heldOut(evaluated[0], start, start) }];
  judged.forEach((responses, i) => {
    const iteration = i + 1;
    const begun = ofSteps.length;
    const first = steps[begun].weights;
    const reference = previous ? first : start;
    const pairs = pairsOf(responses, chooses);
    const places = new Map(pairs.map((pair) => [pair.chosen.ids.join(), pair]));
    const perEpoch = Math.ceil(pairs.length / BATCH);
    const total = EPOCHS * perEpoch;
    const training = passes[i].filter(({ kind }) => kind === "hidden").slice(0, total);
    training.forEach((pass, at) => {
      const size = pass.sequences.length / 2;
      const batch = pass.sequences.slice(0, size).flatMap((ids) => places.get(ids.join()) ?? []);
      expect(batch).toHaveLength(size);
      expect(batch.map(({ rejected }) => [...rejected.ids])).toEqual(pass.sequences.slice(size));
      const { weights, gradNorm } = steps[begun + at];
      const learningRate = at < 1 ? 0 : 0.02 * (1 - (at - 1) / (total - 1));
      expect(steps[begun + at].rate).toBeCloseTo(learningRate, 12);
      ofSteps.push({
        iteration,
        ...stepMetrics(batch, weights, reference),
        learning_rate: learningRate,
        grad_norm: gradNorm,
        skipped_steps: steps.slice(begun, begun + at + 1).filter((step) => !Number.isFinite(step.gradNorm)).length,
      });
    });
    const trained = steps[begun + total].weights;
    const after = stepMetrics(pairs, trained, reference);
    const rows = Array.from({ length: responses.length / K }, (_, r) => responses.slice(r * K, (r + 1) * K));
    ofRounds.push({
      iteration,
      mean_length: mean(responses.map((r) => responseTokens(r).length)),
      eos_rate: share(responses, (r) => responseTokens(r).at(-1) === 1),
      reward: mean(responses.map(rewardOf)),
      reward_top1: mean(rows.map((row) => Math.max(...row.map(rewardOf)))),
      gold: mean(responses.map(richer)),
      kl: divergence(
        first,
        start,
        rows.map((row) => row[0]),
      ),
      pairs: pairs.length,
      ties: rows.length - pairs.length,
      prompts: rows.length,
      margin: 0.5 * mean(pairs.map(({ chosen, rejected }) => rewardOf(chosen) - rewardOf(rejected))),
      chosen_length: mean(pairs.map(({ chosen }) => responseTokens(chosen).length)),
      rejected_length: mean(pairs.map(({ rejected }) => responseTokens(rejected).length)),
      accuracy: after["rewards/accuracies"],
      reward_margin: after["rewards/margins"],
      ...heldOut(evaluated[iteration], trained, start),
    });
  });
  return { ofSteps, ofRounds };
}

describe("iterative dpo", () => {
  it.each(Object.keys(variants))("reports what float64 finds (%s)", async (name) => {
    const run = await observed(variants[name]);
    const { ofSteps, ofRounds } = recomputed(run, variants[name]);
    const steps = eventsOf(run.events, "step");
    expect(steps).toHaveLength(ofSteps.length);
    steps.forEach(({ step, metrics }, i) => {
      expect(step).toBe(i + 1);
      expectMetrics(metrics, ofSteps[i], `step ${i + 1}`);
    });
    const rounds = eventsOf(run.events, "eval");
    expect(rounds).toHaveLength(ROUNDS + 1);
    rounds.forEach(({ metrics }, i) => {
      expectMetrics(metrics, ofRounds[i], `round ${i}`);
    });
    eventsOf(run.events, "samples").forEach(({ samples }, i) => {
      expect(samples).toEqual(
        run.evaluated[i].slice(0, 2).map((r) => ({
          prompt: r.promptText,
          response: r.text,
          reward: expect.closeTo(rewardOf(r), 12),
          gold: richer(r),
        })),
      );
    });
    expect(ofRounds[1].ties).toBeGreaterThan(0);
    expect(eventsOf(run.events, "end")[0].metrics).toEqual(rounds[ROUNDS].metrics);
  });
});
