/**
 * What things are called that a run opens by name: models, tokenizers, rewards, datasets, servers. Trainers take the things
 * themselves; whoever opens them for a trainer, a program or the command line, takes these settings.
 */
import { madeDataset } from "../data/made.ts";
import { familyNames } from "../nn/families/table.ts";
import { data, logging, model, positive } from "../rlhf/settings.ts";
import { isCode } from "../runtime/own-code.ts";
import { isAddress, isServer } from "../runtime/paths.ts";
import { type Condition, effective, group, isSet, needs, without } from "../settings/index.ts";
import { weightFormats } from "./precision.ts";

const precision = group("Precision");
const peft = group("Adapters (LoRA)");
const shape = group("Model from scratch");
const remote = group("Another server");
const rewards = group("Rewards from a server");

/** The choice to replace an earlier run's files in the folder that is written to. */
export const overwriting = {
  overwriteOutputDir: logging.bool(false, "Replace what an earlier run left in output_dir; else it is refused"),
};

/** How often a run is told of in words, and how much of it is kept. */
export const logSettings = {
  loggingSteps: logging.int(10, "Steps between printed lines when the output is not a terminal", { min: 1 }),
  saveTotalLimit: logging.int(1, "Checkpoints to keep; 0 keeps all", { min: 0 }),
  reportTo: logging.list(
    null,
    "Who besides metrics.jsonl hears the run's numbers: tensorboard (event files), wandb (an offline run for wandb sync), trackio " +
      "(a server), or all; default: none",
  ),
  // Configs of other programs name their runs whether or not they report them, so these two may stand alone.
  runName: logging.text(null, "What the run is called by those of report_to; default: the folder's name"),
  project: logging.text("huggingface", "The project of the run in wandb and Trackio"),
  trackioServerUrl: logging.text(
    null,
    "Address of Trackio's server, with its write_token, as `trackio show` prints it",
    {
      secret: "TRACKIO_SERVER_URL",
    },
  ),
  loggingDir: logging.path(null, "Folder of TensorBoard's event files; default: runs in output_dir"),
};

/** Where models and datasets named `org/name` come from. */
export const hubSettings = {
  modelRevision: model.text(null, "Branch, tag or commit of models named org/name; default: main", {
    aka: ["revision"],
  }),
  offline: model.bool(false, "Take models and datasets named org/name from the cache only; also HF_HUB_OFFLINE=1", {
    aka: ["local_files_only"],
  }),
};

/** The tokenizer of a model that is trained. */
export const tokenizerSettings = {
  tokenizerNameOrPath: model.path(null, "Folder or tokenizer.json, or builtin:world; default: the model's own"),
};

/** How conversations are written. */
export const templateSettings = {
  chatTemplatePath: model.path(
    null,
    "Jinja file to write conversations with, or builtin:safe-rlhf; default: the model's own",
  ),
};

/** How weights that are not trained are kept on the GPU. */
export const weightSettings = {
  dtype: precision.choice(
    weightFormats,
    "float32",
    "How weights that are not trained are kept on the GPU: of models to sample from, and of bases under adapters; " +
      "embeddings and heads get more bits than int8 and int4 have",
    { aka: ["torch_dtype"] },
  ),
  loadIn8bit: precision.bool(false, "Short for --dtype int8", { aka: ["load_in_8bit"] }),
  loadIn4bit: precision.bool(false, "Short for --dtype int4", { aka: ["load_in_4bit"] }),
};

const overrides = ["auto", ...weightFormats] as const;

/** A model among the rewards. */
const rewardModel: Condition = {
  on: ["rewardModelPath", "rewardFuncs"],
  holds: ({ rewardModelPath, rewardFuncs }) =>
    [rewardModelPath, rewardFuncs].flat().some((name) => typeof name === "string" && isModel(name)),
  words: (spell) => `where ${spell("rewardModelPath")} is no model`,
};
const isModel = (name: string): boolean => !isAddress(name) && !isCode(name) && !name.startsWith("builtin:");

