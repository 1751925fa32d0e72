/** The metrics of DPO with each of its losses and of what changes what they mean, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import type { CausalLM } from "webrlhf/nn";
import { type dpo, preferenceLosses, trainDpo } from "webrlhf/rlhf";
import { keeper } from "../../keep.ts";
import {
  examplePairs,
  type Judged,
  logProbs,
  type Measured,
  measured,
  pairMetrics,
  stepLoss,
  stepMetrics,
  tokensOf,
} from "./pairs.ts";
import {
  compare,
  evaluated,
  follow,
  languageModel,
  logSigmoid,
  type Metrics,
  mean,
  microBatches,
  type Predicted,
  sigmoid,
  slices,
  sum,
} from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

const order = { seed: 5, batch: 3, accumulation: 2 };
const rate = 1e-2;
const common = {
  seed: order.seed,
  perDeviceTrainBatchSize: order.batch,
  gradientAccumulationSteps: order.accumulation,
  learningRate: rate,
};
const train = examplePairs(1);
const held = examplePairs(2).slice(0, 4);

type Chosen = NonNullable<Parameters<typeof dpo>[0]>;

/** A pair as the losses see it. */
interface Seen {
  /** Summed log-probabilities of the answers by the policy, w and l, and by the reference. */
  w: number;
  l: number;
  refW: number;
  refL: number;
  /** Tokens of the answers. */
  lengths: [number, number];
  margin: number;
}

interface Constants {
  beta: number;
  smoothing: number;
  /** What bco_pair compares with. */
  baseline: number;
}

type LossTerm = (z: number, seen: Seen, o: Constants) => number;
type Batch = readonly (Seen & { z: number; zMean: number })[];

const each =
  (term: LossTerm) =>
  (batch: Batch, o: Constants): number[] =>
    batch.map((pair) => term(pair.z, pair, o));
const smooth = (x: number, s: number) => -(1 - s) * logSigmoid(x) - s * logSigmoid(-x);
const byMargin = (term: (q: number, p: number, x: number, m: number) => number) =>
  each((z, { margin }, { beta }) => term(sigmoid(beta * z), sigmoid(margin), beta * z, margin));
const ascending = (values: number[]) => [...values].sort((a, b) => a - b);
const ratio = ({ w, l, refW, refL }: Seen) => ({ a: w - refW, b: l - refL });
const sortedPair = (batch: Batch, o: Constants) => {
  const a = ascending(batch.map((pair) => ratio(pair).a));
  const b = ascending(batch.map((pair) => ratio(pair).b));
  return a.map((x, i) => smooth(o.beta * (x - b[i]), o.smoothing));
};

