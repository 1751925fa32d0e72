/** What can go wrong with a policy that learns from rewards: the policy, its critic, its distance from the reference. */
import { showNumber } from "../text.ts";
import {
  type Course,
  correlation,
  course,
  type Diagnosis,
  deviation,
  type Evidence,
  mean,
  percent,
  values,
} from "./evidence.ts";

const ONLINE = ["ppo", "grpo", "rloo", "reinforce", "raft", "iterate"];

/** The course of a metric of a run that samples. */
const online = (run: Evidence, name: string, least?: number): Course | null =>
  run.verb !== null && ONLINE.includes(run.verb) ? course(run.steps, name, least) : null;

/** Nats per token between policy and reference. */
const klPerToken = (run: Evidence, least?: number) => online(run, "kl_per_token", least);

/** How much a metric differs from one step to the next, beside its trend. */
const jitter = (all: readonly number[]): number =>
  deviation(all.slice(1).map((value, i) => value - all[i])) / Math.SQRT2;

/** The clipped part of the tokens, by the names of PPO and of TRL's GRPO. */
const CLIPPED = ["bound_fraction", "clip_ratio/region_mean"];

export const policy: readonly Diagnosis[] = [
  {
    id: "kl-negative",
    title: "The KL is negative",
    when: "Below -0.02 nats a token over the last fifth: a mean of samples from the policy itself is positive but for noise.",
    advice:
      "The policy that sampled is not the one that is measured: look at top_k, top_p, min_p and temperature, at a forced minimum " +
      "length, and at a server's weights or precision.",
    look(run) {
      const kl = klPerToken(run, 3);
      return kl && kl.last < -0.02 ? `The KL is negative, ${showNumber(kl.last)} nats per token.` : null;
    },
  },
  {
    id: "kl-explodes",
    title: "The policy has left its reference",
    when: "Above 1 nat a token: the reference gives each token less than 37 % of the policy's probability, again and again.",
    advice:
      "Raise kl_coef (beta), lower learning_rate or the number of passes; read a few samples before trusting the reward.",
    look(run) {
      const kl = klPerToken(run);
      return kl && kl.last > 1 ? `The KL is ${showNumber(kl.last)} nats per token.` : null;
    },
  },
  {
    id: "kl-zero",
    title: "The policy does not move",
    when: "Below 1e-5 nats a token after 10 steps, with a learning rate above zero: an update that learns shows more.",
    advice: "Raise learning_rate; look at advantages (groups without variance, whitened rewards) and at max_grad_norm.",
    look(run) {
      const kl = klPerToken(run, 10);
      const rate = values(run.steps, "learningRate").at(0);
      if (!kl || rate === 0 || Math.abs(kl.last) >= 1e-5) return null;
      return `After ${kl.count} steps the KL is ${showNumber(kl.last)} nats per token.`;
    },
  },
  {
    id: "kl-coef-runs",
    title: "The adaptive KL weight runs away",
    when: "When it has become ten times larger or smaller: the target is then out of its reach.",
    advice: "Look at target_kl and kl_horizon: the target counts a whole response's nats.",
    look(run) {
      const weight = online(run, "kl_coef");
      if (!weight || weight.first <= 0) return null;
      const times = weight.last / weight.first;
      if (times > 0.1 && times < 10) return null;
      return `kl_coef went from ${showNumber(weight.first)} to ${showNumber(weight.last)}.`;
    },
  },
  {
    id: "penalty-eats-reward",
    title: "The KL penalty eats the reward",
    when: "When the reward rises by more than its steps' noise and the reward with the penalty falls by more than its own.",
    advice: "Lower kl_coef, or take it as the sign to stop: the optimum of the objective lies behind.",
    look(run) {
      const [reward, shaped] = [online(run, "reward", 10), online(run, "reward_with_kl_penalty", 10)];
      if (!reward || !shaped) return null;
      if (reward.last <= reward.first + 2 * jitter(reward.all)) return null;
      if (shaped.last >= shaped.first - 2 * jitter(shaped.all)) return null;
      return `The reward rose by ${showNumber(reward.last - reward.first)}, and less the penalty it fell by ${showNumber(shaped.first - shaped.last)}.`;
    },
  },
  {
    id: "clip-fraction",
    title: "The clip binds everywhere",
    when: "Above 30 % of the tokens: usual are a few percent, and a clipped token teaches nothing.",
    advice: "Lower learning_rate, or take fewer passes over a rollout.",
    look(run) {
      for (const name of CLIPPED) {
        const clipped = online(run, name, 3);
        if (clipped && clipped.last > 0.3) return `${percent(clipped.last)} of the tokens are clipped (${name}).`;
      }
      return null;
    },
  },
  {
    id: "first-ratio",
    title: "Ratios do not start at 1",
    when: "When the first pass of a step is 5 % off on average: before anything was learned the ratio is 1 but for rounding.",
    advice:
      "What sampled is not what is trained: weights of a server that lag, another precision, another temperature.",
    look(run) {
      const ratio = online(run, "first_ratio", 3);
      return ratio && Math.abs(ratio.last - 1) > 0.05
        ? `The first ratio of a step is ${showNumber(ratio.last)}.`
        : null;
    },
  },
  {
    id: "entropy-collapse",
    title: "The policy's entropy is gone",
    when: "Below a fifth of what it was and below 0.3 nats: samples of a prompt are then nearly the same.",
    advice: "Lower learning_rate, raise the KL weight or an entropy bonus; earlier checkpoints explore better.",
    look(run) {
      const entropy = online(run, "entropy");
      if (!entropy || entropy.last >= 0.3 || entropy.last >= 0.2 * entropy.first) return null;
      return `Entropy fell from ${showNumber(entropy.first)} to ${showNumber(entropy.last)} nats per token.`;
    },
  },
  {
    id: "entropy-rises",
    title: "The policy becomes noise",
    when: "When its entropy has doubled and is above 2 nats: rewards pull towards certainty, not away from it.",
    advice: "Lower an entropy bonus and learning_rate; negative advantages alone push probability anywhere else.",
    look(run) {
      const entropy = online(run, "entropy");
      if (!entropy || entropy.last <= 2 || entropy.last <= 2 * entropy.first) return null;
      return `Entropy rose from ${showNumber(entropy.first)} to ${showNumber(entropy.last)} nats per token.`;
    },
  },
  {
    id: "reward-falls",
    title: "The reward falls",
    when: "By more than three times the steps' own noise.",
    advice:
      "Lower learning_rate; see whether the KL penalty or the length moved at the same time, and the reward's sign.",
    look(run) {
      const reward = online(run, "reward", 10);
      if (!reward || reward.last >= reward.first - 3 * jitter(reward.all)) return null;
      return `The reward fell from ${showNumber(reward.first)} to ${showNumber(reward.last)}.`;
    },
  },
  {
    id: "reward-flat",
    title: "The reward does not rise",
    when: "When after 30 steps it is within half of the steps' own noise of where it began.",
    advice:
      "Look at the samples: does the best of a group earn its reward? Then raise learning_rate or the samples per prompt.",
    look(run) {
      const reward = online(run, "reward", 30);
      if (!reward || Math.abs(reward.last - reward.first) > 0.5 * jitter(reward.all)) return null;
      return `The reward was ${showNumber(reward.first)} and is ${showNumber(reward.last)} after ${reward.count} steps.`;
    },
  },
  {
    id: "reward-with-length",
    title: "The reward rises with the length",
    when: "When the length rose by half and the two correlate over the steps with 0.8 or more: a skill that takes longer answers asks for less.",
    advice:
      "Read the long responses. A length-aware reward model, a length penalty, or responses of one length tell skill from length.",
    look(run) {
      const [reward, length] = [online(run, "reward", 10), online(run, "length", 10)];
      if (!reward || !length || reward.count !== length.count) return null;
      const r = correlation(reward.all, length.all);
      if (r === null || r < 0.8 || length.last < 1.5 * length.first) return null;
      return `The reward rises with the length: r = ${showNumber(r, 2)}, ${showNumber(length.first)} to ${showNumber(length.last)} tokens.`;
    },
  },
  {
    id: "over-optimised",
    title: "The reward rises, and the truth falls",
    when: "When the true reward's last fifth is below its best fifth by more than three times its noise while the reward rose.",
    advice: "Stop at the true reward's peak; a higher KL weight or a better reward model moves the peak.",
    look(run) {
      const [reward, gold] = [online(run, "reward", 10), online(run, "gold", 10)];
      if (!reward || !gold || reward.last <= reward.first) return null;
      const n = Math.max(3, Math.round(gold.count / 5));
      const windows = gold.all.slice(n - 1).map((_, i) => mean(gold.all.slice(i, i + n)));
      const best = Math.max(...windows);
      if (gold.last >= best - 3 * jitter(gold.all)) return null;
      return `The true reward was ${showNumber(best)} at best and is ${showNumber(gold.last)}, while the reward rose to ${showNumber(reward.last)}.`;
    },
  },
  {
    id: "prompts-by-heart",
    title: "Held-out prompts gain nothing",
    when: "When the reward rose by more than three times its noise and that of held-out prompts fell.",
    advice: "More prompts, fewer passes over them.",
    look(run) {
      const reward = online(run, "reward", 10);
      const held = values(run.evals, "eval_reward");
      if (!reward || held.length < 2 || reward.last <= reward.first + 3 * jitter(reward.all)) return null;
      if (held[held.length - 1] >= held[0]) return null;
      return `The reward rose by ${showNumber(reward.last - reward.first)}, and on held-out prompts it went from ${showNumber(held[0])} to ${showNumber(held[held.length - 1])}.`;
    },
  },
  {
    id: "value-clip",
    title: "The critic is held back by its clip",
    when: "Above half of the tokens: then most of the critic's loss is constant.",
    advice: "Raise cliprange_value (clip_range_value), or lower the scale of the rewards.",
    look(run) {
      const clipped = online(run, "value_clip_fraction", 3);
      return clipped && clipped.last > 0.5 ? `${percent(clipped.last)} of the values are clipped.` : null;
    },
  },
  {
    id: "value-explains-nothing",
    title: "The value function explains nothing",
    when: "When after 50 steps returns vary no less around the critic's values than around their mean, over 50 tokens or more: a critic that starts from nothing takes a while.",
    advice: "Start the critic from the reward model, raise critic_learning_rate, or let it learn alone for a while.",
    look({ rollouts = [], steps }) {
      const newest = rollouts.at(-1)?.step;
      const rows = rollouts.filter(({ step, values: own, returns }) => step === newest && own && returns);
      const returns = rows.flatMap((row) => [...(row.returns ?? [])]);
      const errors = rows.flatMap((row) => (row.returns ?? []).map((one, t) => one - (row.values?.[t] ?? 0)));
      if (steps.length < 50 || returns.length < 50 || deviation(returns) === 0) return null;
      const explained = 1 - (deviation(errors) / deviation(returns)) ** 2;
      return explained <= 0
        ? `The critic explains ${percent(explained)} of the returns' variance at step ${newest}.`
        : null;
    },
  },
];