/** How a reward model's weights are kept. */
export const rewardWeights = {
  rewardModelDtype: precision.choice(overrides, "auto", "How the reward model's weights are kept; auto is --dtype", {
    effect: rewardModel,
  }),
};

/** There is a reference: a method that may do without has one for its KL penalty, or the base of its adapter. */
const measured: Condition = {
  on: ["beta"],
  holds: ({ beta, usePeft }) => isSet(beta) || isSet(usePeft),
  words: (spell) => `without ${spell("beta")}, which needs a reference`,
};

/** How a reference's weights are kept. */
export const referenceWeights = {
  refModelDtype: precision.choice(overrides, "auto", "How the reference's weights are kept; auto is --dtype", {
    effect: measured,
  }),
};

/** The base of an adapter. */
export const baseSettings = {
  baseModelNameOrPath: peft.path(null, "Base of an adapter's folder; default: what its adapter_config.json names"),
};

/** How a model computes that is used as it is. */
export const computeSettings = {
  fp16: precision.bool(
    false,
    "Compute in f16, with a cache of keys and values in f16; the residual stream, norms, softmax and sums stay f32. " +
      "--dtype float16 keeps the weights in half the memory besides",
  ),
};

/** How a model is opened that is used as it is. */
export const openingSettings = {
  ...baseSettings,
  ...templateSettings,
  ...hubSettings,
  ...weightSettings,
  ...computeSettings,
};

/** A fresh adapter. */
const newAdapter = (dropout: number) => ({
  loraR: peft.int(16, "Rank of the adapter", { min: 1 }),
  loraAlpha: peft.float(32, "The adapter's update is multiplied by alpha / rank"),
  loraDropout: peft.float(dropout, "Part of the adapter's input that drops out in training (never in PPO)", {
    min: 0,
    max: 0.99,
  }),
  loraTargetModules: peft.list(null, "Ends of names of linear layers, or all-linear; default: as PEFT, by family"),
  loraModulesToSave: peft.list(null, "Modules to train whole besides (lm_head, embed_tokens, ...)"),
  useRslora: peft.bool(false, "Multiply the update by alpha / sqrt(rank) instead"),
  useDora: peft.bool(false, "Train the lengths of the adapted weights' rows besides (DoRA); needs a base in float32"),
});

/** Adapters to train, by PEFT's names. */
export const adapterSettings = (dropout: number) => ({
  usePeft: peft.bool(false, "Train a low-rank adapter instead of the whole model"),
  ...effective(needs("usePeft"), newAdapter(dropout)),
  ...baseSettings,
  ...weightSettings,
});

/** The model that a trainer of examples starts from. */
export const startSettings = (dropout: number, help: string) => ({
  modelNameOrPath: model.path(null, help, { required: true }),
  ...tokenizerSettings,
  ...templateSettings,
  ...hubSettings,
  ...adapterSettings(dropout),
});

/** A model from scratch. */
export const shapeSettings = effective(without("modelNameOrPath"), {
  modelType: shape.choice(familyNames(), "llama", "Model family"),
  hiddenSize: shape.int(128, "Width of the residual stream", { min: 1 }),
  numHiddenLayers: shape.int(4, "Transformer blocks", { min: 1 }),
  numAttentionHeads: shape.int(4, "Attention heads", { min: 1 }),
  numKeyValueHeads: shape.int(null, "Heads of keys and values; default: num_attention_heads", { min: 1 }),
  intermediateSize: shape.int(null, "Width of the feed-forward layer; default: by family", { min: 1 }),
  maxPositionEmbeddings: shape.int(256, "Longest sequence in tokens", { min: 1 }),
  tieWordEmbeddings: shape.bool(true, "Share the embedding with the output layer"),
});