/** Every loss by its paper's formula: each pair's, from z = a - b or from the log-ratios a and b themselves. */
const losses: Record<string, (batch: Batch, o: Constants) => number[]> = {
  sigmoid: each((z, _, o) => smooth(o.beta * z, o.smoothing)),
  sigmoid_norm: (batch, o) => batch.map(({ zMean }) => smooth(o.beta * zMean, o.smoothing)),
  robust: each(
    (z, _, { beta, smoothing: s }) => (-(1 - s) * logSigmoid(beta * z) + s * logSigmoid(-beta * z)) / (1 - 2 * s),
  ),
  hinge: each((z, _, { beta }) => Math.max(0, 1 - beta * z)),
  ipo: (batch, { beta }) => batch.map(({ zMean }) => (zMean - 1 / (2 * beta)) ** 2),
  exo_pair: each((z, _, { beta, smoothing: s }) => {
    const q = sigmoid(beta * z);
    return q * Math.log(q / (1 - s)) + (1 - q) * Math.log((1 - q) / s);
  }),
  nca_pair: each((_, seen, { beta }) => {
    const { a, b } = ratio(seen);
    return -logSigmoid(beta * a) - 0.5 * logSigmoid(-beta * a) - 0.5 * logSigmoid(-beta * b);
  }),
  bco_pair: each((_, seen, { beta, baseline }) => {
    const { a, b } = ratio(seen);
    return -logSigmoid(beta * a - baseline) - logSigmoid(baseline - beta * b);
  }),
  sppo_hard: each((_, seen, { beta }) => {
    const { a, b } = ratio(seen);
    return (a - 0.5 / beta) ** 2 + (b + 0.5 / beta) ** 2;
  }),
  aot: (batch, { beta, smoothing }) => {
    const own = ascending(batch.map(({ w, l }) => w - l));
    const other = ascending(batch.map(({ refW, refL }) => refW - refL));
    return own.map((x, i) => smooth(beta * (x - other[i]), smoothing));
  },
  aot_pair: sortedPair,
  aot_unpaired: sortedPair,
  apo_zero: each((_, seen, { beta }) => {
    const { a, b } = ratio(seen);
    return 1 - sigmoid(beta * a) + sigmoid(beta * b);
  }),
  apo_down: each((_, seen, { beta }) => {
    const { a, b } = ratio(seen);
    return sigmoid(beta * a) + 1 - sigmoid(beta * (a - b));
  }),
  kto_pair: (batch, { beta }) => {
    const klA = Math.max(0, mean(batch.map((pair) => ratio(pair).a)));
    const klB = Math.max(0, mean(batch.map((pair) => ratio(pair).b)));
    return batch.map((pair) => {
      const { a, b } = ratio(pair);
      return 0.5 * (1 - sigmoid(beta * (a - klB)) + 1 - sigmoid(beta * (klA - b)));
    });
  },
  discopop: each((z, _, { beta }) => {
    const x = beta * z;
    const share = sigmoid(x / 0.05);
    return -(1 - share) * logSigmoid(x) + share * Math.exp(-x);
  }),
  raft: each((_, { w }) => -w),
  cross_entropy: each((_, seen, { beta }) => -logSigmoid(beta * ratio(seen).a)),
  rev_kl: byMargin((q, p) => -p * Math.log(q) - (1 - p) * Math.log(1 - q)),
  kl: byMargin((exact, _, __, m) => {
    const q = Math.min(0.999, exact);
    const p = Math.exp(m) / (1 + Math.exp(m) + 1e-3);
    return q * Math.log(q / p) + (1 - q) * Math.log((1 - q) / (1 - p));
  }),
  tv: byMargin((q, p) => Math.abs(q - p)),
  hellinger: byMargin(
    (q, p) => 0.5 * ((Math.sqrt(q) - Math.sqrt(p)) ** 2 + (Math.sqrt(1 - q) - Math.sqrt(1 - p)) ** 2),
  ),
};

/** Of which label smoothing is a part. */
const smoothing = ["sigmoid", "sigmoid_norm", "robust", "exo_pair", "aot", "aot_pair", "aot_unpaired"];

const divergence: Record<string, (u: number) => number> = {
  reverse_kl: (u) => u,
  forward_kl: (u) => 1 - Math.exp(-u),
  js_divergence: (u) => Math.log((2 * Math.exp(u)) / (1 + Math.exp(u))),
  alpha_divergence: (u) => (Math.exp(-0.3 * u) - 1) / -0.3, // alpha 0.7
};

/** What a batch of pairs comes to, by the answers' tokens under the policy and under the reference. */
function judge(
  own: readonly Measured[],
  other: readonly Measured[],
  margins: number[],
  o: Chosen,
  fixed: Fixed,
): Judged {
  const { beta = 0.1, ldAlpha = 1, rpoAlpha = null, lenPenalty = 0 } = o;
  const types = o.lossType ?? ["sigmoid"];
  const added = (tokens: readonly Predicted[], shorter: number) =>
    sum(tokens.map((t, i) => (i < shorter ? 1 : (ldAlpha ?? 1)) * t.logProb));
  const batch = own.map(({ chosen, rejected }, i) => {
    const lengths: [number, number] = [chosen.length, rejected.length];
    const shorter = Math.min(...lengths);
    const seen: Seen = {
      w: added(chosen, shorter),
      l: added(rejected, shorter),
      refW: added(other[i].chosen, shorter),
      refL: added(other[i].rejected, shorter),
      lengths,
      margin: margins[i],
    };
    const { a, b } = ratio(seen);
    const worth = divergence[o.fDivergenceType ?? "reverse_kl"];
    const penalty = lenPenalty * (lengths[0] - lengths[1]);
    const z = worth(a) - worth(b) - penalty;
    return { ...seen, z, zMean: worth(a) / lengths[0] - worth(b) / lengths[1] - penalty };
  });
  const nll = (side: "chosen" | "withPrompt") => -mean(own.flatMap((pair) => logProbs(pair[side])));
  const constants = { beta, smoothing: o.labelSmoothing ?? 0, baseline: fixed.baseline };
  const terms = types.map((type, i) => {
    const all = type === "sft" ? own.map(() => nll("chosen")) : losses[type](batch, constants);
    return (o.lossWeights?.[i] ?? 1) * mean(all.map((x, pair) => fixed.weights[pair] * x));
  });
  const rpo = o.rpoOver === "completion" ? nll("chosen") : nll("withPrompt");
  return {
    loss: sum(terms) + (rpoAlpha ?? 0) * rpo,
    rewards: batch.map((pair) => ({ chosen: beta * ratio(pair).a, rejected: beta * ratio(pair).b })),
    logps: batch.map(({ w, l }) => ({ chosen: w, rejected: l })),
    more: rpoAlpha !== null ? { nll_loss: rpo } : types.includes("sft") ? { nll_loss: nll("chosen") } : ({} as Metrics),
  };
}

