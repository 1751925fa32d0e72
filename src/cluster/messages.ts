/**
 * What goes over the wire: a job as JSON, and its result as one binary message, a JSON header with token ids and log-probabilities
 * after it. Nothing that comes from a worker is believed before it is looked at.
 */
import * as v from "valibot";
import type { JobResult, JobSampling, SamplingJob } from "../rlhf/jobs.ts";
import { hasher } from "../runtime/sha256.ts";
import { utf8 } from "../runtime/utf8.ts";
import { VERSION } from "../runtime/version.ts";

/** A file of weights by its content. */
export interface FileRef {
  name: string;
  sha256: string;
  size: number;
}

/** The weights that a job is to be drawn with: a version is its bytes. */
export interface PolicyRef {
  /** The files of a model's folder. */
  base: readonly FileRef[];
  /** The files of an adapter's folder; null where the whole model is trained. */
  adapter: readonly FileRef[] | null;
}

/** A job as a worker gets it. */
export interface JobMessage {
  policy: PolicyRef;
  job: SamplingJob;
}

const FORMAT = 1;
/** Most files of a policy, and the largest of them: nobody fills a worker's memory by a message. */
const MOST_FILES = 4096;
const LARGEST_FILE = 8 * 2 ** 30;

/** Why a message is not taken; it is for people. */
export class Refused extends Error {
  override readonly name = "Refused";
}

/** A job from another version of webrlhf. */
export class OtherVersion extends Refused {}

/** Writes a job; the key is the hash of its bytes. */
export async function encodeJob(run: string, { policy, job }: JobMessage): Promise<{ key: string; bytes: Uint8Array }> {
  const { prompts, streams, ...rest } = job;
  const plain = { ...rest, prompts: prompts.map((ids) => Array.from(ids)), streams: Array.from(streams) };
  const text = JSON.stringify({ format: FORMAT, webrlhf: VERSION, run, policy, job: plain }, (name, value) => {
    if (typeof value !== "number" || Number.isFinite(value)) return value;
    if (value === Number.POSITIVE_INFINITY && name === "maxLength") return undefined; // no limit
    throw new Error(`a job cannot say ${name} = ${value}`);
  });
  const bytes = new TextEncoder().encode(text);
  const hash = await hasher();
  hash.add(bytes);
  return { key: (await hash.end()).slice(0, 40), bytes };
}

const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
const u32 = v.pipe(whole, v.maxValue(0xffffffff));
const fileRefs = v.pipe(
  v.array(
    v.object({
      name: v.pipe(v.string(), v.regex(/^[\w][\w.-]{0,200}$/)),
      sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
      size: v.pipe(whole, v.maxValue(LARGEST_FILE)),
    }),
  ),
  v.minLength(1),
  v.maxLength(MOST_FILES),
);
const tokens = v.pipe(v.array(u32), v.minLength(1), v.maxLength(1 << 20));
const jobSchema = v.object({
  format: v.literal(FORMAT),
  webrlhf: v.string(),
  run: v.string(),
  policy: v.object({ base: fileRefs, adapter: v.nullable(fileRefs) }),
  job: v.looseObject({
    id: v.pipe(v.string(), v.maxLength(200)),
    version: whole,
    samples: v.pipe(whole, v.minValue(1), v.maxValue(1 << 16)),
    maxNewTokens: v.pipe(whole, v.minValue(1), v.maxValue(1 << 20)),
    prompts: v.pipe(v.array(tokens), v.minLength(1), v.maxLength(1 << 16)),
    streams: v.array(u32),
  }),
});

/** Reads a job. Throws `Refused` with the reason where it is none, or another version's. */
export function decodeJob(bytes: Uint8Array): JobMessage {
  const given = jsonOf(bytes, "the job");
  const from = v.safeParse(v.looseObject({ webrlhf: v.string() }), given);
  if (from.success && from.output.webrlhf !== VERSION) {
    const { webrlhf } = from.output;
    throw new OtherVersion(
      `the trainer is webrlhf ${webrlhf} and this worker ${VERSION}: install the same one on both`,
    );
  }
  const found = v.safeParse(jobSchema, given);
  if (!found.success) throw new Refused(`the job is not well-formed: ${v.summarize(found.issues)}`);
  const { policy, job } = found.output;
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

function jsonOf(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(utf8(bytes));
  } catch {
    throw new Refused(`${what} is no JSON text`);
  }
}

