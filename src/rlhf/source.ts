/** Who draws a run's responses: the policy here, a server, or machines elsewhere. A trainer asks all of them alike. */
import type { CausalLM } from "../nn/models.ts";
import { type JobResult, runJob, type SamplingJob } from "./jobs.ts";

/** How a request is heard of. */
export interface RequestOptions {
  /** Hears of every result as soon as it is there, in any order: what fails later does not undo it. */
  arrived?: (result: JobResult) => Promise<void>;
  /** When it fires, nothing more is begun: `take` is rejected with its reason, unless everything is there. */
  signal?: AbortSignal | undefined;
}

/** Results as they come, of jobs that are handed out when somebody has time for them. */
export interface ResultStream {
  /** Looks for jobs to hand out: there may be some now. */
  more(): void;
  /** Results that were not given before, in any order; waits until there is one. */
  take(): Promise<JobResult[]>;
  /** Waits no more for these jobs, by their ids: their results would come too late. */
  giveUp(ids: ReadonlySet<string>): Promise<void>;
}

/**
 * Draws the responses of a run's iterations. A run publishes a policy, requests iterations of it, trains on while they are drawn,
 * and takes each when it needs it. A job's result depends on nothing but the job and the policy of its version.
 */
export interface RolloutSource {
  /** Prompts in one job where nobody says; default: see `promptsPerJob`. 1 where prompts are not computed together anyway. */
  readonly promptsPerJob?: number;
  /** The one temperature that it measures log-probabilities at; absent where it measures at any: see `SamplingJob.measuredAt`. */
  readonly measuresAt?: number;
  /** Hands over the policy after so many updates. The model may change as soon as the promise is kept. */
  publish(version: number, model: CausalLM): Promise<void>;
  /** Asks for an iteration's jobs, of the version that was published last. The model may change as soon as the promise is kept. */
  request(iteration: number, jobs: readonly SamplingJob[], options?: RequestOptions): Promise<void>;
  /** The results of an iteration that was requested, in the order of its jobs; once. Afterwards it may be requested anew. */
  take(iteration: number): Promise<JobResult[]>;
  /**
   * Draws what it is told, each job when somebody begins it. Absent where a source cannot.
   * @param next gives a job of a version that was published; null where nothing is to be drawn just now
   */
  stream?(next: () => SamplingJob | null): ResultStream;
  /** Gives up what is under way. A run calls it when it ends, however it does. */
  close?(): Promise<void>;
}

/** Draws with the model that is published, here: at once, when it is asked. */
export function localSource(): RolloutSource {
  const drawn = new Map<number, JobResult[]>();
  let policy: { version: number; model: CausalLM } | null = null;
  return {
    async publish(version, model) {
      policy = { version, model };
    },
    async request(iteration, jobs, { arrived, signal } = {}) {
      const results: JobResult[] = [];
      for (const job of jobs) {
        if (job.version !== policy?.version) {
          throw new Error(`job ${job.id} is version ${job.version}'s; ${policy?.version ?? "none"} is published`);
        }
        signal?.throwIfAborted();
        const result = await runJob(policy.model, job);
        await arrived?.(result);
        results.push(result);
      }
      drawn.set(iteration, results);
    },
    async take(iteration) {
      const results = drawn.get(iteration);
      if (!results) throw new Error(`iteration ${iteration} was not requested`);
      drawn.delete(iteration);
      return results;
    },
  };
}
