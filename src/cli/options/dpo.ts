import { divergences } from "../../rlhf/losses/divergence.ts";
import { ktoLossNames } from "../../rlhf/losses/kto.ts";
import { preferenceLosses } from "../../rlhf/losses/preference.ts";
import { cpoLossNames } from "../../rlhf/losses/reference-free.ts";
import type { Table } from "../option.ts";
import { pairCuts, preference, preferenceBasics, referenceOptions } from "./preference.ts";
import { positive, probability } from "./shared.ts";

/** What loss_type may name. */
export const lossNames: readonly string[] = [...Object.keys(preferenceLosses), "sft"];

/** The loss of DPO and its variants. */
export const dpoLoss = {
  loss_type: preference.list(["sigmoid"], `One or several of ${lossNames.join(", ")}`),
  loss_weights: preference.list(null, "Weights of several losses; default: 1 each"),
  beta: preference.float(0.1, "How closely the policy is held to the reference", positive),
  label_smoothing: preference.float(0, "Share of pairs taken to be labelled the wrong way round", { min: 0, max: 0.5 }),
  f_divergence_type: preference.choice(
    divergences,
    "reverse_kl",
    "Divergence that holds the policy near the reference",
  ),
  f_alpha_divergence_coef: preference.float(0.5, "The alpha of alpha_divergence, as in TRL 1.x"),
  len_penalty: preference.float(0, "Taken from the log-ratio for each token that the chosen answer is longer"),
  rpo_alpha: preference.float(null, "Add this much of the chosen answers' mean negative log-likelihood", { min: 0 }),
  rpo_over: preference.choice(["sequence", "completion"], "sequence", "Whether that is of prompts, too"),
  ld_alpha: preference.float(null, "LD-DPO: weight of the tokens beyond a pair's shorter answer", probability),
  use_weighting: preference.bool(false, "WPO: weigh pairs by how likely the policy would write them"),
  discopop_tau: preference.float(0.05, "Temperature of discopop", positive),
  ipo_average: preference.bool(true, "Whether ipo takes means over tokens; false: sums"),
  bco_running_mean: preference.bool(
    true,
    "Whether bco_pair compares with the running mean of rewards; false: with 0 (TRL 1.x)",
  ),
} satisfies Table;

export const dpoOptions = {
  ...preferenceBasics,
  ...pairCuts,
  ...referenceOptions,
  precompute_ref_log_probs: preference.bool(
    false,
    "Compute the reference's log-probabilities once, before training, and keep no reference",
  ),
  ...dpoLoss,
} satisfies Table;

export const orpoOptions = {
  ...preferenceBasics,
  ...pairCuts,
  beta: preference.float(0.1, "Weight of the odds ratio; the paper's lambda", { min: 0 }),
} satisfies Table;

export const cpoOptions = {
  ...preferenceBasics,
  ...pairCuts,
  loss_type: preference.choice(cpoLossNames, "sigmoid", "The loss; simpo with cpo_alpha 0 is SimPO"),
  beta: preference.float(0.1, "Steepness of the loss", positive),
  label_smoothing: preference.float(0, "Share of pairs taken to be labelled the wrong way round", { min: 0, max: 0.5 }),
  simpo_gamma: preference.float(0.5, "Margin that simpo asks for", { min: 0 }),
  cpo_alpha: preference.float(1, "Weight of the chosen answers' negative log-likelihood", { min: 0 }),
} satisfies Table;

export const ktoOptions = {
  ...preferenceBasics,
  ...referenceOptions,
  loss_type: preference.choice(ktoLossNames, "kto", "Against the KL divergence, or against 0"),
  beta: preference.float(0.1, "How closely the policy is held to the reference", positive),
  desirable_weight: preference.float(1, "Weight of good answers", { min: 0 }),
  undesirable_weight: preference.float(1, "Weight of bad answers", { min: 0 }),
} satisfies Table;
