/** `generate` by jobs of several prompts, which a cluster's workers do, or this program. */
import type { SamplingContext } from "../../cluster/messages.ts";
import { PROMPTS } from "../../cluster/source.ts";
import type { Piece } from "../../nn/generation.ts";
import type { CausalLM } from "../../nn/models.ts";
import { type JobResponse, type JobResult, jobsOf, type SamplingJob } from "../../rlhf/jobs.ts";
import { UserError } from "../../runtime/errors.ts";
import type { TextCodec } from "../../serve/model.ts";
import { followText, wholeTexts } from "../../serve/text.ts";
import type { Answerer } from "./generate-answers.ts";
import type { Job } from "./generate-jobs.ts";

/** Does a job of sampling. */
export type JobRunner = (job: SamplingJob, context: SamplingContext) => Promise<JobResult>;

/** A prompt as the model takes it. */
interface Asked {
  ids: Uint32Array;
  stop: readonly string[];
}

/** Prompts that are drawn together, from one place in the list on. */
interface Group {
  first: number;
  job: SamplingJob;
}

/**
 * Answers by jobs. Which prompts are drawn together follows from the list of all, whatever of it is there already.
 * @param perJob prompts in one job. Default 4
 * @throws UserError for what responses from elsewhere do not say
 */
export function answersByJobs(
  run: JobRunner,
  {
    model,
    codec,
    jobs,
    prompts,
  }: { model: CausalLM; codec: TextCodec; jobs: readonly Job[]; prompts: readonly Asked[] },
  perJob: number = PROMPTS,
): Answerer {
  const much = jobs.find(({ logprobs }) => (logprobs ?? 0) > 0);
  if (much) {
    throw new UserError(
      `${much.where}: logprobs ${much.logprobs} asks for alternatives, and jobs give the log-probability of each drawn token alone: ` +
        "set it to 0, or leave out cluster and prompts_per_job",
    );
  }
  const groups = groupsOf(model, jobs, prompts, perJob);
  const results = new Map<Group, Promise<JobResult>>();
  return async (job, index) => {
    const group = groups[index];
    const { vocabSize, eosIds } = model.config;
    const { params } = job;
    const endIds = params.ignoreEos ? [] : (params.eosIds ?? eosIds);
    const found = results.get(group) ?? run(group.job, { vocabSize, endIds });
    results.set(group, found);
    const { responses } = await found;
    const from = (index - group.first) * job.samples;
    const own = responses.slice(from, from + job.samples);
    const { ids, stop } = prompts[index];
    const request = { ids, samples: job.samples, stop: [...job.stop, ...stop] };
    const texts = await wholeTexts(job.samples, followText(codec, request, piecesOf(own)));
    return texts.map(({ text, tokens, finish }) => ({
      text,
      tokens,
      finish: finish ?? "length",
      ids: tokens.map((t) => t.id),
    }));
  };
}

/** For each prompt, the job that it is in: neighbours that are drawn in the same way. */
function groupsOf(model: CausalLM, jobs: readonly Job[], prompts: readonly Asked[], perJob: number): Group[] {
  const groups: Group[] = [];
  const keys = jobs.map(({ params, samples }) => JSON.stringify([params, [...(params.logitBias ?? [])], samples]));
  for (let first = 0, last = 0; first < jobs.length; first = last) {
    while (last < jobs.length && last < first + perJob && keys[last] === keys[first]) last += 1;
    const { params, samples } = jobs[first];
    const own = jobs.slice(first, last);
    const [job] = jobsOf(
      prompts.slice(first, last).map(({ ids }) => ids),
      own.map(({ number }) => number),
      {
        ...params,
        samples,
        iteration: 0,
        promptsPerJob: own.length,
        half: model.half,
        kvCache: model.kvCache,
        batchInvariant: model.batchInvariant,
      },
    );
    const group = { first, job: { ...job, id: `0/${jobs[first].number}` } };
    for (let i = first; i < last; i++) groups.push(group);
  }
  return groups;
}

/** Responses as if they came token by token. */
function piecesOf(responses: readonly JobResponse[]): AsyncIterable<Piece> & { stop(): void } {
  async function* pieces(): AsyncGenerator<Piece> {
    for (const [sample, { ids, logProbs = new Float32Array(ids.length), ended }] of responses.entries()) {
      const finish = ended ? "stop" : "length";
      yield { sample, ids: [...ids], logProbs: [...logProbs], top: null, finish };
    }
  }
  return { [Symbol.asyncIterator]: pieces, stop: () => {} };
}