/** Settings that choose a part of a dataset. */
export const splitSettings = {
  datasetConfig: data.text(null, "Configuration of a dataset folder; default: its only one, or default"),
  datasetTrainSplit: data.text("train", "Split of a dataset folder to use"),
  column: data.list(null, "Columns of files that are called otherwise: prompt=question,completion=answer", {
    aka: ["columns"],
  }),
};

const reading = {
  template: data.choice(
    ["auto", "plain", "turns", "chat"],
    "auto",
    "Conversations by the model's chat template if it has one (auto), or as a transcript (plain); " +
      "turns and chat do so and make turns of texts too",
  ),
  longPrompts: data.choice(["error", "skip"], "error", "What to do with prompts that leave no room for an answer"),
};

/** Settings of the data that are learned from. */
export const datasetSettings = {
  datasetName: data.mixture(
    "builtin:world",
    "A .parquet, .json, .jsonl, .csv, .tsv or .txt file, also .gz; a dataset folder; org/name on the hub; a name that " +
      '"webrlhf data list" shows; a module of your own (.ts, .js); a mixture (name:proportion:path,...); or builtin:world',
    { aka: ["train_datasets", "dataset_path", "dataset"] },
  ),
  ...splitSettings,
  testSize: data.float(0, "Part of the dataset's prompts that is held out, the same part for every verb and seed", {
    min: 0,
    max: 0.99,
  }),
  maxTrainSamples: data.int(null, "Use this many records; builtin:world makes this many, 2048 by default", { min: 1 }),
  ...reading,
};

/** Data that are held out. */
const heldOut: Condition = {
  on: ["datasetName"],
  holds: (o) => isSet(o.evalDatasetName) || isSet(o.datasetTestSplit) || isSet(o.testSize) || isMade(o.datasetName),
  words: (spell) => `without ${spell("evalDatasetName")}, ${spell("datasetTestSplit")} or ${spell("testSize")}`,
};
const isMade = (name: unknown): boolean => typeof name === "string" && madeDataset(name) !== null;

/** Settings of the data that are held out. */
export const heldOutSettings = {
  evalDatasetName: data.mixture(
    null,
    "Held-out data; default: what test_size holds out, or builtin:world's test part",
    { aka: ["eval_datasets"] },
  ),
  datasetTestSplit: data.text(null, "Split of the held-out data, where it is a folder; default: none, or train"),
  maxEvalSamples: data.int(256, "Use this many held-out records", { min: 1, effect: heldOut }),
};

/** Prompts of verbs that train nothing. */
export const promptSettings = effective(without("prompt", "inputFile"), {
  datasetName: data.mixture(
    "builtin:world",
    "Where prompts come from: a file, a dataset folder, org/name on the hub, a registered name, a module of your own, a " +
      "mixture, or builtin:world's test part",
    { aka: ["dataset"] },
  ),
  ...splitSettings,
  testSize: data.float(0, "Take the prompts from this held-out part of the dataset; 0 takes the whole", {
    min: 0,
    max: 0.99,
  }),
  ...reading,
});

/** A server that samples instead of this program. */
export const serverSettings = {
  server: remote.text(null, "Let a server with OpenAI's interface sample: http://host:port"),
  ...effective(needs("server"), {
    serverModel: remote.text(null, "Name of the model there; default: its only one"),
    serverConcurrency: remote.int(16, "Requests under way at once", { min: 1 }),
    apiKey: remote.text(null, "Key for the server", { secret: "OPENAI_API_KEY" }),
  }),
};

/** A server among the rewards. */
const rewardServer: Condition = {
  on: ["rewardModelPath", "rewardFuncs"],
  holds: ({ rewardModelPath, rewardFuncs }) =>
    [rewardModelPath, rewardFuncs].flat().some((name) => typeof name === "string" && isServer(name)),
  words: (spell) => `unless ${spell("rewardModelPath")} is a server's URL`,
};

