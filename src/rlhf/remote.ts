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
import type { CausalLM } from "../nn/models.ts";
import { eachChoice, type SamplingParams } from "../nn/sampling.ts";
import { UserError } from "../runtime/errors.ts";
import { type JobResponse, type JobResult, jobsOf, type SamplingJob } from "./jobs.ts";
import { type Prompt, type Response, responsesOf, type Sampler, type SamplingOptions } from "./sampler.ts";
import type { RequestOptions, RolloutSource } from "./source.ts";

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

/** A policy on a server. */
export interface ServedPolicy {
  /** Its name there. */
  model: string;
  /** Takes it away again. */
  remove?(): Promise<void>;
}

/** A server that draws a run's responses, and how the policy gets there. */
export interface RemoteSourceOptions extends Omit<RemoteSamplerOptions, "model"> {
  /** Brings the policy to the server, after so many updates. */
  serve(version: number, policy: CausalLM): Promise<ServedPolicy>;
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
  const { onResponses, signal = sampler.signal, ...sampling } = options;
  const ids = prompts.map((prompt) => prompt.ids);
  const jobs = jobsOf(ids, promptIds, { ...sampling, promptsPerJob: 1 });
  const numbers = new Map(jobs.map((job, i) => [job, i]));
  const of = (result: JobResult, i: number) =>
    responsesOf(sampler.tokenizer, [prompts[i]], [result], options.samples).map(
      ({ version: _, ...response }): Response => ({ ...response, prompt: i }),
    );
  const asked = { ...sampler, ...(signal && { signal }) };
  const where = (job: SamplingJob) => `prompt ${promptIds[numbers.get(job) as number]}`;
  const results = await askAll(asked, jobs, where, {
    arrived: async (result) => onResponses?.(of(result, Number(result.id.split("/")[1]))),
  });
  return results.flatMap(of);
}

/**
 * A source of responses that lets a server draw them, each prompt by a request of its own. Policies stay on the server until
 * nothing is asked of them any more. Log-probabilities are those of the untempered policy.
 */
export function remoteSource({ serve, ...asked }: RemoteSourceOptions): RolloutSource {
  const policies = new Map<number, ServedPolicy & { under: number }>();
  const answers = new Map<number, Promise<JobResult[]>>();
  const closed = new AbortController();
  const signal = asked.signal ? AbortSignal.any([asked.signal, closed.signal]) : closed.signal;
  let newest: number | null = null;
  const release = async (version: number) => {
    const policy = policies.get(version);
    if (!policy || policy.under > 0 || version === newest) return;
    policies.delete(version);
    await policy.remove?.();
  };
  return {
    promptsPerJob: 1,
    measuresAt: 1,
    async publish(version, model) {
      newest = version;
      // A server may have room for one policy: what nothing is asked of any more goes first.
      for (const older of [...policies.keys()]) await release(older);
      policies.set(version, { ...(await serve(version, model)), under: 0 });
    },
    async request(iteration, jobs, options) {
      const { version } = jobs[0];
      const policy = policies.get(version);
      if (!policy) throw new Error(`iteration ${iteration} is version ${version}'s, which is not published`);
      policy.under++;
      const sampler = { ...asked, model: policy.model, signal };
      const answer = askAll(sampler, jobs, (job) => `job ${job.id}`, options).finally(() => {
        policy.under--;
        return release(version);
      });
      answer.catch(() => {}); // who takes it hears of it
      answers.set(iteration, answer);
    },
    async take(iteration) {
      const answer = answers.get(iteration);
      if (!answer) throw new Error(`iteration ${iteration} was not requested`);
      answers.delete(iteration);
      return answer;
    },
    async close() {
      closed.abort(new Error("the run has ended"));
      newest = null;
      await Promise.allSettled(answers.values());
      for (const version of [...policies.keys()]) await release(version);
    },
  };
}

/** The results of all jobs, several under way at once. */
async function askAll(
  sampler: RemoteSamplerOptions,
  jobs: readonly SamplingJob[],
  where: (job: SamplingJob) => string,
  { arrived, signal: stop }: RequestOptions = {},
): Promise<JobResult[]> {
  const { concurrency = 16 } = sampler;
  const results: JobResult[] = new Array(jobs.length);
  let next = 0;
  let failed = false;
  const work = async () => {
    while (next < jobs.length && !failed) {
      stop?.throwIfAborted();
      const i = next++;
      try {
        results[i] = await askJob(sampler, jobs[i], where(jobs[i]));
        await arrived?.(results[i]);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = Array.from({ length: Math.min(concurrency, jobs.length) }, work);
  // Where one request failed, those under way are heard out: their answers were paid for.
  const outcomes = await Promise.allSettled(workers);
  const broken = outcomes.find((outcome) => outcome.status === "rejected");
  if (broken) throw broken.reason;
  return results;
}

async function askJob(sampler: RemoteSamplerOptions, job: SamplingJob, where: string): Promise<JobResult> {
  const { id, version, prompts, samples, streams } = job;
  const responses: JobResponse[] = [];
  for (const [p, prompt] of prompts.entries()) {
    // The first of its streams is the prompt's alone.
    const choices = await ask(sampler, prompt, where, job, streams[p * samples]);
    responses.push(...choices.map((choice) => responseOf(sampler.tokenizer, choice, job)));
  }
  return { id, version, responses };
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
  prompt: Uint32Array,
  where: string,
  job: SamplingJob,
  seed: number,
): Promise<CompletionChoice[]> {
  const { client, model, signal } = sampler;
  const { samples, measuredAt, logitBias, ...options } = job;
  if (measuredAt !== undefined && measuredAt !== 1) {
    throw new UserError(`${where}: a server measures log-probabilities at the temperature 1, not ${measuredAt}`);
  }
  const sampling = { ...options, seed, ...(logitBias && { logitBias: new Map(logitBias) }) };
  const measured = measuredAt !== undefined && { logprobs: 1 };
  const body = { model, prompt: Array.from(prompt), n: samples, ...requestFields(sampling), ...measured };
  const answer = await client.completion({ ...body, return_token_ids: true }, signal).catch((error) => {
    // Servers that know nothing of token ids refuse the field; everything else in the request still holds.
    if (error instanceof HttpError && error.status === 400 && /return_token_ids/.test(error.message)) {
      return client.completion(body, signal);
    }
    throw error;
  });
  return choicesOf(answer, samples, where);
}

function responseOf(tokenizer: Tokenizer, choice: CompletionChoice, { maxNewTokens }: SamplingJob): JobResponse {
  const ended = choice.finish_reason === "stop";
  const ids = Uint32Array.from(choice.token_ids ?? retokenised(tokenizer, choice.text, ended, maxNewTokens));
  const measured = choice.logprobs?.token_logprobs ?? [];
  // Of tokens that were guessed from a text nobody knows log-probabilities.
  const whole = choice.token_ids && measured.length === ids.length && measured.every((l) => typeof l === "number");
  return { ids, ended, text: choice.text, ...(whole && { logProbs: Float32Array.from(measured as number[]) }) };
}

/** Ids of a text whose own ids are not known; at least one, at most as many as could have been sampled. */
function retokenised(tokenizer: Tokenizer, text: string, ended: boolean, most: number): number[] {
  const ids = tokenizer.encode(text, { continued: true });
  if (ended && tokenizer.eosId !== undefined) ids.push(tokenizer.eosId);
  return ids.slice(0, most);
}
