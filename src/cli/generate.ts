import { OpenAIClient } from "../io/openai-client.ts";
import type { ChatMessage } from "../io/openai-types.ts";
import { requestFields } from "../rlhf/remote.ts";
import { UserError } from "../runtime/errors.ts";
import { diskFiles, type Files } from "../runtime/files.ts";
import { uint32 } from "../runtime/rng.ts";
import type { TextCodec, TextModel } from "../serve/model.ts";
import { sampleText, type TokenInfo } from "../serve/text.ts";
import { textCodec, textModel } from "../serve/text-model.ts";
import { promptData } from "./datasets.ts";
import { type Job, makeJob, readJobs } from "./generate-jobs.ts";
import { OrderedOutput } from "./generate-output.ts";
import { openGpu } from "./gpu.ts";
import { openPolicy, openTokenizer, withModels } from "./models.ts";
import type { Values } from "./option.ts";
import { generateTable } from "./sampling-options.ts";
import { generationConfig, takeTemplate } from "./text-models.ts";
import { type Context, defineVerb, Interrupted } from "./verb.ts";

type Choice = Values<typeof generateTable>;

/** One response. */
interface Outcome {
  text: string;
  finish: "stop" | "length";
  ids?: number[];
  tokens?: TokenInfo[];
}

/** Answers one job; the results of its samples in their order. */
type Answerer = (job: Job, index: number, signal: AbortSignal) => Promise<Outcome[]>;

export const generateVerb = defineVerb({
  name: "generate",
  summary: "Sample responses from a model",
  options: generateTable,
  examples: [
    "webrlhf generate --model_name_or_path out/sft --num_prompts 3 --num_return_sequences 2",
    'webrlhf generate --model_name_or_path out/sft --prompt "Once there was" --temperature 0.7',
    "webrlhf generate --model_name_or_path out/sft --input_file prompts.jsonl --output_file answers.jsonl --min_p 0.05",
    "webrlhf generate --server http://127.0.0.1:8000 --input_file prompts.jsonl --output_file answers.jsonl",
  ],
  async run(o, context) {
    const files = await diskFiles();
    if (o.server !== null) return generateRemotely(o, files, context);
    if (o.model_name_or_path === null) {
      throw new UserError(
        "model_name_or_path is not set: pass --model_name_or_path, or --server to let another program sample",
      );
    }
    await openGpu(context.terminal);
    const path = o.model_name_or_path;
    const { model, tokenizer } = await openPolicy(files, path, null, o.base_model_name_or_path);
    await withModels([model], async () => {
      const jobs = await collectJobs(o, () => {
        const room = { context: model.config.maxPositions, response: o.max_new_tokens };
        return promptData(datasetChoice(o), datasetPart(o), tokenizer, room, context.terminal);
      });
      await takeTemplate(files, tokenizer, o.chat_template_path);
      const codecOptions = { generationConfig: await generationConfig(files, path) };
      const codec = textCodec(tokenizer, model.config, codecOptions, model.config.maxPositions);
      const prompts = jobs.map((job) => promptIds(codec, job));
      const samples = jobs.reduce((sum, job) => sum + job.samples, 0);
      const text = textModel(model, tokenizer, {
        ...codecOptions,
        name: path,
        slots: Math.min(o.max_num_seqs, samples),
        capacity: checkRoom(jobs, prompts, model.config.maxPositions),
        // One schedule for one list of prompts, so that equal commands give equal answers to the last bit.
        fixedRows: true,
        stepsPerRead: 16,
      });
      try {
        await answerAll(o, context, jobs, jobs.length, async (job, index, signal) => {
          const { ids, stop } = prompts[index];
          const params = { ...job.params, eosIds: job.params.eosIds ?? codec.endIds };
          return sampleHere(text, { ...job, params }, index, ids, [...job.stop, ...stop], signal);
        });
      } finally {
        await text.engine.close();
      }
    });
  },
});

const datasetPart = (o: Choice) => (o.dataset_name === "builtin:world" || o.test_size > 0 ? "test" : "train");
const datasetChoice = (o: Choice) => ({ ...o, max_eval_samples: o.num_prompts, max_train_samples: o.num_prompts });

