/** The names under which the public implementations log what PPO measures. */
import type { DialectName } from "./dialects.ts";

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

const names: Record<DialectName, Names> = {
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
export function withPublishedNames(metrics: Record<string, number>, dialect: DialectName): Record<string, number> {
  const published = Object.entries(names[dialect]).flatMap(([name, own]) =>
    metrics[own] === undefined ? [] : [[name, metrics[own]] as const],
  );
  return { ...metrics, ...Object.fromEntries(published) };
}
