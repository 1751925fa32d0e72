/** What the verbs that learn from preferences without a reward model share. */

import { referenceWeights } from "../models/weight-options.ts";
import { options, type Table } from "../option.ts";
import {
  adapterOptions,
  chatTemplate,
  data,
  datasets,
  duration,
  evalSteps,
  half,
  heldOut,
  model,
  optim,
  optimiser,
  run,
  tokenizer,
} from "./shared.ts";

export const preference = options("Preference loss");

const policy = {
  model_name_or_path: model.path(null, "Policy to start from: a model folder, usually made by sft", { required: true }),
  tokenizer_name_or_path: tokenizer,
  ...chatTemplate,
} satisfies Table;

/** The reference that a policy is compared with. */
export const referenceOptions = {
  ref_model_name_or_path: model.path(
    null,
    "Reference; default: the policy as it starts (an adapter's base, if it is new)",
    {
      aliases: ["ref_model"],
    },
  ),
  ...referenceWeights,
  sync_ref_model: preference.bool(false, "TR-DPO: move the reference to the policy from time to time"),
  ref_model_mixup_alpha: preference.float(0.6, "Share of the policy in the reference when it moves", {
    min: 0,
    max: 1,
  }),
  ref_model_sync_steps: preference.int(512, "Steps between the reference's moves", { min: 1 }),
} satisfies Table;

/** Data, optimisation and everything else that does not depend on the loss. TRL's defaults. */
export const preferenceBasics = {
  ...policy,
  ...datasets,
  ...heldOut,
  max_length: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  disable_dropout: optim.bool(true, "Adapters do not drop out"),
  ...duration(3),
  ...optimiser(1e-6, "linear", 8),
  ...half,
  ...adapterOptions(0.05),
  ...evalSteps,
  ...run,
} satisfies Table;

/** How pairs are cut, for verbs that learn from them. */
export const pairCuts = {
  max_prompt_length: data.int(
    null,
    "Cut the prompts of long pairs to this many tokens first, then the answers (TRL 0.x)",
    {
      min: 1,
    },
  ),
  truncation_mode: data.choice(
    ["keep_start", "keep_end"],
    "keep_start",
    "Cut long sequences at their end, or their start",
  ),
} satisfies Table;