async function collectJobs(
  o: Choice,
  fromDataset: () => Promise<{ text: string; ids: Uint32Array }[]>,
): Promise<Job[]> {
  if (o.prompt !== null && o.input_file !== null) throw new UserError("pass either --prompt or --input_file, not both");
  if (o.input_file !== null) return readJobs(o.input_file, o);
  if (o.prompt !== null) return [makeJob("prompt 0", { prompt: o.prompt }, o)];
  return (await fromDataset()).map(({ text }, i) => makeJob(`prompt ${i}`, { prompt: text }, o));
}

/** A job's prompt in token ids, with the strings at which a conversation's turn ends. */
function promptIds(model: TextCodec, { given, where }: Job): { ids: Uint32Array; stop: readonly string[] } {
  if ("messages" in given) {
    const { ids, stop } = model.chat(given.messages);
    return { ids: Uint32Array.from(ids), stop };
  }
  const ids = typeof given.prompt === "string" ? model.encode(given.prompt) : given.prompt;
  if (ids.length === 0)
    throw new UserError(`${where}: the prompt is empty: a model needs at least one token to go on from`);
  const foreign = ids.find((id) => id >= model.vocabSize);
  if (foreign !== undefined)
    throw new UserError(`${where}: there is no token ${foreign}; ids are below ${model.vocabSize}`);
  return { ids: Uint32Array.from(ids), stop: [] };
}

/** Tokens of the longest job. */
function checkRoom(jobs: readonly Job[], prompts: readonly { ids: Uint32Array }[], context: number): number {
  let longest = 0;
  jobs.forEach(({ where, params }, i) => {
    const { length } = prompts[i].ids;
    if (length + params.maxNewTokens > context) {
      throw new UserError(
        `${where} has ${length} tokens; with ${params.maxNewTokens} new ones it exceeds the context of ${context}: ` +
          "shorten the prompt or the response",
      );
    }
    longest = Math.max(longest, length + params.maxNewTokens);
  });
  return longest;
}

async function sampleHere(
  model: TextModel,
  { params, samples, logprobs }: Job,
  index: number,
  ids: Uint32Array,
  stop: string[],
  signal: AbortSignal,
): Promise<Outcome[]> {
  const streams = Array.from({ length: samples }, (_, k) => uint32(params.seed, 0, index, k));
  const all = streams.map(() => ({ text: "", tokens: [] as TokenInfo[], finish: "length" as Outcome["finish"] }));
  for await (const piece of sampleText(model, { ids, params, samples, streams, stop, top: logprobs ?? 0, signal })) {
    const one = all[piece.sample];
    one.text += piece.text;
    one.tokens.push(...piece.tokens);
    one.finish = piece.finish ?? one.finish;
  }
  return all.map((one) => ({ ...one, ids: one.tokens.map((t) => t.id) }));
}

async function generateRemotely(o: Choice, files: Files, context: Context): Promise<void> {
  const client = new OpenAIClient({ baseUrl: o.server!, apiKey: o.api_key ?? process.env.OPENAI_API_KEY ?? null });
  const jobs = await collectJobs(o, async () => {
    if (o.model_name_or_path === null) {
      throw new UserError("prompts of a dataset need a tokenizer: pass --model_name_or_path, --prompt or --input_file");
    }
    const tokenizer = await openTokenizer(files, o.model_name_or_path);
    const room = { context: 1e9, response: o.max_new_tokens };
    return promptData(datasetChoice(o), datasetPart(o), tokenizer, room, context.terminal);
  });
  const model = o.server_model ?? (await onlyModel(client, context.signal));
  await answerAll(o, context, jobs, o.server_concurrency, async (job, index, signal) => {
    const seed = uint32(job.params.seed, 0, index);
    const body = {
      model,
      n: job.samples,
      ...requestFields({ ...job.params, seed }),
      ...(job.stop.length > 0 && { stop: job.stop }),
      ...(o.return_token_ids && { return_token_ids: true }),
    };
    return "messages" in job.given
      ? askChat(client, body, job.given.messages, job.logprobs, signal)
      : askCompletion(client, { ...body, prompt: job.given.prompt }, job.logprobs, signal);
  });
}

async function askCompletion(
  client: OpenAIClient,
  body: object,
  logprobs: number | null,
  signal: AbortSignal,
): Promise<Outcome[]> {
  if (logprobs !== null) throw new UserError("--logprobs cannot be had from a server; its tokens may be other ones");
  const { choices } = await client.completion(body, signal);
  return [...choices]
    .sort((a, b) => a.index - b.index)
    .map((c) => ({ text: c.text, finish: c.finish_reason ?? "length", ...(c.token_ids && { ids: c.token_ids }) }));
}

