/**
 * The losses of direct preference optimisation: a pair of answers, judged by how much more likely the policy makes each
 * than the reference does. Formulas and names as in TRL; those that it dropped, as in its version 0.8 and Online-RLHF.
 */
import { UserError } from "../../runtime/errors.ts";
import { full, noGrad, type Tensor, tensor } from "../../tensor/core.ts";
import {
  abs,
  add,
  addScalar,
  clamp,
  exp,
  log,
  logSigmoid,
  minimum,
  mul,
  neg,
  relu,
  scale,
  sigmoid,
  sqrt,
  square,
  sub,
} from "../../tensor/ops/elementwise.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { sort } from "../../tensor/ops/sort.ts";
import { place } from "../../tensor/raw.ts";

/** A batch of pairs as a preference loss sees it. Every tensor is [pairs]; sums run over the tokens of the answers. */
export interface PairScores {
  /** Sum of log p(chosen), and of log p(rejected), by the policy; gradients flow through these and what follows. */
  chosen: Tensor;
  rejected: Tensor;
  /** a = log p(chosen) - log p_ref(chosen), and b, the same of the rejected answer. */
  chosenRatio: Tensor;
  rejectedRatio: Tensor;
  /** z, what the pair's preference is read from: a - b, unless an f-divergence or a length penalty changes it. */
  delta: Tensor;
  /** The same with the ratios averaged over each answer's tokens. */
  meanDelta: Tensor;
  /** The reference's log p(chosen) - log p(rejected). */
  refDelta: Tensor;
  /** How much better the chosen answer is, by whoever labelled the pair. */
  margin: Tensor;
}

/** A scalar that belongs to the run and not to the batch; see `RunningMean`. */
export type Baseline = (batchMean: Tensor) => Tensor;

/** Constants of the losses of preferences. */
export interface PreferenceLossOptions {
  /** How far the policy may go from the reference: less for larger values. Default 0.1. */
  beta?: number;
  /** Probability that a pair is labelled the wrong way round: in sigmoid, robust, exo_pair, aot and aot_pair. Default 0. */
  labelSmoothing?: number;
  /** ipo averages the log-ratios over tokens (TRL, the paper's authors) instead of adding them up. Default true. */
  ipoAverage?: boolean;
  /** Of discopop. Default 0.05. */
  discopopTau?: number;
}

/** A loss of each pair, [pairs], from what it sees of a batch. */
export type PairLossFunction = (
  scores: PairScores,
  options: Required<PreferenceLossOptions>,
  baseline: Baseline,
) => Tensor;

/** A loss and what goes with it. */
export interface PreferenceLoss {
  loss: PairLossFunction;
  /** "delta": it is made of z alone, so that an f-divergence or a length penalty changes it. */
  of: "delta" | "ratios";
  /** It sorts the batch, after which no loss is a pair's own. Default false. */
  sorts?: boolean;
  /** Label smoothing changes it. Default false. */
  smooths?: boolean;
}

/** -(1 - s) log sigmoid(x) - s log sigmoid(-x) */
export function smoothed(x: Tensor, s: number): Tensor {
  const loss = scale(logSigmoid(x), s - 1);
  return s === 0 ? loss : add(loss, scale(logSigmoid(neg(x)), -s));
}

const oneMinus = (x: Tensor): Tensor => addScalar(neg(x), 1);

