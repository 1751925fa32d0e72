/** Settings of the verbs that sample: generate, chat and serve. Names are those of Hugging Face's generate(), or vLLM's. */
import { kvCacheFormats } from "../nn/cache.ts";
import { foreignNames } from "../open/foreign.ts";
import { computeSettings, openingSettings, promptSettings, serverSettings, weightSettings } from "../open/settings.ts";
import { sampling } from "../rlhf/settings.ts";
import { trainingDefaults } from "../serve/train/limits.ts";
import { type Condition, effective, group, needs, settings, without } from "../settings/index.ts";
import { askingSettings } from "./cluster-settings.ts";
import { listening } from "./listening.ts";

const model = group("Model");
const data = group("Data");
const rollout = group("Sampling");
const engine = group("Engine");
const network = group("Network");
const logging = group("Output");
const training = group("Training");

/** Responses are drawn, and not the most probable tokens taken. */
const drawn: Condition = {
  on: ["doSample"],
  holds: ({ doSample }) => doSample !== false,
  words: (spell) => `with ${spell("doSample")} false`,
};

const generation = {
  maxNewTokens: rollout.int(64, "Longest response in tokens", { min: 1, aka: ["response_length", "max_tokens"] }),
  minNewTokens: rollout.int(0, "Shortest response in tokens", { min: 0, aka: ["min_tokens"] }),
  ...sampling,
  ...effective(drawn, {
    topP: sampling.topP,
    topK: sampling.topK,
    minP: sampling.minP,
    temperature: rollout.float(1, "Sampling temperature; 0 takes the most probable token", { min: 0 }),
  }),
  doSample: rollout.bool(true, "Sample; false takes the most probable token, whatever the temperature"),
  presencePenalty: rollout.float(0, "Taken off the logits of tokens in the response"),
  frequencyPenalty: rollout.float(0, "Taken off the logits of tokens for each time they stand in the response"),
  logitBias: rollout.text(null, 'Added to the logits of single tokens: JSON like {"50256": -100}'),
  stopStrings: rollout.text(null, 'Texts that end a response: one, or a JSON list like ["\\n\\n", "User:"]', {
    aka: ["stop"],
  }),
  eosTokenId: rollout.list(null, "Ids of the tokens that end a response; default: the model's"),
  ignoreEos: rollout.bool(false, "Go on to max_new_tokens whatever comes"),
  seed: rollout.int(42, "Seed of every random number", { min: 0, max: 0xffffffff }),
};

const context = {
  maxModelLen: engine.int(null, "Tokens per sequence; default: the model's context, but at most 4096", { min: 2 }),
};

/** What a line of an input file may say for itself. */
export const lineSettings = settings("a line", {
  ...generation,
  numReturnSequences: rollout.int(1, "Responses per prompt", { min: 1, aka: ["n"] }),
  logprobs: logging.int(null, "Log-probabilities, and this many alternatives per token", { min: 0, max: 20 }),
});

const cache = {
  kvCacheDtype: engine.choice(
    kvCacheFormats,
    "auto",
    "How keys and values of past tokens are kept; auto: as the model computes. int8 takes little more than a quarter of " +
      "float32's memory; what is sampled, and its log-probabilities, differ a little",
  ),
};

const slots = (count: number) => ({
  maxNumSeqs: engine.int(count, "Sequences decoded at once", { min: 1, max: 4096, aka: ["batch_size"] }),
});

