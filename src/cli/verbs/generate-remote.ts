/** `generate --server`: another program samples. */

import type { CompletionChoice } from "../../io/openai-types.ts";
import { ModelOpener } from "../../open/opener.ts";
import { onlyModel, serverClient } from "../../open/servers.ts";
import { choicesOf, requestFields } from "../../rlhf/remote.ts";
import { UserError } from "../../runtime/errors.ts";
import { uint32 } from "../../runtime/rng.ts";
import { surroundings } from "../surroundings.ts";
import type { Context } from "../verb.ts";
import { type Answerer, answerAll, type GenerateChoice, type Outcome } from "./generate-answers.ts";
import { collectJobs } from "./generate-jobs.ts";

type Ending = Pick<CompletionChoice, "finish_reason" | "token_ids">;

/** Answers by a server. */
export async function generateRemotely(o: GenerateChoice, context: Context): Promise<void> {
  const client = serverClient(o)!;
  const around = surroundings(context);
  const name = o.modelNameOrPath;
  const tokenizer = name === null ? null : await new ModelOpener({ ...o, ...around }).tokenizer(name);
  const jobs = await collectJobs(o, tokenizer, { context: 1e9, response: o.maxNewTokens }, around);
  const model = o.serverModel ?? (await onlyModel(client, context.signal, o));
  const answer: Answerer = async (job, _, signal) => {
    if (job.logprobs !== null) {
      throw new UserError("--logprobs cannot be had from a server; its tokens may be other ones");
    }
    const seed = uint32(job.params.seed, 0, job.number);
    const body = {
      model,
      n: job.samples,
      ...requestFields({ ...job.params, seed }),
      ...(job.stop.length > 0 && { stop: job.stop }),
      ...(o.returnTokenIds && { return_token_ids: true }),
    };
    if ("messages" in job.given && !job.ids) {
      const { messages } = job.given;
      const answer = await client.chat({ ...body, messages }, signal);
      return choicesOf(answer, job.samples, job.where).map((c) => outcome(c.message.content ?? "", c));
    }
    const prompt = job.ids ? Array.from(job.ids) : (job.given as { prompt: string | number[] }).prompt;
    const answer = await client.completion({ ...body, prompt }, signal);
    return choicesOf(answer, job.samples, job.where).map((c) => outcome(c.text, c));
  };
  await answerAll(o, context, jobs, { answer, concurrency: o.serverConcurrency });
}

const outcome = (text: string, { finish_reason, token_ids }: Ending): Outcome => ({
  text,
  finish: finish_reason ?? "length",
  ...(token_ids && { ids: token_ids }),
});