const rows = {
  /** Rafailov et al. 2023; with smoothing "conservative DPO" (Mitchell 2023). TRL 1.x smooths no sigmoid. */
  sigmoid: {
    of: "delta",
    smooths: true,
    loss: ({ delta }, { beta, labelSmoothing: s }) => smoothed(scale(delta, beta), s),
  },
  /** The sigmoid of mean log-ratios. */
  sigmoid_norm: {
    of: "delta",
    smooths: true,
    loss: ({ meanDelta }, { beta, labelSmoothing: s }) => smoothed(scale(meanDelta, beta), s),
  },
  /** Chowdhury et al. 2024: unbiased when labels are flipped with probability s. */
  robust: {
    of: "delta",
    smooths: true,
    loss: ({ delta }, { beta, labelSmoothing: s }) => {
      const x = scale(delta, beta);
      const kept = scale(logSigmoid(x), (s - 1) / (1 - 2 * s));
      return s === 0 ? kept : add(kept, scale(logSigmoid(neg(x)), s / (1 - 2 * s)));
    },
  },
  /** Zhao et al. 2023 (SLiC). */
  hinge: {
    of: "delta",
    loss: ({ delta }, { beta }) => relu(oneMinus(scale(delta, beta))),
  },
  /** Azar et al. 2023. */
  ipo: {
    of: "delta",
    loss: ({ delta, meanDelta }, { beta, ipoAverage }) =>
      square(addScalar(ipoAverage ? meanDelta : delta, -1 / (2 * beta))),
  },
  /** Ji et al. 2024, Eq. 16; without smoothing s is 1e-3. */
  exo_pair: {
    of: "delta",
    smooths: true,
    loss: ({ delta }, { beta, labelSmoothing }) => {
      const s = labelSmoothing === 0 ? 1e-3 : labelSmoothing;
      const x = scale(delta, beta);
      const won = mul(sigmoid(x), addScalar(logSigmoid(x), -Math.log1p(-s)));
      return add(won, mul(sigmoid(neg(x)), addScalar(logSigmoid(neg(x)), -Math.log(s))));
    },
  },
  /** Chen et al. 2024. */
  nca_pair: {
    of: "ratios",
    loss: ({ chosenRatio, rejectedRatio }, { beta }) => {
      const [w, l] = [scale(chosenRatio, beta), scale(rejectedRatio, beta)];
      return sub(scale(add(logSigmoid(neg(w)), logSigmoid(neg(l))), -0.5), logSigmoid(w));
    },
  },
  /** Jung et al. 2024; the baseline is the running mean of all rewards. TRL 1.x has none. */
  bco_pair: {
    of: "ratios",
    loss: ({ chosenRatio, rejectedRatio }, { beta }, baseline) => {
      const [w, l] = [scale(chosenRatio, beta), scale(rejectedRatio, beta)];
      const d = baseline(scale(add(mean(w), mean(l)), 0.5));
      return neg(add(logSigmoid(sub(w, d)), logSigmoid(sub(d, l))));
    },
  },
  /** Wu et al. 2024, with hard probabilities. */
  sppo_hard: {
    of: "ratios",
    loss: ({ chosenRatio, rejectedRatio }, { beta }) =>
      add(square(addScalar(chosenRatio, -0.5 / beta)), square(addScalar(rejectedRatio, 0.5 / beta))),
  },
  /** Melnyk et al. 2024: the policy's preferences dominate the reference's as distributions over the batch. */
  aot: {
    of: "ratios",
    sorts: true,
    smooths: true,
    loss: ({ chosen, rejected, refDelta }, { beta, labelSmoothing: s }) =>
      smoothed(scale(sub(sort(sub(chosen, rejected)), sort(refDelta)), beta), s),
  },
  /** The same of unpaired answers: the chosen ones' ratios dominate the rejected ones'. TRL 1.x: aot_unpaired. */
  aot_pair: {
    of: "ratios",
    sorts: true,
    smooths: true,
    loss: ({ chosenRatio, rejectedRatio }, { beta, labelSmoothing: s }) =>
      smoothed(scale(sub(sort(chosenRatio), sort(rejectedRatio)), beta), s),
  },
  /** D'Oosterlinck et al. 2024, Eq. 7: for chosen answers better than the policy's own. */
  apo_zero: {
    of: "ratios",
    loss: ({ chosenRatio, rejectedRatio }, { beta }) =>
      add(oneMinus(sigmoid(scale(chosenRatio, beta))), sigmoid(scale(rejectedRatio, beta))),
  },
  /** Eq. 8: for chosen answers worse than the policy's own. */
  apo_down: {
    of: "ratios",
    loss: ({ chosenRatio, rejectedRatio }, { beta }) =>
      add(sigmoid(scale(chosenRatio, beta)), oneMinus(sigmoid(scale(sub(chosenRatio, rejectedRatio), beta)))),
  },
  /** Ethayarajh et al. 2024 on pairs: each answer against the other side's mean ratio over the batch, at least 0. */
  kto_pair: {
    of: "ratios",
    loss: ({ chosenRatio, rejectedRatio }, { beta }) => {
      const baseline = (ratios: Tensor) => clamp(mean(ratios), 0, 3e38);
      const won = oneMinus(sigmoid(scale(sub(chosenRatio, baseline(rejectedRatio)), beta)));
      const lost = oneMinus(sigmoid(scale(sub(baseline(chosenRatio), rejectedRatio), beta)));
      return scale(add(won, lost), 0.5);
    },
  },
  /** Lu et al. 2024, Eq. 5: logistic and exponential losses, mixed by the ratio. */
  discopop: {
    of: "delta",
    loss: ({ delta }, { beta, discopopTau }) => {
      const x = scale(delta, beta);
      const share = sigmoid(scale(x, 1 / discopopTau));
      return add(mul(neg(logSigmoid(x)), oneMinus(share)), mul(exp(neg(x)), share));
    },
  },
  /** LMFlow: likelihood of the chosen answer alone. */
  raft: {
    of: "ratios",
    loss: ({ chosen }) => neg(chosen),
  },
  /** LMFlow: the chosen answer alone, against the reference. */
  cross_entropy: {
    of: "ratios",
    loss: ({ chosenRatio }, { beta }) => neg(logSigmoid(scale(chosenRatio, beta))),
  },
} satisfies Record<string, PreferenceLoss>;

