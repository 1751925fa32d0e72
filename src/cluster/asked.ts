/** What a trainer has asked a cluster for. */
import type { JobResult, SamplingJob } from "../rlhf/jobs.ts";
import { UserError } from "../runtime/errors.ts";
import type { Expected } from "./messages.ts";
import type { PublishedPolicy } from "./policy.ts";

/** What an iteration's jobs are to be drawn with. */
export interface DrawnBy {
  policy: PublishedPolicy;
  vocabSize: number;
  endIds: readonly number[];
}

/** What the trainer can do itself with a job, by the policy of its version. */
export interface Here {
  /** Draws it. */
  draw(job: SamplingJob, policy: PublishedPolicy): Promise<JobResult>;
  /** Says why a worker's result is not what the job gives; null where it is. */
  check(job: SamplingJob, policy: PublishedPolicy, result: JobResult): Promise<string | null>;
}

/** How a cluster has done. */
export interface Counts {
  /** Results by the workers' names; "" is the trainer. */
  by: Map<string, number>;
  /** Results of jobs that had one already. */
  double: number;
  refused: number;
  /** Members that did not draw as they were told. */
  caught: number;
  askedAgain: number;
}

/** An iteration whose results are awaited. */
export interface Iteration {
  number: number;
  policy: PublishedPolicy;
  results: JobResult[];
  left: number;
  arrived?: ((result: JobResult) => Promise<void>) | undefined;
}

/** A job without a result. */
export interface Pending extends Expected {
  of: Iteration;
  place: number;
  bytes: Uint8Array;
  attempt: number;
  askedAt: number;
  errors: Set<string>;
  /** It is being drawn here, or is to be: nobody else need be asked. */
  here: boolean;
}

/** Errors after which nobody else is asked: the trainer draws the job itself, and where it may not, the run ends. */
const MOST_ERRORS = 3;

/** Whether workers are not to try a job any more. */
export const isGivenUp = ({ errors }: Pending): boolean => errors.size >= MOST_ERRORS;

/** Throws a UserError with the workers' reasons for such a job. */
export function refuseGivenUp(one: Pending): void {
  if (isGivenUp(one)) throw new UserError(`workers cannot do job ${one.job.id}: ${[...one.errors].join("; ")}`);
}

/** A result that is to be drawn again before it is taken. */
export interface Doubtful {
  one: Pending;
  from: string;
  /** When it came: see `Trust.now`. */
  at: number;
  bytes: Uint8Array;
  result: JobResult;
}