/** What a loss takes for constant: bco_pair's baseline, and the weights of WPO. */
interface Fixed {
  baseline: number;
  weights: number[];
}

/** WPO: how likely the policy would write both answers, beside what it writes on average. */
const pairWeight = ({ chosen, rejected }: Measured): number =>
  Math.exp(mean(chosen.map(aligned)) + mean(rejected.map(aligned)));
const aligned = ({ logProb, logSumSquares }: Predicted): number => logProb - logSumSquares;

/** bco_pair's baseline, the mean of the means of all micro-batches until now; and what it becomes with one more. */
class Baseline {
  readonly means: number[] = [];
  get value(): number {
    return this.means.length > 0 ? mean(this.means) : 0;
  }
}

const meanReward = ({ rewards }: Judged): number => mean(rewards.map((r) => 0.5 * (r.chosen + r.rejected)));

/** Follows a run with these settings; a copy of the reference, which no trainer sees, says what the reference says. */
async function followDpo(o: Chosen, steps: number, more: { undecided?: string[] } = {}): Promise<void> {
  const policy = keep(languageModel(1));
  const [reference, copy] = [keep(languageModel(o.precomputeRefLogProbs ? 1 : 2)), languageModel(2)];
  const standIn = keep(o.precomputeRefLogProbs ? languageModel(1) : copy);
  if (standIn !== copy) copy.destroy();
  const baseline = new Baseline();
  const marginsOf = (pairs: typeof train) => pairs.map(({ margin }) => margin as number);
  const weights = (answers: readonly Measured[]) => answers.map((pair) => (o.useWeighting ? pairWeight(pair) : 1));
  let done = 0;
  await follow({
    start: (run, every) =>
      trainDpo(
        { policy, ...(!o.precomputeRefLogProbs && { reference }) },
        { train, eval: held },
        { ...common, maxSteps: steps, ...o, ...every },
        run,
      ),
    store: policy.store,
    steps,
    rate: (step) => rate * (1 - step / steps),
    async step(step) {
      const batches = microBatches(train, step, order);
      expect(batches.map((batch) => batch.length)).toEqual([3, 2]);
      const under: Measured[][] = [];
      for (const batch of batches) under.push(await measured(standIn, batch));
      const fixed: Fixed[] = [];
      const judged = async (again: boolean) => {
        const answers: Measured[][] = [];
        for (const batch of batches) answers.push(await measured(policy, batch));
        const parts = answers.map((own, i) => {
          const now = (f: Fixed) => judge(own, under[i], marginsOf(batches[i]), o, f);
          if (!again) {
            const ones = own.map(() => 1);
            baseline.means.push(meanReward(now({ baseline: 0, weights: ones })));
            fixed.push({ baseline: o.bcoRunningMean === false ? 0 : baseline.value, weights: weights(own) });
          }
          return now(fixed[i]);
        });
        return { parts, answers };
      };
      const { parts, answers } = await judged(false);
      return {
        metrics: stepMetrics(parts, answers),
        tokens: tokensOf(train),
        loss: async () => stepLoss((await judged(true)).parts),
      };
    },
    async evaluate() {
      done += 1;
      if (o.syncRefModel && done % (o.refModelSyncSteps as number) === 0) {
        await moveTo(standIn, policy, o.refModelMixupAlpha as number);
      }
      const parts: Judged[] = [];
      const answers: Measured[] = [];
      for (const part of slices(held, order.batch)) {
        const [own, other] = [await measured(policy, part), await measured(standIn, part)];
        const fixed = { baseline: o.bcoRunningMean === false ? 0 : baseline.value, weights: weights(own) };
        parts.push(judge(own, other, marginsOf(part), o, fixed));
        answers.push(...own);
      }
      return evaluated(pairMetrics(parts, answers));
    },
    undecided: more.undecided ?? ["rewards/accuracies"],
  });
}

