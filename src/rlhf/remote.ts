/**
 * Sampling on another machine: a server that speaks OpenAI's interface (vLLM, `webrlhf serve`) draws the responses.
 *
 * The server must hold the policy's weights and tokenizer. Where it returns token ids (`return_token_ids`), they are kept;
 * otherwise its text is tokenised anew, which need not give the ids that were sampled: training then learns a text that is
 * the same and a path to it that may not be. Its random numbers are its own: they are seeded, but not those of `generate`.
 */

import type { Tokenizer } from "../data/tokenizer.ts";
import { HttpError, type OpenAIClient } from "../io/openai-client.ts";
import type { CompletionChoice } from "../io/openai-types.ts";
import { eachChoice, type SamplingParams } from "../nn/sampling.ts";
import { UserError } from "../runtime/errors.ts";
import { uint32 } from "../runtime/rng.ts";
import { earlierOnes } from "./jobs.ts";
import { fromPrompt, type Prompt, type Response, type Sampler, type SamplingOptions } from "./sampler.ts";

/** A server that samples, and how it is asked. */
export interface RemoteSamplerOptions {
  client: OpenAIClient;
  /** The model's name on the server. */
  model: string;
  tokenizer: Tokenizer;
  /** Requests under way at once. Default 16. */
  concurrency?: number;
  /** When it fires, requests under way are given up. */
  signal?: AbortSignal;
}

/** A sampler for trainers that lets a server draw the responses. */
export const remoteSampler =
  (sampler: RemoteSamplerOptions): Sampler =>
  (prompts, promptIds, options) =>
    sampleRemotely(sampler, prompts, promptIds, options);

/** As `sampleResponses`, drawn by a server. */
export async function sampleRemotely(
  sampler: RemoteSamplerOptions,
  prompts: readonly Prompt[],
  promptIds: ArrayLike<number>,
  options: SamplingOptions,
): Promise<Response[]> {
  const { concurrency = 16 } = sampler;
  const responses: Response[][] = new Array(prompts.length);
  let next = 0;
  let failed = false;
  const earlier = earlierOnes(promptIds);
  const work = async () => {
    while (next < prompts.length && !failed) {
      const i = next++;
      const seed = uint32(options.seed, options.iteration, promptIds[i], earlier[i]);
      try {
        const choices = await ask(sampler, prompts[i], `prompt ${promptIds[i]}`, { ...options, seed });
        responses[i] = choices.map((choice, k) => response(sampler.tokenizer, prompts[i], i, k, choice, options));
        await options.onResponses?.(responses[i]);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: Math.min(concurrency, prompts.length) }, work);
  // Where one request failed, those under way are heard out: their answers were paid for.
  const outcomes = await Promise.allSettled(workers);
  const broken = outcomes.find((outcome) => outcome.status === "rejected");
  if (broken) throw broken.reason;
  return responses.flat();
}

/** Sampling options as fields of a request: OpenAI's names, and vLLM's where OpenAI has none. Neutral ones are left out. */
export function requestFields(o: Partial<SamplingParams>): Record<string, unknown> {
  return {
    ...(o.maxNewTokens !== undefined && { max_tokens: o.maxNewTokens }),
    ...(o.seed !== undefined && { seed: o.seed }),
    ...Object.fromEntries(
      eachChoice.flatMap(([name, snake, { neutral }]) => ((o[name] ?? neutral) === neutral ? [] : [[snake, o[name]]])),
    ),
    ...(o.temperature !== undefined && { temperature: o.temperature }),
    ...(o.presencePenalty ? { presence_penalty: o.presencePenalty } : {}),
    ...(o.frequencyPenalty ? { frequency_penalty: o.frequencyPenalty } : {}),
    ...(o.logitBias?.size ? { logit_bias: Object.fromEntries(o.logitBias) } : {}),
    ...(o.minNewTokens ? { min_tokens: o.minNewTokens } : {}),
    ...(o.ignoreEos && { ignore_eos: true }),
    ...(o.eosIds && { stop_token_ids: [...o.eosIds] }),
  };
}

/**
 * A server's choices in their order.
 * @param where the prompt, for the message
 * @throws UserError where there are not as many as were asked for
 */
export function choicesOf<C extends { index: number }>(answer: { choices?: C[] }, count: number, where: string): C[] {
  const { choices } = answer;
  if (Array.isArray(choices) && choices.length === count) return [...choices].sort((a, b) => a.index - b.index);
  const given = Array.isArray(choices) ? `${choices.length} choices` : "no list of choices";
  throw new UserError(`${where}: the server gave ${given}, not the ${count} that were asked for as "n"`);
}

async function ask(
  sampler: RemoteSamplerOptions,
  prompt: Prompt,
  where: string,
  o: SamplingOptions,
): Promise<CompletionChoice[]> {
  const { client, model } = sampler;
  const { samples = 1, signal = sampler.signal } = o;
  const body = { model, prompt: Array.from(prompt.ids), n: samples, ...requestFields(o) };
  const answer = await client.completion({ ...body, return_token_ids: true }, signal).catch((error) => {
    // Servers that know nothing of token ids refuse the field; everything else in the request still holds.
    if (error instanceof HttpError && error.status === 400 && /return_token_ids/.test(error.message)) {
      return client.completion(body, signal);
    }
    throw error;
  });
  return choicesOf(answer, samples, where);
}

function response(
  tokenizer: Tokenizer,
  prompt: Prompt,
  index: number,
  sample: number,
  choice: CompletionChoice,
  { maxNewTokens }: SamplingOptions,
): Response {
  const ended = choice.finish_reason === "stop";
  const ids = choice.token_ids ?? retokenised(tokenizer, choice.text, ended, maxNewTokens);
  return {
    ids: Uint32Array.from([...prompt.ids, ...ids]),
    promptLength: prompt.ids.length,
    prompt: index,
    sample,
    ended,
    ...fromPrompt(prompt, choice.text),
  };
}

/** Ids of a text whose own ids are not known; at least one, at most as many as could have been sampled. */
function retokenised(tokenizer: Tokenizer, text: string, ended: boolean, most: number): number[] {
  const ids = tokenizer.encode(text, { continued: true });
  if (ended && tokenizer.eosId !== undefined) ids.push(tokenizer.eosId);
  return ids.slice(0, most);
}
