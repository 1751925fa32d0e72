/** `generate --server`: another program samples. */
import type { OpenAIClient } from "../../io/openai-client.ts";
import type { ChatMessage } from "../../io/openai-types.ts";
import { requestFields } from "../../rlhf/remote.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Files } from "../../runtime/files.ts";
import { uint32 } from "../../runtime/rng.ts";
import { promptData } from "../data/datasets.ts";
import { onlyModel, serverClient } from "../models/another-server.ts";
import { openTokenizer } from "../models/models.ts";
import type { Context } from "../verb.ts";
import { answerAll, type GenerateChoice, type Outcome } from "./generate-answers.ts";
import { collectJobs, datasetPart } from "./generate-jobs.ts";

export async function generateRemotely(o: GenerateChoice, files: Files, context: Context): Promise<void> {
  const client = serverClient(o)!;
  const jobs = await collectJobs(o, async (choice) => {
    if (o.model_name_or_path === null) {
      throw new UserError("prompts of a dataset need a tokenizer: pass --model_name_or_path, --prompt or --input_file");
    }
    const tokenizer = await openTokenizer(files, o.model_name_or_path);
    const room = { context: 1e9, response: o.max_new_tokens };
    return promptData(choice, datasetPart(o), tokenizer, room, context.terminal);
  });
  const model = o.server_model ?? (await onlyModel(client, context.signal));
  await answerAll(o, context, jobs, o.server_concurrency, async (job, _, signal) => {
    const seed = uint32(job.params.seed, 0, job.number);
    const body = {
      model,
      n: job.samples,
      ...requestFields({ ...job.params, seed }),
      ...(job.stop.length > 0 && { stop: job.stop }),
      ...(o.return_token_ids && { return_token_ids: true }),
    };
    return "messages" in job.given && !job.ids
      ? askChat(client, body, job.given.messages, job.logprobs, signal)
      : askCompletion(
          client,
          { ...body, prompt: job.ids ? Array.from(job.ids) : (job.given as { prompt: string | number[] }).prompt },
          job.logprobs,
          signal,
        );
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
