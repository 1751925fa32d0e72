/** A cluster as the source of a run's responses. */
import type { AdapterWire } from "../nn/adapter-wire.ts";
import type { CausalLM } from "../nn/models.ts";
import type { JobResult, SamplingJob } from "../rlhf/jobs.ts";
import type { RolloutSource } from "../rlhf/source.ts";
import type { Here } from "./asked.ts";
import { sampling } from "./kinds.ts";
import type { SamplingContext } from "./messages.ts";
import { HeldPolicy, PolicyPublisher, type PublishedPolicy } from "./policy.ts";
import { JobStream } from "./stream.ts";
import type { ClusterTrainer } from "./trainer.ts";

/** How a cluster draws for a run. */
export interface ClusterSourceOptions {
  /** Iterations are taken before the policy changes, so that the policy itself can draw what no worker takes. */
  onPolicy: boolean;
  /** How adapters travel; the policies that are published have numbers that it can say. Default f32. */
  wire?: AdapterWire;
  /** Whole models travel as what has changed, too: see `PolicyPublisher`. Default false. */
  deltas?: boolean;
  /** Prompts in one job where nobody says. Default 4. */
  promptsPerJob?: number;
}

/** A trainer whose workers draw. */
export type SamplingTrainer = ClusterTrainer<SamplingJob, JobResult, SamplingContext>;

/** Prompts of one job: enough for a GPU to be busy, few enough for several workers to share an iteration. */
export const PROMPTS = 4;

/**
 * Responses from whoever has joined the cluster, and from the policy here where nobody has time.
 * @param open joins the cluster, when the first policy is there, and again for a run that begins anew
 */
export function clusterSource(open: () => Promise<SamplingTrainer>, options: ClusterSourceOptions): RolloutSource {
  let joined: SamplingTrainer | null = null;
  const trainer = () => {
    if (!joined) throw new Error("no policy was published");
    return joined;
  };
  const publisher = new PolicyPublisher(options.wire, options.deltas);
  let newest: { model: CausalLM; policy: PublishedPolicy } | null = null;
  let held: HeldPolicy | null = null;
  const signals = new Map<number, AbortSignal>();
  /** Policies by their versions, for jobs that name them. */
  const published = new Map<number, PublishedPolicy>();
  let stream: JobStream | null = null;
  const contextOf = (job: SamplingJob | undefined, { config: { vocabSize, eosIds } }: CausalLM): SamplingContext => ({
    vocabSize,
    endIds: job?.ignoreEos ? [] : (job?.eosIds ?? eosIds),
  });
  /** The model of a policy's version: this one, or where it has learned since, one that is made of the version's files. */
  const modelOf = async (policy: PublishedPolicy): Promise<CausalLM> => {
    if (!newest) throw new Error("no policy was published");
    if (options.onPolicy) return newest.model;
    held ??= new HeldPolicy(policy, newest.model.baseModel as CausalLM | null);
    return held.from(policy).model(policy.ref);
  };
  const here: Here<SamplingJob, JobResult> = {
    draw: async (job, policy) => sampling.run(await modelOf(policy), job),
    check: async (job, policy, result) => sampling.wrong(await modelOf(policy), job, result),
  };
  return {
    promptsPerJob: options.promptsPerJob ?? PROMPTS,
    async publish(version, model) {
      const policy = await publisher.take(model);
      newest = { model, policy };
      joined ??= await open();
      await joined.publish(policy);
      published.set(version, policy);
      // A job is of the newest version, or of the one before while that is being handed over.
      for (const older of [...published.keys()].slice(0, -2)) published.delete(older);
    },
    async request(iteration, jobs, { arrived, signal } = {}) {
      if (!newest) throw new Error("no policy was published");
      const { policy, model } = newest;
      if (signal) signals.set(iteration, signal);
      await trainer().request(iteration, jobs, { policy, ...contextOf(jobs[0], model) }, { arrived });
    },
    async take(iteration) {
      const signal = signals.get(iteration);
      signals.delete(iteration);
      return trainer().take(iteration, here, signal);
    },
    stream(next) {
      const doneBy = (job: SamplingJob) => {
        const policy = published.get(job.version);
        if (!policy || !newest) throw new Error(`version ${job.version} was not published`);
        return { policy, ...contextOf(job, newest.model) };
      };
      stream = new JobStream({ trainer: trainer(), here, next, doneBy });
      return stream;
    },
    async close() {
      stream?.close();
      stream = null;
      published.clear();
      await joined?.close();
      joined = null;
      newest = null;
      held?.destroy();
      held = null;
    },
  };
}
