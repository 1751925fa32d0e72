/**
 * Scoring cut into jobs. As with sampling, a job is a pure function of its message and of the model that it names, and scoring
 * here goes through the same jobs, so that scores from elsewhere on the same kind of adapter are those that would come from here.
 */
import type { ScoreModel } from "../nn/models.ts";
import type { Sequence } from "./batch.ts";
import { scoreSequences } from "./scores.ts";

/** Sequences to score together. */
export interface ScoringJob {
  /** The same whenever the same is scored. */
  id: string;
  /** The model that is to score: 0 for one that does not change. */
  version: number;
  /** Token ids of each. */
  sequences: readonly Uint32Array[];
  /** The model computes in f16: see `Model.half`. Default: as it does. */
  half?: boolean;
}

/** The scores of a job. */
export interface ScoringResult {
  /** The job's. */
  id: string;
  /** The model that scored. */
  version: number;
  /** One for each sequence, normalised where the model says so. */
  scores: Float32Array;
}

/** Does a job: here, or by whoever has time. */
export type ScoringRunner = (job: ScoringJob) => Promise<ScoringResult>;

/**
 * Scores a job's sequences. The model must be the one of the job's version; it is left as it was.
 * @throws UserError naming the model where a score is not finite
 */
export async function runScoringJob(model: ScoreModel, job: ScoringJob): Promise<ScoringResult> {
  const { id, version, sequences, half = model.half } = job;
  const before = model.half;
  if (half !== before) model.half = half;
  try {
    const scores = await scoreSequences(
      model,
      sequences.map((ids) => ({ ids, promptLength: 0 })),
    );
    return { id, version, scores };
  } finally {
    if (half !== before) model.half = before;
  }
}

/**
 * Scores lists of sequences as jobs; those of one list may be done at once.
 * @param half whether the model computes in f16
 * @param most sequences in one job. Default: all of a list
 */
export function scoresByJobs(
  run: ScoringRunner,
  { half, most = Number.POSITIVE_INFINITY }: { half: boolean; most?: number },
): (sequences: readonly Sequence[]) => Promise<Float32Array> {
  let lists = 0;
  return async (sequences) => {
    const list = lists++;
    const jobs: ScoringJob[] = [];
    for (let first = 0; first < sequences.length; first += most) {
      const own = sequences.slice(first, first + most).map(({ ids }) => ids);
      jobs.push({ id: `${list}/${jobs.length}`, version: 0, sequences: own, half });
    }
    const results = await Promise.all(jobs.map(run));
    return Float32Array.from(results.flatMap(({ scores }) => [...scores]));
  };
}