/** Takes this share of another model's weights. */
async function moveTo(model: CausalLM, other: CausalLM, share: number): Promise<void> {
  const [own, theirs] = [await model.store.read(), await other.store.read()];
  for (const { name, value } of model.store.parameters) {
    const [a, b] = [own.get(name) as Float32Array, theirs.get(name) as Float32Array];
    value.write(a.map((x, i) => (1 - share) * x + share * b[i]));
  }
}

describe("dpo", () => {
  const cases: [string, Chosen][] = [
    ["smoothed, with RPO", { lossType: ["sigmoid"], labelSmoothing: 0.2, beta: 0.7, rpoAlpha: 0.3 }],
    [
      "ipo and sft, LD-DPO",
      { lossType: ["ipo", "sft"], lossWeights: [0.8, 0.5], beta: 0.4, ldAlpha: 0.3, rpoOver: "completion" },
    ],
    ["bco_pair, whose baseline runs on", { lossType: ["bco_pair"], beta: 1.5 }],
    ["WPO, JS divergence", { useWeighting: true, fDivergenceType: "js_divergence", lenPenalty: 0.1, beta: 0.6 }],
    [
      "hinge, with a reference that follows",
      { lossType: ["hinge"], beta: 0.3, syncRefModel: true, refModelSyncSteps: 2, refModelMixupAlpha: 0.6 },
    ],
  ];
  for (const [name, options] of cases) {
    it(`publishes what the answers say: ${name}`, () => followDpo(options, 3));
  }

  it("publishes what the answers say, beside the policy as it was: reference computed before", () =>
    // At first policy and reference are one: all pairs are ties, and none counts as won.
    followDpo({ lossType: ["robust"], labelSmoothing: 0.1, beta: 0.8, precomputeRefLogProbs: true }, 2, {
      undecided: [],
    }));

  it("knows every loss", () => {
    expect(Object.keys(losses).sort()).toEqual(Object.keys(preferenceLosses).sort());
  });

  const [step] = [0].map((first) => microBatches(train, first, order));
  for (const type of Object.keys(losses)) {
    it(`publishes the mean of each pair's loss: ${type}`, async () => {
      const [policy, reference] = [keep(languageModel(1)), keep(languageModel(2))];
      const o: Chosen = { lossType: [type], beta: 0.6, ...(smoothing.includes(type) && { labelSmoothing: 0.15 }) };
      const parts: Judged[] = [];
      const answers: Measured[][] = [];
      const means: number[] = [];
      for (const batch of step) {
        const [own, other] = [await measured(policy, batch), await measured(reference, batch)];
        const margins = batch.map(({ margin }) => margin as number);
        const part = (baseline: number) => judge(own, other, margins, o, { baseline, weights: own.map(() => 1) });
        means.push(meanReward(part(0)));
        parts.push(part(mean(means)));
        answers.push(own);
      }
      for await (const event of trainDpo({ policy, reference }, train, { ...common, ...o, maxSteps: 1 })) {
        if (event.type !== "step") continue;
        const { grad_norm: _, skipped_steps: __, learning_rate: ___, ...metrics } = event.metrics;
        compare(metrics, stepMetrics(parts, answers), type);
      }
    });
  }

  for (const [type, worth] of Object.entries(divergence)) {
    it(`takes the ${type} for what holds the policy`, async () => {
      const [policy, reference] = [keep(languageModel(1, 0.15)), keep(languageModel(2, 0.15))];
      const o = { fDivergenceType: type, fAlphaDivergenceCoef: 0.7, beta: 0.6, maxSteps: 1 } as Chosen;
      const losses: number[] = [];
      for (const batch of step) {
        const [own, other] = [await measured(policy, batch), await measured(reference, batch)];
        const each = own.map(({ chosen, rejected }, i) => {
          const a = sum(logProbs(chosen)) - sum(logProbs(other[i].chosen));
          const b = sum(logProbs(rejected)) - sum(logProbs(other[i].rejected));
          return -logSigmoid(0.6 * (worth(a) - worth(b)));
        });
        losses.push(mean(each));
      }
      for await (const event of trainDpo({ policy, reference }, train, { ...common, ...o })) {
        if (event.type !== "step") continue;
        compare({ loss: event.metrics.loss }, { loss: mean(losses) }, type);
      }
    });
  }
});