/*
 * Losses of Online-RLHF and LMFlow that know how much better the chosen answer is: the policy's preference q = sigmoid(x),
 * x = beta z, is drawn towards that of the reward model, p = sigmoid(m), m the difference of the rewards.
 */

/** @param x beta z; @param m margins; both [pairs], as is the result */
type MarginLoss = (x: Tensor, m: Tensor) => Tensor;

/** q as the originals cap it, so that log(1 - q) exists. */
const capped = (x: Tensor): Tensor => minimum(sigmoid(x), full(x.shape, 0.999));

const marginLosses = {
  /** Cross entropy between p and q, which is KL(p || q) up to a constant. */
  rev_kl: (x, m) => neg(add(mul(sigmoid(m), logSigmoid(x)), mul(sigmoid(neg(m)), logSigmoid(neg(x))))),
  /** KL(q || p), with p = e^m / (1 + e^m + 0.001), written as sigmoid(m) / (1 + 0.001 sigmoid(-m)). */
  kl: (x, m) => {
    const q = capped(x);
    const rest = addScalar(scale(sigmoid(neg(m)), 1e-3), 1);
    const logP = sub(logSigmoid(m), log(rest));
    const logNotP = sub(log(scale(sigmoid(neg(m)), 1.001)), log(rest));
    const won = mul(q, sub(log(q), logP));
    return add(won, mul(oneMinus(q), sub(log(oneMinus(q)), logNotP)));
  },
  /** Total variation. */
  tv: (x, m) => abs(sub(sigmoid(x), sigmoid(m))),
  /** The squared Hellinger distance. */
  hellinger: (x, m) => {
    const q = capped(x);
    const won = square(sub(sqrt(q), sqrt(sigmoid(m))));
    return scale(add(won, square(sub(sqrt(oneMinus(q)), sqrt(sigmoid(neg(m)))))), 0.5);
  },
} as const satisfies Record<string, MarginLoss>;

