/** Options of the verbs that sample: generate, chat and serve. Names are those of Hugging Face's generate(), or vLLM's. */

import { weightOptions } from "../models/weight-options.ts";
import { options, type Table } from "../option.ts";
import { promptOptions } from "./prompts.ts";
import { serverOptions } from "./shared.ts";

const model = options("Model");
const data = options("Data");
const rollout = options("Sampling");
const engine = options("Engine");
const network = options("Network");
const logging = options("Output");

const share = { min: 0, max: 1 };

const sampling = {
  max_new_tokens: rollout.int(64, "Longest response in tokens", { min: 1, aliases: ["response_length", "max_tokens"] }),
  min_new_tokens: rollout.int(0, "Shortest response in tokens", { min: 0, aliases: ["min_tokens"] }),
  temperature: rollout.float(1, "Sampling temperature; 0 takes the most probable token", { min: 0 }),
  do_sample: rollout.bool(true, "Sample; false takes the most probable token, whatever the temperature"),
  top_k: rollout.int(0, "Sample from this many likeliest tokens; 0 takes all", { min: 0 }),
  top_p: rollout.float(1, "Sample from the fewest tokens with this much probability", { ...share, exclusiveMin: true }),
  min_p: rollout.float(0, "Sample from tokens with this share of the likeliest one's probability", share),
  repetition_penalty: rollout.float(1, "Makes tokens of the prompt and the response less likely; 1 does nothing", {
    min: 0,
    exclusiveMin: true,
  }),
  presence_penalty: rollout.float(0, "Taken off the logits of tokens in the response"),
  frequency_penalty: rollout.float(0, "Taken off the logits of tokens for each time they stand in the response"),
  logit_bias: rollout.text(null, 'Added to the logits of single tokens: JSON like {"50256": -100}'),
  stop_strings: rollout.text(null, 'Texts that end a response: one, or a JSON list like ["\\n\\n", "User:"]', {
    aliases: ["stop"],
  }),
  eos_token_id: rollout.list(null, "Ids of the tokens that end a response; default: the model's"),
  ignore_eos: rollout.bool(false, "Go on to max_new_tokens whatever comes"),
  seed: rollout.int(42, "Seed of every random number", { min: 0, max: 0xffffffff }),
};

const context = {
  max_model_len: engine.int(null, "Tokens per sequence; default: the model's context, but at most 4096", { min: 2 }),
};

/** What a line of an input file may say for itself. */
export const lineOptions = {
  ...sampling,
  num_return_sequences: rollout.int(1, "Responses per prompt", { min: 1, aliases: ["n"] }),
  logprobs: logging.int(null, "Log-probabilities, and this many alternatives per token", { min: 0, max: 20 }),
} satisfies Table;

const slots = (count: number) => ({
  max_num_seqs: engine.int(count, "Sequences decoded at once", { min: 1, max: 4096, aliases: ["batch_size"] }),
});

const template = {
  chat_template_path: model.path(null, "Jinja file to write conversations with; default: the model's own"),
};

export const generateTable = {
  ...promptOptions,
  model_name_or_path: model.path(null, "Model folder; not needed with --server"),
  ...template,
  ...weightOptions,
  input_file: data.path(
    null,
    'JSON lines to answer, each with "prompt" or "messages", "id" and options; - reads stdin',
  ),
  ...sampling,
  ...slots(64),
  output_file: logging.path(null, "Write JSON lines to this file; an unfinished one is called <name>.partial-<key>"),
  output_format: logging.choice(
    ["completions", "responses"],
    "completions",
    "A line for each response, or one for each prompt with all its responses, as annotate and pairs take it",
  ),
  shard: data.text(null, "Answer only this part of the prompts, e.g. 0/4 for the first of four; together they are all"),
  resume: logging.bool(true, "Go on where an unfinished output_file of the same command stopped"),
  logprobs: logging.int(null, "Report log-probabilities, and this many alternatives per token", { min: 0, max: 20 }),
  return_token_ids: logging.bool(false, "Write token ids beside the text"),
  ...serverOptions,
} satisfies Table;

export const chatOptions = {
  model_name_or_path: model.path(null, "Model folder", { required: true }),
  base_model_name_or_path: model.path(null, "Base of an adapter's folder; default: what its adapter_config.json names"),
  ...template,
  ...weightOptions,
  system: data.text(null, "System message to begin with"),
  ...sampling,
  max_new_tokens: rollout.int(256, "Longest answer in tokens", { min: 1, aliases: ["response_length", "max_tokens"] }),
  ...context,
} satisfies Table;

export const serveOptions = {
  model_name_or_path: model.path(null, "Model folder", { required: true }),
  base_model_name_or_path: model.path(null, "Base of an adapter's folder; default: what its adapter_config.json names"),
  served_model_name: model.text(null, "Name that clients ask for; default: the folder's name"),
  ...template,
  ...weightOptions,
  ...context,
  ...slots(8),
  max_waiting: engine.int(64, "Responses that may wait while all slots are taken; more get status 429", { min: 0 }),
  generation_config: engine.choice(["auto", "none"], "auto", "Take defaults from the model's generation_config.json"),
  host: network.text("127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in"),
  port: network.int(8000, "Port; 0 takes any free one", { min: 0, max: 65535 }),
  api_key: network.text(null, "Key that clients must send; default: WEBRLHF_API_KEY, or none"),
  allowed_hosts: network.list(null, "Host names, besides localhost and addresses, under which the server answers"),
  cors_origins: network.list(null, "Origins whose web pages may call the server; * allows all"),
  max_body_bytes: network.int(4 << 20, "Largest request body", { min: 1024 }),
  shutdown_timeout: network.float(10, "Seconds that running requests get to finish when the server stops", { min: 0 }),
} satisfies Table;
