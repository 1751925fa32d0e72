/** What a trainer has asked a cluster for. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import type { AnyJob } from "./kinds.ts";
import type { PublishedPolicy } from "./policy.ts";

/** A trainer in a cluster. */
export interface TrainerOptions {
  /** The run's name: letters, digits, "-" and "_". */
  run: string;
  /** The trainer, for others' messages. */
  who: string;
  /** Where accepted results are kept; null where whoever hears of them keeps them. */
  kept: { files: Files; folder: string } | null;
  say: (line: string) => void;
  /** How long is waited for a trainer that held the name a moment ago, milliseconds. Default: until it must be gone. */
  waitsMs?: number;
  /** How long no worker must have been heard of until that is said, milliseconds. Default 6000. */
  aloneMs?: number;
  /** Part of the workers' results that are drawn again here, beside each worker's first one. Default 0: none. */
  check?: number;
  /** Requests for which results are looked for that came while there was no trainer. Default 1. */
  looksBack?: number;
  /** What is so where no worker joins. Default: the trainer samples alone. */
  alone?: string;
  /** Where weights are put as well, and the address at which workers find them there. Default: nowhere. */
  mirror?: { files: Files; folder: string; url: string } | null;
  /** Puts out a member that was caught. */
  revoke?: (member: string) => Promise<void>;
}

/** What an iteration's jobs are to be done with. */
export interface DoneBy {
  policy: PublishedPolicy;
}

/** What the trainer can do itself with a job, by the policy of its version. */
export interface Here<J, R> {
  /** Does it. */
  draw(job: J, policy: PublishedPolicy): Promise<R>;
  /** Says why a worker's result is not what the job gives; null where it is. */
  check(job: J, policy: PublishedPolicy, result: R): Promise<string | null>;
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
export interface Iteration<R> {
  number: number;
  policy: PublishedPolicy;
  results: R[];
  left: number;
  arrived?: ((result: R) => Promise<void>) | undefined;
  /** The iteration among whose results they are kept. */
  kept: number;
  /** Hears that nothing is missing any more. */
  filled?: (() => void) | undefined;
}

/** How a request is heard of, and kept. */
export interface Asking<R> {
  arrived?: ((result: R) => Promise<void>) | undefined;
  /** Default: the iteration itself. */
  kept?: number;
  filled?: () => void;
}

/** A job without a result. */
export interface Pending<J extends AnyJob, R, C> {
  key: string;
  job: J;
  /** What else is known of its result. */
  context: C;
  of: Iteration<R>;
  place: number;
  bytes: Uint8Array;
  attempt: number;
  askedAt: number;
  errors: Set<string>;
  /** It was late, so that an idle worker was asked, too: the first result counts. */
  copied: boolean;
  /** It is being drawn here, or is to be: nobody else need be asked. */
  here: boolean;
}

/** Errors after which nobody else is asked: the trainer draws the job itself, and where it may not, the run ends. */
const MOST_ERRORS = 3;

/** Whether workers are not to try a job any more. */
export const isGivenUp = ({ errors }: { errors: ReadonlySet<string> }): boolean => errors.size >= MOST_ERRORS;

/** Throws a UserError with the workers' reasons for such a job. */
export function refuseGivenUp(one: { job: AnyJob; errors: ReadonlySet<string> }): void {
  if (isGivenUp(one)) throw new UserError(`workers cannot do job ${one.job.id}: ${[...one.errors].join("; ")}`);
}

/** A result that is to be drawn again before it is taken. */
export interface Doubtful<J extends AnyJob, R, C> {
  one: Pending<J, R, C>;
  from: string;
  /** When it came: see `Trust.now`. */
  at: number;
  bytes: Uint8Array;
  result: R;
}