/** Who drew a result, and how it went. */
export interface Drawer {
  /** The worker's own name; the credential's is in the subject. */
  worker: string;
  /** The adapter that computed. */
  adapter: string;
  /** How long it took. */
  seconds: number;
}

/** A result as the trainer reads it. */
export type ReadResult = Drawer & ({ result: JobResult } | { error: string });

const LONGEST_HEADER = 1 << 20;

/** Writes a result, or why there is none. */
export function encodeResult(key: string, drawer: Drawer, outcome: JobResult | { error: string }): Uint8Array {
  const about = { format: FORMAT, key, ...drawer };
  if ("error" in outcome) return framed({ ...about, error: outcome.error.slice(0, 2000) }, []);
  const { responses, version } = outcome;
  const header = {
    ...about,
    version,
    lengths: responses.map(({ ids }) => ids.length),
    ended: responses.map(({ ended }) => Number(ended)),
  };
  return framed(header, [
    ...responses.map(({ ids }) => ids),
    ...responses.map(({ ids, logProbs }) => logProbs ?? new Float32Array(ids.length).fill(Number.NaN)),
  ]);
}

function framed(header: object, arrays: readonly (Uint32Array | Float32Array)[]): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = 4 + Math.ceil(text.length / 4) * 4;
  const bytes = new Uint8Array(start + arrays.reduce((sum, { byteLength }) => sum + byteLength, 0));
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 4);
  let at = start;
  for (const one of arrays) {
    bytes.set(new Uint8Array(one.buffer, one.byteOffset, one.byteLength), at);
    at += one.byteLength;
  }
  return bytes;
}

/** What a result has to be, for a job. */
export interface Expected {
  key: string;
  job: SamplingJob;
  /** Tokens of the policy. */
  vocabSize: number;
  /** Tokens that end a response. */
  endIds: readonly number[];
}

const line = v.pipe(v.string(), v.maxLength(2000));
const headerSchema = v.object({
  format: v.literal(FORMAT),
  key: v.string(),
  worker: v.pipe(v.string(), v.maxLength(200)),
  adapter: line,
  seconds: v.pipe(v.number(), v.finite(), v.minValue(0)),
  error: v.optional(line),
  version: v.optional(whole),
  lengths: v.optional(v.array(whole)),
  ended: v.optional(v.array(v.picklist([0, 1]))),
});

/** Log-probabilities are logarithms of rounded numbers: one is a little above 0 at times. */
const LARGEST_LOGPROB = 1e-3;

/** The bytes that a job's result can have at most. */
export const largestResult = ({ prompts, samples, maxNewTokens }: SamplingJob): number =>
  8192 + prompts.length * samples * (16 + 8 * maxNewTokens);

/** Reads a result. Throws `Refused` with the reason where it cannot be this job's. */
export function decodeResult(given: Uint8Array, { key, job, vocabSize, endIds }: Expected): ReadResult {
  if (given.length > largestResult(job))
    throw new Refused(`a result of ${given.length} bytes, more than the job can have`);
  if (given.length < 4) throw new Refused("a result that is too short");
  const bytes = new Uint8Array(given); // aligned; Node's own slice() of a Buffer would be no copy
  const textLength = new DataView(bytes.buffer).getUint32(0, true);
  const start = 4 + Math.ceil(textLength / 4) * 4;
  if (textLength > LONGEST_HEADER || start > bytes.length) throw new Refused("a result whose header is cut off");
  const read = v.safeParse(headerSchema, jsonOf(bytes.subarray(4, 4 + textLength), "the result's header"));
  if (!read.success) throw new Refused(`a result whose header is not well-formed: ${v.summarize(read.issues)}`);
  const { worker, adapter, seconds, error, version, lengths, ended, ...header } = read.output;
  const drawer = { worker, adapter, seconds };
  if (header.key !== key) throw new Refused("a result of another job");
  if (error !== undefined) return { ...drawer, error };
  const count = job.prompts.length * job.samples;
  if (version !== job.version) throw new Refused(`a result of version ${version} and not ${job.version}`);
  if (lengths?.length !== count || ended?.length !== count) {
    throw new Refused(`a result with ${lengths?.length} responses and not ${count}`);
  }
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (bytes.length !== start + 8 * total) throw new Refused("a result whose size is not what its header says");
  const ids = new Uint32Array(bytes.buffer, start, total);
  const logProbs = new Float32Array(bytes.buffer, start + 4 * total, total);
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
