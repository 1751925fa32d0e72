/**
 * A worker: takes jobs, fetches the weights that it lacks, draws, and puts results. It keeps nothing that would be missed: what
 * it had under way when it is killed goes to another worker.
 */
import { BlobReader } from "./blobs.ts";
import type { ClusterConnection } from "./connection.ts";
import { type AnyJob, type JobKind, sampling, scoring } from "./kinds.ts";
import { mirroredFiles } from "./mirror.ts";
import { HeldPolicy } from "./policy.ts";
import type { PolicyRef } from "./wire.ts";
import { type Skill, type WorkerOptions, work } from "./work.ts";

/**
 * Works until the signal fires or the server refuses the credential. Returns the jobs done.
 * @throws ClusterError where it can work here no more: the connection is closed for good, the trainer is another version of webrlhf,
 * the GPU was lost
 */
export async function runWorker(connection: ClusterConnection, options: WorkerOptions): Promise<number> {
  const { say = () => {} } = options;
  let end = () => {};
  try {
    return await work(connection, options, (streams, heard) => {
      const files = mirroredFiles(new BlobReader(streams.jsm, heard), heard, say);
      const held = ((options.held as HeldPolicy | undefined) ?? new HeldPolicy()).from(files);
      const scorer = new HeldPolicy(files, null, "score");
      end = () => {
        if (!options.held) held.destroy();
        scorer.destroy();
      };
      return { sample: skillOf(sampling, held), score: skillOf(scoring, scorer) };
    });
  } finally {
    end();
  }
}

/** Does a kind's jobs with the weights that they name. */
const skillOf =
  <J extends AnyJob, R, M>(
    kind: JobKind<J, R, M, never>,
    held: { model(ref: PolicyRef, signal: AbortSignal): Promise<M> },
  ): Skill =>
  async (bytes, signal, begins) => {
    const { policy, job } = kind.decode(bytes);
    const model = await held.model(policy, signal);
    begins();
    const result = await kind.run(model, job, signal);
    return {
      tokens: kind.tokens(job, result),
      encoded: (key, drawer) => kind.encodeResult(key, drawer, result),
    };
  };