const generateTable = {
  prompt: data.text(null, "One prompt; without it they come from dataset_name"),
  ...promptSettings,
  numPrompts: data.int(null, "Prompts to take from the dataset; default: all, or 8 of made-up ones", {
    min: 1,
    effect: without("prompt", "inputFile"),
  }),
  numReturnSequences: rollout.int(1, "Responses per prompt", { min: 1 }),
  modelNameOrPath: model.path(null, "Model folder; not needed with --server"),
  ...openingSettings,
  ...effective(without("server"), { ...weightSettings, ...computeSettings }),
  inputFile: data.path(null, 'JSON lines to answer, each with "prompt" or "messages", "id" and options; - reads stdin'),
  ...generation,
  ...effective(without("server"), {
    ...slots(64),
    ...cache,
    promptsPerJob: engine.int(
      null,
      "Draw so many prompts together, as a cluster's workers do; default: 4 with a cluster, without one whatever fits",
      { min: 1 },
    ),
  }),
  ...askingSettings("draw the responses"),
  outputFile: logging.path(null, "Write JSON lines to this file; an unfinished one is called <name>.partial-<key>"),
  outputFormat: logging.choice(
    ["completions", "responses"],
    "completions",
    "A line for each response, or one for each prompt with all its responses, as annotate and pairs take it",
  ),
  shard: data.text(null, "Answer only this part of the prompts, e.g. 0/4 for the first of four; together they are all"),
  resume: logging.bool(true, "Go on where an unfinished output_file of the same command stopped", {
    effect: needs("outputFile"),
  }),
  logprobs: logging.int(null, "Report log-probabilities, and this many alternatives per token", { min: 0, max: 20 }),
  returnTokenIds: logging.bool(false, "Write token ids beside the text"),
  ...serverSettings,
};

export const generateSettings = settings("generate", generateTable, undefined, foreignNames);

const chatTable = {
  modelNameOrPath: model.path(null, "Model folder", { required: true }),
  ...openingSettings,
  system: data.text(null, "System message to begin with"),
  ...generation,
  maxNewTokens: rollout.int(256, "Longest answer in tokens", { min: 1, aka: ["response_length", "max_tokens"] }),
  ...context,
  ...cache,
};

export const chatSettings = settings("chat", chatTable, undefined, foreignNames);

const serveTable = {
  modelNameOrPath: model.path(null, "Model folder", { required: true }),
  servedModelName: model.text(null, "Name that clients ask for; default: the folder's name"),
  ...openingSettings,
  ...context,
  ...slots(8),
  ...cache,
  maxWaiting: engine.int(256, "Responses that may wait while all slots are taken; more get status 429", { min: 0 }),
  loraFolders: engine.list(
    null,
    "Folders from which clients may load adapters at run time; default: none may be loaded",
  ),
  maxLoras: engine.int(2, "Adapters loaded at once, each with a cache as large as the model's", { min: 1 }),
  train: training.bool(
    false,
    "Let clients train low-rank adapters on the model, by the protocol of the tinker package",
  ),
  trainFolder: training.path("training", "Folder below which they save", { effect: needs("train") }),
  maxLoraRank: training.int(trainingDefaults.maxLoraRank, "Largest rank of an adapter", {
    min: 1,
    effect: needs("train"),
  }),
  maxTrainModels: training.int(
    trainingDefaults.maxTrainModels,
    "Models in training at once; those of clients that have ended make room",
    { min: 1, effect: needs("train") },
  ),
  maxSamplers: training.int(
    trainingDefaults.maxSamplers,
    "Saved weights open to be sampled from at once, each with a cache as large as the model's",
    { min: 1, effect: needs("train") },
  ),
  maxCheckpoints: training.int(trainingDefaults.maxCheckpoints, "Saved folders that are kept; more are refused", {
    min: 1,
    effect: needs("train"),
  }),
  sessionTimeout: training.float(
    trainingDefaults.sessionMs / 1000,
    "Seconds without a sign of life after which a client's session ends, with its models",
    { min: 1, effect: needs("train") },
  ),
  generationConfig: engine.choice(["auto", "none"], "auto", "Take defaults from the model's generation_config.json"),
  ...listening,
  apiKey: network.text(null, "Key that clients must send; without one they need none", { secret: "WEBRLHF_API_KEY" }),
  corsOrigins: network.list(null, "Origins whose web pages may call the server; * allows all"),
  maxBodyBytes: network.int(4 << 20, "Largest request body", { min: 1024 }),
  maxRequests: network.int(256, "Requests answered at once; more get status 503", { min: 1 }),
  maxRequestTokens: network.int(
    1 << 18,
    "Tokens that one request may have computed, prompts and n responses together",
    {
      min: 1,
    },
  ),
  maxAnswerBytes: network.int(16 << 20, "Largest answer, as reckoned before it is made", { min: 1024 }),
  requestTimeout: network.float(600, "Seconds that one answer may take; 0 sets no limit", { min: 0 }),
  shutdownTimeout: network.float(10, "Seconds that running requests get to finish when the server stops", { min: 0 }),
};

export const serveSettings = settings("serve", serveTable, undefined, foreignNames);
