/** What the verb `evaluate` takes. */
import { foreignNames } from "../../open/foreign.ts";
import {
  actingSettings,
  openingSettings,
  overwriting,
  promptSettings,
  rewardServerSettings,
  rewardSettings,
  rewardWeights,
} from "../../open/settings.ts";
import { aheadSettings } from "../../rlhf/ahead.ts";
import { environmentSettings } from "../../rlhf/environment/settings.ts";
import { caching, data, logging, model, positive, rollout, seed } from "../../rlhf/settings.ts";
import { all, type Condition, effective, group, isSet, needs, settings, without } from "../../settings/index.ts";
import { askingSettings } from "../cluster-settings.ts";
import { readingSettings } from "./reading-settings.ts";

const judging = group("Pairs");

/** Pairs are counted, those of a dataset, or a policy's answers with others'; or episodes are. */
const counting: Condition = {
  on: ["modelNameOrPath", "judge", "environment"],
  holds: ({ modelNameOrPath, judge, environment }) => !isSet(modelNameOrPath) || isSet(judge) || isSet(environment),
  words: (spell) => `with ${spell("modelNameOrPath")} and without ${spell("judge")} or ${spell("environment")}`,
};

/** How a reward model's choices between two answers are counted. */
const pairJudging = effective(without("modelNameOrPath", "judge"), {
  ties: judging.choice(["strict", "half"], "strict", "A tie counts as wrong (RewardBench), or as half right (RLHFlow)"),
  priorDatasetName: judging.text(
    null,
    "With RewardBench: its prior preference sets, a dataset (or several, comma-separated) with a subset for each pair",
  ),
  legacyCounts: judging.bool(
    false,
    "With RewardBench: swap the weights of the XSTest subsets, as its early scripts did",
  ),
});

const evaluateTable = {
  subject: model.choice(
    ["auto", "policy", "reward"],
    "auto",
    "What to measure; auto: the policy if there is one, else the reward model",
  ),
  modelNameOrPath: model.path(null, "Policy to sample from; without it the reward model is tested on pairs"),
  refModelNameOrPath: model.path(
    null,
    "Model that the KL is measured against, default: no KL; with judge the one whose answers the policy's are compared with",
    { effect: needs("modelNameOrPath", "judge") },
  ),
  rewardModelPath: {
    ...rewardSettings.rewardModelPath,
    unless: ["judge", "environment"],
    effect: without("environment"),
  },
  judge: model.path(
    null,
    "File of an LLM judge of pairs: gives the policy's win rate against the reference's answers, or against those in the dataset",
  ),
  answersFile: model.path(null, "Answers of the policy, instead of drawing them: rows with a prompt and its answer", {
    aka: ["model_outputs"],
    effect: all(needs("judge"), without("modelNameOrPath")),
  }),
  refAnswersFile: model.path(null, "Answers that the policy's are compared with, likewise", {
    aka: ["reference_outputs"],
    effect: all(needs("judge"), without("refModelNameOrPath")),
  }),
  ...rewardServerSettings,
  ...openingSettings,
  ...rewardWeights,
  ...promptSettings,
  numPrompts: data.int(null, "Prompts or pairs to use; default: 256 prompts, or all pairs of a dataset", { min: 1 }),
  maxLength: readingSettings.maxLength,
  truncationSide: readingSettings.truncationSide,
  ...pairJudging,
  bootstrapSamples: judging.int(1000, "Resamples for the 95 % intervals; 0 gives none", { min: 0, effect: counting }),
  ...effective(needs("modelNameOrPath", "refModelNameOrPath"), {
    promptsPerJob: { ...aheadSettings.promptsPerJob, effect: without("environment") },
    responseLength: rollout.int(64, "Longest response in tokens", { min: 1, aka: ["max_new_tokens"] }),
    temperature: rollout.float(1, "Sampling temperature", positive),
    ...caching,
  }),
  ...effective(all(needs("modelNameOrPath"), without("judge")), {
    environment: actingSettings.environment,
    ...environmentSettings,
    successReward: rollout.float(
      null,
      "An episode whose rewards come to so much is a success; default: the best that the environment says there is",
      { effect: needs("environment") },
    ),
    bestOf: rollout.int(1, "Sample this many responses per prompt and keep the one the reward likes best", {
      min: 1,
    }),
    perplexityDatasetName: data.text(
      null,
      "Held-out texts, or prompts with answers, to measure the policy's perplexity on; default: none",
    ),
    evaluateBlockSize: data.int(512, "Tokens from one window to the next where perplexity is that of running text", {
      min: 1,
      effect: needs("perplexityDatasetName"),
    }),
  }),
  ...askingSettings("draw the policy's responses, or score pairs"),
  label: logging.text(null, "Name of the result in reports; default: the model folder's name"),
  seed,
  outputDir: logging.path("out/evaluate", "Folder for evaluation.json"),
  ...overwriting,
};

/** The settings of `evaluate`. */
export const evaluateSettings = settings("evaluate", evaluateTable, undefined, foreignNames);
