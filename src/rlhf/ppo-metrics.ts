/** What PPO measures of its updates, and the names under which the public implementations log it. */
import { average, moments } from "./stats.ts";
import type { WatchedNumbers } from "./watch.ts";

/** What metrics need of a response that was learned from; arrays by response token. */
interface Learned {
  logProbs: Float32Array;
  values: Float32Array;
  advantages: ArrayLike<number>;
  returns: ArrayLike<number>;
}

/** The range that a ratio is clipped to. */
interface Clip {
  clipRange: number;
  clipRangeHigh: number | null;
}

const over = (r: number, { clipRange, clipRangeHigh }: Clip) => r - 1 > (clipRangeHigh ?? clipRange);
const under = (r: number, { clipRange }: Clip) => 1 - r > clipRange;

/** Whether the objective of a token is constant in its ratio, by either clip. */
export const objectiveBound =
  (clip: Clip & { dualClip: number | null }) =>
  (ratio: number, advantage: number): boolean => {
    if (advantage > 0) return over(ratio, clip);
    return advantage < 0 && (under(ratio, clip) || (clip.dualClip !== null && ratio > clip.dualClip));
  };

/** What the policy's passes over a rollout did, each with the experience that it learned from: means of the passes' means. */
export function policyMetrics(
  read: readonly WatchedNumbers<"logProbs" | "entropy">[],
  parts: readonly (readonly Learned[])[],
  clip: Clip,
): Record<string, number> {
  const passes = read.map(({ logProbs, entropy }, i) => {
    const old = parts[i].flatMap((e) => [...e.logProbs]);
    const advantages = parts[i].flatMap((e) => Array.from(e.advantages, Math.fround));
    const ratios = old.map((before, t) => Math.exp(logProbs[t] - before));
    const bound = ratios.map((r, t) => (advantages[t] > 0 ? over(r, clip) : advantages[t] < 0 && under(r, clip)));
    return {
      kl: average(old.map((before, t) => 0.5 * (logProbs[t] - before) ** 2)),
      clipped: average(ratios.map((r) => Number(over(r, clip) || under(r, clip)))),
      bound: average(bound.map(Number)),
      ratio: average(ratios),
      entropy: average(entropy),
    };
  });
  const mean = (name: keyof (typeof passes)[number]) => average(passes.map((pass) => pass[name]));
  const ratios = passes.map(({ ratio }) => ratio);
  return {
    approx_kl: mean("kl"),
    // Ratios outside the clip, and those whose loss it bounds: above with positive advantages, below with negative ones.
    clip_fraction: mean("clipped"),
    bound_fraction: mean("bound"),
    ratio: mean("ratio"),
    ratio_var: moments([ratios], true).variance,
    first_ratio: ratios[0],
    policy_entropy: mean("entropy"),
  };
}

/** What the critic's passes over a rollout did: means of the passes' means. */
export function valueMetrics(
  read: readonly WatchedNumbers<"values">[],
  parts: readonly (readonly Learned[])[],
  clipRange: number,
): Record<string, number> {
  const bound = read.map(({ values }, i) => {
    const old = parts[i].flatMap((e) => [...e.values]);
    const returns = parts[i].flatMap((e) => Array.from(e.returns, Math.fround));
    const clips = old.map((before, t) => {
      const clipped = Math.min(Math.max(values[t], before - clipRange), before + clipRange);
      return Number((clipped - returns[t]) ** 2 > (values[t] - returns[t]) ** 2);
    });
    return average(clips);
  });
  return { value_clip_fraction: average(bound) };
}

/** Published name: ours. */
type Names = Readonly<Record<string, string>>;

const paddle: Names = {
  "train/actor_loss": "actor_loss",
  "train/reward_critic_loss": "critic_loss",
  "train/ptx_loss": "ptx_loss",
  "train/reward": "reward",
  "train/kl_divergence": "kl",
  "train/mean_generated_length": "mean_length",
  "train/max_generated_length": "max_length",
  "train/actor_lr": "learning_rate",
  "train/reward_critic_lr": "critic_learning_rate",
  "eval/reward": "eval_reward",
};

const names: Readonly<Record<string, Names>> = {
  paddle,
  safe: {
    ...paddle,
    "train/reward_with_kl_penalty": "reward_with_kl_penalty",
    "train/reward_advantage": "advantage",
    "train/reward_return": "return",
    "train/reward_value": "value",
  },
  "paddle-late": {
    train_policy_loss: "actor_loss",
    train_value_loss: "critic_loss",
    train_ptx_loss: "ptx_loss",
    train_reward: "reward",
    train_norm_reward: "norm_reward",
    train_kl_reward: "kl_reward",
    train_norm_reward_with_kl: "reward_with_kl_penalty",
    train_values: "value",
    train_returns: "return",
    train_kl_divergence: "kl_per_token",
    train_mean_generated_length: "mean_length",
    train_max_generated_length: "max_length",
    train_min_generated_length: "min_length",
    train_policy_lr: "learning_rate",
    train_value_lr: "critic_learning_rate",
    "eval/reward": "eval_reward",
  },
  trl: {
    "objective/kl": "kl",
    "objective/entropy": "sampled_entropy",
    "objective/non_score_reward": "kl_reward",
    "objective/rlhf_reward": "reward_with_kl_penalty",
    "objective/scores": "reward",
    "policy/approxkl_avg": "approx_kl",
    "policy/clipfrac_avg": "bound_fraction",
    "policy/entropy_avg": "policy_entropy",
    "loss/policy_avg": "actor_loss",
    "loss/value_avg": "critic_loss",
    "val/clipfrac_avg": "value_clip_fraction",
    "val/ratio": "ratio",
    "val/ratio_var": "ratio_var",
    "val/num_eos_tokens": "num_eos_tokens",
    lr: "learning_rate",
    "eval/reward": "eval_reward",
  },
};

/** The metrics, and those of them that the dialect's own program logs by its names, too. */
export function withPublishedNames(metrics: Record<string, number>, dialect: string | null): Record<string, number> {
  const published = Object.entries(names[dialect ?? "paddle"]).flatMap(([name, own]) =>
    metrics[own] === undefined ? [] : [[name, metrics[own]] as const],
  );
  return { ...metrics, ...Object.fromEntries(published) };
}
