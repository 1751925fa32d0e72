/** Jobs of scoring sequences, and the scores, on the wire. Nothing that comes from a worker is believed before it is looked at. */
import * as v from "valibot";
import type { ScoringJob, ScoringResult } from "../rlhf/score-jobs.ts";
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
  writeError,
  writeJob,
  writeResult,
} from "./wire.ts";

/** Writes a job; the key is the hash of its bytes. */
export function encodeScoring(
  run: string,
  { policy, job }: Message<ScoringJob>,
): Promise<{ key: string; bytes: Uint8Array }> {
  const { sequences, ...rest } = job;
  return writeJob(run, policy, { ...rest, sequences: sequences.map((ids) => Array.from(ids)) });
}

const jobSchema = v.strictObject({
  id: jobId,
  version: count,
  half: v.optional(v.boolean()),
  sequences: v.pipe(v.array(tokens), v.minLength(1), v.maxLength(1 << 16)),
});

/** Reads a job. Throws `Refused` with the reason where it is none, or another version's. */
export function decodeScoring(bytes: Uint8Array): Message<ScoringJob> {
  const { policy, job } = readJob(bytes, jobSchema);
  const { sequences, half, ...rest } = job;
  const ids = sequences.map((one) => Uint32Array.from(one));
  return { policy, job: { ...rest, ...(half !== undefined && { half }), sequences: ids } };
}

/** Writes scores, or why there are none. */
export function encodeScores(key: string, drawer: Drawer, outcome: ScoringResult | { error: string }): Uint8Array {
  if ("error" in outcome) return writeError({ key, drawer }, outcome.error);
  return writeResult({ key, drawer }, { version: outcome.version }, [outcome.scores]);
}

/** The bytes that the scores of a job can have at most. */
export const largestScores = ({ sequences }: ScoringJob): number => LARGEST_HEADER + 4 * sequences.length;

/** Reads scores. Throws `Refused` with the reason where they cannot be this job's. */
export function decodeScores(
  given: Uint8Array,
  { key, job }: { key: string; job: ScoringJob },
): ReadResult<ScoringResult> {
  const read = readResult(given, key, largestScores(job), { version: v.optional(count) });
  if ("error" in read) return read;
  const { header, numbers, ...drawer } = read;
  const { id, version, sequences } = job;
  if (header.version !== version) throw new Refused(`a result of version ${header.version} and not ${version}`);
  if (numbers.length !== 4 * sequences.length) {
    throw new Refused(`a result with ${numbers.length / 4} scores and not ${sequences.length}`);
  }
  const scores = new Float32Array(numbers.buffer, numbers.byteOffset, sequences.length).slice();
  const wrong = scores.find((score) => !Number.isFinite(score));
  if (wrong !== undefined) throw new Refused(`a result with the score ${wrong}`);
  return { ...drawer, result: { id, version, scores } };
}
