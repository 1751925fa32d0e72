import { rewardWeights, weightOptions } from "../models/weight-options.ts";
import { options, type Table } from "../option.ts";
import { dpoLoss } from "./dpo.ts";
import { pairChoice } from "./pairs.ts";
import {
  adapterBase,
  adapterOptions,
  alignment,
  chatTemplate,
  data,
  duration,
  half,
  heldOut,
  logging,
  model,
  optim,
  optimiser,
  rewardServer,
  rollout,
  run,
  sampling,
  serverOptions,
  shown,
} from "./shared.ts";

const iterate = options("Iterations");
const judging = options("Judge");

export const judge = {
  reward_model_path: model.path(
    null,
    "What scores responses: a folder made by reward or pairwise, an endpoint's URL, or builtin:world, the true reward",
    { required: true, aliases: ["reward_model_name_or_path", "reward_model_or_path", "reward_name_or_path"] },
  ),
  preference_ranking: judging.choice(
    ["round_robin", "tournament"],
    "round_robin",
    "Of a pair-preference model: everybody's mean chance against the others, or K - 1 comparisons",
  ),
  ...rewardServer,
  ...rewardWeights,
} satisfies Table;

const several = { min: 2, aliases: ["k", "num_output_sequences"] };

export const iterateOptions = {
  ...alignment,
  ...judge,
  ...heldOut,
  iterations: iterate.int(3, "Rounds of sampling, scoring, pairing and training", {
    min: 1,
    aliases: ["num_iterations"],
  }),
  prompts_per_iteration: iterate.int(null, "New prompts in each round; default: all prompts shared out evenly", {
    min: 1,
  }),
  reference: iterate.choice(
    ["previous", "initial"],
    "previous",
    "What DPO measures against: the model each round starts from (Online-RLHF), or the run's first (LMFlow, the papers)",
  ),
  num_return_sequences: rollout.int(8, "Responses per prompt", several),
  response_length: rollout.int(64, "Longest response in tokens", { min: 1, aliases: ["max_new_tokens"] }),
  ...sampling(1),
  eos_token_id: rollout.list(null, "Ids of the tokens that end a response; default: the model's"),
  ...serverOptions,
  ...pairChoice,
  ...dpoLoss,
  disable_dropout: optim.bool(true, "Adapters do not drop out"),
  ...duration(2),
  ...optimiser(5e-7, "cosine", 8),
  ...half,
  ...adapterOptions(0.05),
  show_samples: shown,
  ...run,
} satisfies Table;

export const annotateOptions = {
  input_file: data.list(null, "Files of responses, such as the shards of generate; they are joined in this order", {
    required: true,
  }),
  ...judge,
  ...adapterBase,
  ...weightOptions,
  ...chatTemplate,
  max_length: data.int(null, "Cut prompt plus response to this many tokens; default: the model's context", { min: 2 }),
  rows_at_once: judging.int(32, "Prompts scored, and written, together", { min: 1 }),
  output_file: logging.path(null, "Where the rows with their rewards go", { required: true }),
  output_format: logging.choice(
    ["jsonl", "lmflow"],
    "jsonl",
    "Online-RLHF's JSON lines, or LMFlow's text_to_scored_textlist",
  ),
  record_file: logging.path(null, "Append the mean reward, a tab and the mean best reward to this file", {
    aliases: ["record_dir"],
  }),
  resume: logging.bool(true, "Go on where an unfinished output_file of the same input stopped"),
} satisfies Table;
