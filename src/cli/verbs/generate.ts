import { sampling } from "../../cluster/kinds.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import { type Attempt, persisting } from "../../open/surviving.ts";
import { runJob } from "../../rlhf/jobs.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { uint32 } from "../../runtime/rng.ts";
import type { TextCodec, TextModel } from "../../serve/model.ts";
import { sampleText, wholeTexts } from "../../serve/text.ts";
import { textCodec, textModel } from "../../serve/text-model.ts";
import { generateSettings } from "../generation-settings.ts";
import { openGpu } from "../gpu.ts";
import { clusterPool } from "../join-cluster.ts";
import { surroundings } from "../surroundings.ts";
import { type Context, defineVerb } from "../verb.ts";
import {
  type Answerer,
  type Answering,
  answerAll,
  type GenerateChoice,
  type Outcome,
  type Shown,
} from "./generate-answers.ts";
import { answersByJobs, type JobRunner } from "./generate-by-jobs.ts";
import { collectJobs, type Job } from "./generate-jobs.ts";
import { generateRemotely } from "./generate-remote.ts";
import { summaries } from "./summaries.ts";

export const generateVerb = defineVerb({
  name: "generate",
  summary: summaries.generate,
  settings: generateSettings,
  examples: [
    "webrlhf generate --model_name_or_path out/sft --num_prompts 3 --num_return_sequences 2",
    'webrlhf generate --model_name_or_path out/sft --prompt "Once there was" --temperature 0.7',
    "webrlhf generate --model_name_or_path out/sft --input_file prompts.jsonl --output_file answers.jsonl --min_p 0.05",
    "webrlhf generate --model_name_or_path out/sft --num_prompts 1000 --num_return_sequences 8 --output_format responses " +
      "--shard 0/2 --output_file responses_0.jsonl",
    "webrlhf generate --model_name_or_path out/sft --input_file prompts.jsonl --output_file answers.jsonl --cluster nats://A:4222 " +
      "--creds cluster/trainer.creds",
    "webrlhf generate --server http://127.0.0.1:8000 --input_file prompts.jsonl --output_file answers.jsonl",
  ],
  product: (o) => (o.outputFile === null ? null : { file: o.outputFile }),
  async run(o, context) {
    if (o.server !== null) {
      if (o.cluster !== null)
        throw new UserError("a server samples, or a cluster: pass --server or --cluster, not both");
      return generateRemotely(o, context);
    }
    const name = o.modelNameOrPath;
    if (name === null) {
      throw new UserError(
        "model_name_or_path is not set: pass --model_name_or_path, or --server to let another program sample",
      );
    }
    await openGpu(context.terminal);
    const around = surroundings(context);
    const { terminal, signal } = context;
    const shown: Shown = { early: new Map(), printed: 0 };
    let read: Promise<Job[]> | null = null; // once: it may be stdin
    const attempted = async (attempt: Attempt) => {
      const opener = new ModelOpener({ ...o, ...around });
      await withModels(opener.opened, async () => {
        const tokenizer = await opener.tokenizer(name);
        await opener.refuseJudge(name);
        if (o.prompt !== null && tokenizer.chatTemplate && !attempt.again) {
          terminal.line(
            `${name} answers conversations: --prompt is text that it goes on from; webrlhf chat, or "messages" in an --input_file, ask it`,
          );
        }
        const model = await opener.sampler(name);
        opener.refuseUnusedBase();
        tokenizer.checkFits(model.config.vocabSize);
        const room = { context: model.config.maxPositions, response: o.maxNewTokens };
        read ??= collectJobs(o, tokenizer, room, around);
        await answerHere(o, context, await read, { name, model, tokenizer, shown, attempt });
      });
    };
    await persisting(attempted, (text) => terminal.line(text), signal);
  },
});

/** The model that answers, and what its attempts share. */
interface Here {
  name: string;
  model: CausalLM;
  tokenizer: Tokenizer;
  shown: Shown;
  attempt: Attempt;
}

/** Answers by a model in this process. */
async function answerHere(
  o: GenerateChoice,
  context: Context,
  jobs: readonly Job[],
  { name, model, tokenizer, shown, attempt }: Here,
): Promise<void> {
  const codec = textCodec(tokenizer, model.config, model.config.maxPositions);
  const prompts = jobs.map((job) => promptIds(codec, job));
  const capacity = checkRoom(jobs, prompts, model.config.maxPositions);
  const common = { concurrency: jobs.length, shown, attempt };
  const byJobs = (run: JobRunner): Answering => ({
    ...common,
    answer: answersByJobs(run, { model, codec, jobs, prompts }, o.promptsPerJob ?? undefined),
  });
  if (o.cluster !== null) {
    const { terminal, signal } = context;
    const where = { path: o.outputFile, files: await diskFiles(), terminal, signal };
    const pool = await clusterPool(o, sampling, model, { ...where, what: "responses are drawn" });
    return answerAll(o, context, jobs, byJobs(pool.do)).finally(pool.close);
  }
  if (o.promptsPerJob !== null) return answerAll(o, context, jobs, byJobs(oneByOne(model, context.signal)));
  const samples = jobs.reduce((sum, job) => sum + job.samples, 0);
  const text = textModel(model, tokenizer, {
    name,
    slots: Math.min(o.maxNumSeqs, samples),
    capacity,
    // One schedule for one list of prompts, so that equal commands give equal answers to the last bit.
    fixedRows: true,
    stepsPerRead: 16,
  });
  const answer: Answerer = async (job, index, signal) => {
    const { ids, stop } = prompts[index];
    const params = { ...job.params, eosIds: job.params.eosIds ?? codec.endIds };
    return sampleHere(text, { ...job, params }, ids, [...job.stop, ...stop], signal);
  };
  try {
    await answerAll(o, context, jobs, { ...common, answer });
  } finally {
    await text.engine.close();
  }
}

/** Does jobs one after the other. */
function oneByOne(model: CausalLM, signal: AbortSignal): JobRunner {
  let before: Promise<unknown> = Promise.resolve();
  return (job) => {
    const result = before.then(() => runJob(model, job, signal));
    before = result.catch(() => {}); // whoever asked hears of it
    return result;
  };
}

/** A job's prompt in token ids, with the strings at which a conversation's turn ends. */
function promptIds(model: TextCodec, { given, where, ids: known }: Job): { ids: Uint32Array; stop: readonly string[] } {
  if (known) return { ids: known, stop: [] };
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
  { params, samples, logprobs, number }: Job,
  ids: Uint32Array,
  stop: string[],
  signal: AbortSignal,
): Promise<Outcome[]> {
  const streams = Array.from({ length: samples }, (_, k) => uint32(params.seed, 0, number, k));
  const request = { ids, params, samples, streams, stop, top: logprobs ?? 0, signal };
  const all = await wholeTexts(samples, sampleText(model, request));
  return all.map(({ text, tokens, finish }) => ({
    text,
    tokens,
    finish: finish ?? "length",
    ids: tokens.map((t) => t.id),
  }));
}
