/**
 * Jobs of drawing responses, and what comes of them, on the wire. Nothing that comes from a worker is believed before it is looked
 * at.
 */
import * as v from "valibot";
import type { JobResult, JobSampling, SamplingJob } from "../rlhf/jobs.ts";
import {
  count,
  type Drawer,
  jobId,
  LARGEST_HEADER,
  type Message,
  type ReadResult,
  Refused,
  readJob,
  readResult,
  tokens,
  u32,
  writeError,
  writeJob,
  writeResult,
} from "./wire.ts";

/** Writes a job; the key is the hash of its bytes. */
export function encodeJob(
  run: string,
  { policy, job }: Message<SamplingJob>,
): Promise<{ key: string; bytes: Uint8Array }> {
  const { prompts, streams, ...rest } = job;
  const plain = { ...rest, prompts: prompts.map((ids) => Array.from(ids)), streams: Array.from(streams) };
  return writeJob(run, policy, plain);
}

const jobSchema = v.looseObject({
  id: jobId,
  version: count,
  samples: v.pipe(count, v.minValue(1), v.maxValue(1 << 16)),
  maxNewTokens: v.pipe(count, v.minValue(1), v.maxValue(1 << 20)),
  prompts: v.pipe(v.array(tokens), v.minLength(1), v.maxLength(1 << 16)),
  streams: v.array(u32),
});

/** Reads a job. Throws `Refused` with the reason where it is none, or another version's. */
export function decodeJob(bytes: Uint8Array): Message<SamplingJob> {
  const { policy, job } = readJob(bytes, jobSchema);
  const { prompts, streams, ...rest } = job;
  if (streams.length !== prompts.length * job.samples)
    throw new Refused("the job names random numbers for other responses");
  return {
    policy,
    job: {
      ...(rest as unknown as JobSampling & Pick<SamplingJob, "id" | "version" | "samples">),
      prompts: prompts.map((ids) => Uint32Array.from(ids)),
      streams: Uint32Array.from(streams),
    },
  };
}

/** Writes a result, or why there is none. */
export function encodeResult(key: string, drawer: Drawer, outcome: JobResult | { error: string }): Uint8Array {
  if ("error" in outcome) return writeError({ key, drawer }, outcome.error);
  const { responses, version } = outcome;
  const header = {
    version,
    lengths: responses.map(({ ids }) => ids.length),
    ended: responses.map(({ ended }) => Number(ended)),
  };
  return writeResult({ key, drawer }, header, [
    ...responses.map(({ ids }) => ids),
    ...responses.map(({ ids, logProbs }) => logProbs ?? new Float32Array(ids.length).fill(Number.NaN)),
  ]);
}

/** What a trainer knows of the responses that it asks for. */
export interface SamplingContext {
  /** Tokens of the policy. */
  vocabSize: number;
  /** Tokens that end a response. */
  endIds: readonly number[];
}

/** What a result has to be, for a job. */
export interface Expected extends SamplingContext {
  key: string;
  job: SamplingJob;
}

const header = {
  version: v.optional(count),
  lengths: v.optional(v.array(count)),
  ended: v.optional(v.array(v.picklist([0, 1]))),
};

/** Log-probabilities are logarithms of rounded numbers: one is a little above 0 at times. */
const LARGEST_LOGPROB = 1e-3;

/** The bytes that a job's result can have at most. */
export const largestResult = ({ prompts, samples, maxNewTokens }: SamplingJob): number =>
  LARGEST_HEADER + prompts.length * samples * (16 + 8 * maxNewTokens);

/** Reads a result. Throws `Refused` with the reason where it cannot be this job's. */
export function decodeResult(given: Uint8Array, { key, job, vocabSize, endIds }: Expected): ReadResult<JobResult> {
  const read = readResult(given, key, largestResult(job), header);
  if ("error" in read) return read;
  const { header: said, numbers, ...drawer } = read;
  const { version, lengths, ended } = said;
  const count = job.prompts.length * job.samples;
  if (version !== job.version) throw new Refused(`a result of version ${version} and not ${job.version}`);
  if (lengths?.length !== count || ended?.length !== count) {
    throw new Refused(`a result with ${lengths?.length} responses and not ${count}`);
  }
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (numbers.length !== 8 * total) throw new Refused("a result whose size is not what its header says");
  const ids = new Uint32Array(numbers.buffer, numbers.byteOffset, total);
  const logProbs = new Float32Array(numbers.buffer, numbers.byteOffset + 4 * total, total);
  const wrongId = ids.find((id) => id >= vocabSize);
  if (wrongId !== undefined) throw new Refused(`a result with token ${wrongId}, which the policy does not have`);
  const wrong = logProbs.find((value) => !(Number.isFinite(value) && value <= LARGEST_LOGPROB));
  if (wrong !== undefined) throw new Refused(`a result with the log-probability ${wrong}`);
  let at = 0;
  const responses = lengths.map((length, i) => {
    const own = { ids: ids.slice(at, at + length), logProbs: logProbs.slice(at, at + length), ended: ended[i] === 1 };
    at += length;
    checkEnd(own.ids, own.ended, job.prompts[Math.floor(i / job.samples)].length, job, endIds);
    return own;
  });
  return { ...drawer, result: { id: job.id, version: job.version, responses } };
}

/** A response ends with the first end token, or at its longest. */
function checkEnd(
  ids: Uint32Array,
  ended: boolean,
  promptLength: number,
  { maxNewTokens, maxLength = Number.POSITIVE_INFINITY }: SamplingJob,
  endIds: readonly number[],
): void {
  const limit = Math.min(maxNewTokens, Math.max(1, maxLength - promptLength));
  if (ids.length === 0 || ids.length > limit) throw new Refused(`a result with a response of ${ids.length} tokens`);
  const first = ids.findIndex((id) => endIds.includes(id));
  if (ended ? first !== ids.length - 1 : first >= 0 || ids.length !== limit) {
    throw new Refused("a result with a response that does not end where it has to");
  }
}