const withMargin = (loss: MarginLoss): PreferenceLoss => ({
  of: "delta",
  loss: ({ delta, margin }, { beta }) => loss(scale(delta, beta), margin),
});

/** All losses by name, each giving one loss per pair. */
export const preferenceLosses: Record<string, PreferenceLoss> = {
  ...rows,
  aot_unpaired: rows.aot_pair,
  rev_kl: withMargin(marginLosses.rev_kl),
  kl: withMargin(marginLosses.kl),
  tv: withMargin(marginLosses.tv),
  hellinger: withMargin(marginLosses.hellinger),
};

/** Adds a preference loss of one's own, which `lossType` then may name. Throws a UserError for a name that is taken. */
export function registerPreferenceLoss(name: string, row: PreferenceLoss): void {
  if (Object.hasOwn(preferenceLosses, name)) throw new UserError(`there is a preference loss ${name} already`);
  preferenceLosses[name] = row;
}

/** What the losses' options are unless something else is said. */
const preferenceLossDefaults: Required<PreferenceLossOptions> = {
  beta: 0.1,
  labelSmoothing: 0,
  ipoAverage: true,
  discopopTau: 0.05,
};

/**
 * The named loss of each pair, [pairs].
 * @param baseline what bco_pair compares with, from the batch's mean reward; default: that mean
 */
export function preferenceLoss(
  name: string,
  scores: PairScores,
  options: PreferenceLossOptions = {},
  baseline: Baseline = (batchMean) => batchMean,
): Tensor {
  return preferenceLosses[name].loss(scores, { ...preferenceLossDefaults, ...options }, baseline);
}

/** Divergences that may keep a policy near its reference. */
export const divergences = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] as const;
/** A divergence by name. */
export type Divergence = (typeof divergences)[number];

/**
 * The reward of a log-ratio u = log p / p_ref under the divergence that keeps the policy near the reference (f-DPO, Wang et
 * al. 2023): f'(p / p_ref), up to a constant that cancels in a pair. reverse_kl: u; forward_kl:
 * 1 - e^-u; js_divergence: log 2 + log sigmoid(u); alpha_divergence: (e^((alpha - 1) u) - 1) / (alpha - 1), which is u for
 * alpha = 1. Exponents end at 80.
 * @param alpha as TRL 1.x has it; the c of TRL 0.8 and Online-RLHF is 1 - alpha
 */
export function divergenceScore(ratio: Tensor, divergence: Divergence, alpha = 0.5): Tensor {
  const grown = (x: Tensor) => exp(clamp(x, -3e38, 80));
  if (divergence === "forward_kl") return addScalar(neg(grown(neg(ratio))), 1);
  if (divergence === "js_divergence") return addScalar(logSigmoid(ratio), Math.LN2);
  if (divergence === "reverse_kl" || Math.abs(alpha - 1) < 1e-6) return ratio;
  return scale(addScalar(grown(scale(ratio, alpha - 1)), -1), 1 / (alpha - 1));
}

/** The mean of all batches' means so far, each counting once (as TRL's running moments of a scalar). */
export class RunningMean {
  /** Batches seen. */
  count = 0;
  private readonly mean: Tensor = tensor([0]);

  /** Takes a batch's mean [1] in; returns the mean with it. No gradient flows through either. */
  update(batchMean: Tensor): Tensor {
    this.count += 1;
    return noGrad(() => {
      const mean = add(this.mean, scale(sub(batchMean, this.mean), 1 / this.count));
      place(this.mean, mean, 0);
      return mean;
    });
  }

  /** The mean so far, [1]; stays as long as this object does. */
  get value(): Tensor {
    return this.mean;
  }

  async save(): Promise<{ mean: number; count: number }> {
    return { mean: (await this.mean.read())[0], count: this.count };
  }

  load({ mean, count }: { mean: number; count: number }): void {
    this.mean.write(new Float32Array([mean]));
    this.count = count;
  }

  destroy(): void {
    this.mean.free("the running mean");
  }
}
