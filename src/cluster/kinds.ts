/** The kinds of jobs: how each travels, is done, and is done again to be sure. */
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import { type JobResult, runJob, type SamplingJob } from "../rlhf/jobs.ts";
import { runScoringJob, type ScoringJob, type ScoringResult } from "../rlhf/score-jobs.ts";
import { UserError } from "../runtime/errors.ts";
import { wrongScores, wrongWith } from "./check.ts";
import { decodeJob, decodeResult, encodeJob, encodeResult, largestResult, type SamplingContext } from "./messages.ts";
import type { KindName } from "./names.ts";
import { decodeScores, decodeScoring, encodeScores, encodeScoring, largestScores } from "./score-messages.ts";
import type { Drawer, Message, ReadResult } from "./wire.ts";

/** A job of whatever kind. */
export interface AnyJob {
  id: string;
  version: number;
}

/**
 * A kind of job, a pure function of its message and of the weights that it names.
 * `M` is the model that does it, `C` what who asks for it knows of its result.
 */
export interface JobKind<J extends AnyJob, R, M, C extends object> {
  readonly name: KindName;
  encode(run: string, message: Message<J>): Promise<{ key: string; bytes: Uint8Array }>;
  /** Throws `Refused` for what is no such job. */
  decode(bytes: Uint8Array): Message<J>;
  encodeResult(key: string, drawer: Drawer, outcome: R | { error: string }): Uint8Array;
  /** Throws `Refused` for what cannot be the job's result. */
  decodeResult(bytes: Uint8Array, expected: C & { key: string; job: J }): ReadResult<R>;
  /** Bytes that a job's result can have at most. */
  largest(job: J): number;
  /** What makes jobs smaller, in words. */
  readonly smaller: string;
  /** Does a job. */
  run(model: M, job: J, signal?: AbortSignal): Promise<R>;
  /** Why a result is not what its job gives; null where it is. */
  wrong(model: M, job: J, result: R): Promise<string | null>;
  /** Tokens that a job has cost. */
  tokens(job: J, result: R): number;
}

/** Responses to prompts. */
export const sampling: JobKind<SamplingJob, JobResult, CausalLM, SamplingContext> = {
  name: "sample",
  encode: encodeJob,
  decode: decodeJob,
  encodeResult,
  decodeResult,
  largest: largestResult,
  smaller: "lower prompts_per_job, the number of responses per prompt, or their longest length",
  run: runJob,
  wrong: wrongWith,
  tokens: (_, { responses }) => responses.reduce((sum, { ids }) => sum + ids.length, 0),
};

/** Scores of sequences. */
export const scoring: JobKind<ScoringJob, ScoringResult, ScoreModel, object> = {
  name: "score",
  encode: encodeScoring,
  decode: decodeScoring,
  encodeResult: encodeScores,
  decodeResult: decodeScores,
  largest: largestScores,
  smaller: "let fewer or shorter sequences be scored together",
  run: runScoringJob,
  wrong: wrongScores,
  tokens: ({ sequences }) => sequences.reduce((sum, { length }) => sum + length, 0),
};

/**
 * The server takes no larger messages: who would have one sent should hear of it before the work is done.
 * @param bytes of the job's own message
 * @param most bytes of a message
 * @throws UserError where the job, or a result that it may have, is larger
 */
export function checkSize<J extends AnyJob>(
  { largest, smaller }: Pick<JobKind<J, unknown, never, object>, "largest" | "smaller">,
  job: J,
  bytes: number,
  most: number,
): void {
  const needed = Math.max(bytes, largest(job));
  if (needed <= most) return;
  const mebibytes = (size: number) => `${(size / 2 ** 20).toFixed(1)} MiB`;
  throw new UserError(
    `job ${job.id} or its result may have ${mebibytes(needed)}, and the cluster's server takes messages of ` +
      `${mebibytes(most)}: ${smaller}`,
  );
}