/** An HTTP endpoint that gives rewards. */
export const rewardServerSettings = effective(rewardServer, {
  rewardServerFormat: rewards.choice(
    ["plain", "paddle"],
    "plain",
    "Plain is {prompts, responses} -> {rewards}, paddle is PaddleNLP's {src, tgt, response} -> {score}",
  ),
  rewardServerBatchSize: rewards.int(64, "Responses in one request", { min: 1 }),
  rewardServerConcurrency: rewards.int(4, "Requests under way at once", { min: 1 }),
  rewardServerTimeout: rewards.float(120, "Seconds to wait for an answer; then the run fails", positive),
  rewardServerRetries: rewards.int(4, "Tries after the first when the server is away, busy or broken", { min: 0 }),
  rewardServerApiKey: rewards.text(null, "Key for the server, sent as a bearer token", {
    secret: "REWARD_SERVER_API_KEY",
  }),
});

/** Where rewards come from. */
export const rewardSettings = {
  rewardModelPath: model.path(
    null,
    "Reward model folder, made by reward; builtin:world is the true reward, builtin:accuracy and the like are verified; http://.. a " +
      "server that gives rewards; judge:FILE a language model on a server that grades; a module of your own (./my-reward.ts)",
    { required: true, aka: ["reward_model_name_or_path", "reward_model_or_path", "reward_server", "reward"] },
  ),
  ...rewardServerSettings,
  ...rewardWeights,
};

/** Who scores the responses of a prompt, one by one or against each other. */
export const judgeSettings = {
  rewardModelPath: model.path(
    null,
    "What scores responses: a folder made by reward or pairwise, an endpoint's URL, judge:FILE, a language model on a server, a module of " +
      "your own, builtin:world, " +
      "the true reward, or one that is verified, such as builtin:accuracy",
    {
      required: true,
      aka: ["reward_model_name_or_path", "reward_model_or_path", "reward_name_or_path", "reward_server", "reward"],
    },
  ),
  preferenceRanking: group("Judge").choice(
    ["round_robin", "tournament"],
    "round_robin",
    "Of a pair-preference model: everybody's mean chance against the others, or K - 1 comparisons",
  ),
  ...rewardServerSettings,
  ...rewardWeights,
};

/** A policy that learns from rewards, by name, with its prompts. */
export const alignmentSettings = {
  modelNameOrPath: model.path(null, "Policy to start from: a model folder, usually made by sft", {
    required: true,
    aka: ["sft_model_path", "actor_model_name_or_path"],
  }),
  ...rewardSettings,
  ...referenceWeights,
  ...templateSettings,
  ...hubSettings,
  ...adapterSettings(0),
  ...datasetSettings,
};

/** A policy that may act in an environment, which rewards it, too. */
export const actingSettings = {
  ...alignmentSettings,
  rewardModelPath: { ...rewardSettings.rewardModelPath, unless: "environment" },
  environment: model.path(
    null,
    "What the policy acts in over several turns: builtin:guess, calculator, grid or story, a server (openenv:http://127.0.0.1:8000), " +
      "or a module of your own (./my-environment.ts); default: it answers once",
  ),
};

/** The reference that a policy is compared with. */
export const referenceSettings = {
  refModelNameOrPath: model.path(
    null,
    "Reference; default: the policy as it starts (an adapter's base, if it is new)",
    { aka: ["ref_model"] },
  ),
  ...referenceWeights,
};

/** Rewards that are added to the first. */
export const moreRewardSettings = {
  rewardFuncs: model.list(null, "More rewards to add: what reward_model_path may name"),
};

/** Sequences that are learned beside PPO. */
export const ptxSettings = {
  ptxDatasetName: data.mixture(
    null,
    "Prompts with completions to go on learning beside PPO, against forgetting; default: none",
    { aka: ["ptx_datasets"] },
  ),
  ...effective(needs("ptxDatasetName"), {
    maxPtxSamples: data.int(null, "Use this many records of the ptx data", { min: 1 }),
    maxPtxLength: data.int(null, "Cut ptx sequences to this many tokens; default: the model's context", { min: 2 }),
  }),
};