async function askChat(
  client: OpenAIClient,
  body: object,
  messages: ChatMessage[],
  logprobs: number | null,
  signal: AbortSignal,
): Promise<Outcome[]> {
  if (logprobs !== null) throw new UserError("--logprobs cannot be had from a server; its tokens may be other ones");
  const { choices } = await client.chat({ ...body, messages }, signal);
  return [...choices]
    .sort((a, b) => a.index - b.index)
    .map((c) => ({
      text: c.message.content ?? "",
      finish: c.finish_reason ?? "length",
      ...(c.token_ids && { ids: c.token_ids }),
    }));
}

async function onlyModel(client: OpenAIClient, signal: AbortSignal): Promise<string> {
  const names = await client.models(signal);
  if (names.length === 1) return names[0];
  throw new UserError(`the server has ${names.length} models (${names.join(", ")}): choose with --server_model`);
}

/** Answers all jobs, some at once, and writes the answers in their order. */
async function answerAll(
  o: Choice,
  context: Context,
  jobs: readonly Job[],
  concurrency: number,
  answer: Answerer,
): Promise<void> {
  const { terminal, signal } = context;
  const { output_file: file, resume: _, config: __, ...rest } = o as Choice & { config?: unknown };
  const output =
    file === null
      ? null
      : await OrderedOutput.open(
          file,
          [rest, jobs],
          jobs.map((job) => job.samples),
          o.resume,
        );
  if (output && output.done > 0) terminal.line(`${output.done} of ${jobs.length} prompts were answered before`);
  const early = new Map<number, string[]>();
  let printed = 0;
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  let next = output?.done ?? 0;
  const work = async () => {
    while (next < jobs.length && !stop.aborted) {
      const index = next++;
      const job = jobs[index];
      const outcomes = await answer(job, index, stop);
      if (output)
        await output.put(
          index,
          outcomes.map((outcome, k) => line(job, outcome, k, o)),
        );
      else {
        early.set(
          index,
          outcomes.map((outcome, k) => shown(job, outcome, k, o, context)),
        );
        for (let ready = early.get(printed); ready; ready = early.get(++printed)) {
          early.delete(printed);
          for (const text of ready) terminal.result(text);
        }
      }
    }
  };
  try {
    const workers = Array.from({ length: Math.min(concurrency, jobs.length) }, work);
    await Promise.all(workers).catch((error) => {
      failed.abort(error);
      return Promise.allSettled(workers).then(() => Promise.reject(error));
    });
  } catch (error) {
    if (output) await output.abandon();
    if (!signal.aborted) throw error;
  }
  if (signal.aborted) {
    const left =
      output && output.unfinished.jobs > 0
        ? `; ${output.unfinished.jobs} prompts are answered in ${output.unfinished.path}, and the same command goes on there`
        : "";
    throw new Interrupted(`stopped${left}`);
  }
  if (!output) return;
  await output.finish();
  const count = jobs.reduce((sum, job) => sum + job.samples, 0);
  terminal.line(`${count} responses in ${file}`);
}

/** A response as a line of JSON. */
function line(job: Job, { text, finish, ids, tokens }: Outcome, sample: number, o: Choice): string {
  return JSON.stringify({
    ...(job.id !== undefined && { id: job.id }),
    ...job.given,
    completion: text,
    ended: finish === "stop",
    ...(job.samples > 1 && { sample }),
    ...(o.return_token_ids && { token_ids: ids ?? null }),
    ...(job.logprobs !== null && tokens && { logprobs: tokens.map((t) => t.logProb) }),
    ...(job.logprobs !== null &&
      job.logprobs > 0 &&
      tokens && { top_logprobs: tokens.map(({ top }) => top.map((t) => [t.id, t.logProb])) }),
  });
}

/** A response for people; answers to JSON lines stay JSON lines. */
function shown(job: Job, outcome: Outcome, sample: number, o: Choice, { terminal }: Context): string {
  if (o.input_file !== null || o.logprobs !== null || o.return_token_ids) return line(job, outcome, sample, o);
  const prompt = "prompt" in job.given ? String(job.given.prompt) : "";
  return `${terminal.style("dim", prompt)}${outcome.text}\n`;
}
