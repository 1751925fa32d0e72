/**
 * Whether a result was drawn as its job says: the job is drawn again here, with the same random numbers. Weights, precision, temperature,
 * sampling and noise other than the job's all give other tokens or other log-probabilities.
 */
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import { drawingNoise } from "../nn/sampling.ts";
import { type JobResult, runJob, type SamplingJob, whole } from "../rlhf/jobs.ts";
import { responseLogProbs } from "../rlhf/measure.ts";
import { runScoringJob, type ScoringJob, type ScoringResult } from "../rlhf/score-jobs.ts";

/** Log-probabilities, and scores of about 1, of one model on two adapters differ by less, in f32 and where it computes in f16. */
const TOLERANCE = 1e-4;
const HALF_TOLERANCE = 0.05;

/**
 * Why a result is not what its job gives; null where it is.
 * @param model the policy of the job's version
 */
export async function wrongWith(model: CausalLM, job: SamplingJob, result: JobResult): Promise<string | null> {
  const tolerance = job.half ? HALF_TOLERANCE : TOLERANCE;
  const own = await runJob(model, job);
  for (const [i, { ids, logProbs }] of result.responses.entries()) {
    const again = own.responses[i];
    const at = ids.findIndex((id, t) => id !== again.ids[t]);
    const differs = at >= 0 ? at : ids.length === again.ids.length ? -1 : Math.min(ids.length, again.ids.length);
    if (differs >= 0 && !(await nearTie(model, job, i, { ids, again: again.ids, differs, tolerance }))) {
      return `response ${i} has another token at ${differs + 1} than its random numbers draw`;
    }
    const measured = differs < 0 ? again.logProbs : await forced(model, job, i, ids);
    const off = ids.findIndex((_, t) => !(Math.abs((logProbs?.[t] ?? Number.NaN) - (measured?.[t] ?? 0)) <= tolerance));
    if (off >= 0) {
      const [told, found] = [logProbs?.[off], measured?.[off]];
      return `response ${i} has the log-probability ${told} at token ${off + 1}, which is ${found} here`;
    }
  }
  return null;
}

/**
 * Why scores are not what their job gives; null where they are.
 * @param model the scorer of the job's version
 */
export async function wrongScores(
  model: ScoreModel,
  job: ScoringJob,
  { scores }: ScoringResult,
): Promise<string | null> {
  const own = (await runScoringJob(model, job)).scores;
  const tolerance = (job.half ?? model.half) ? HALF_TOLERANCE : TOLERANCE;
  const off = scores.findIndex((score, i) => !(Math.abs(score - own[i]) <= tolerance * Math.max(1, Math.abs(own[i]))));
  return off < 0 ? null : `sequence ${off} has the score ${scores[off]}, which is ${own[off]} here`;
}

const promptOf = ({ prompts, samples }: SamplingJob, i: number): Uint32Array => prompts[Math.floor(i / samples)];

/** Log-probabilities of a response as it was sent. */
async function forced(model: CausalLM, job: SamplingJob, i: number, ids: Uint32Array): Promise<Float32Array> {
  const { logProbs } = await responseLogProbs(model, [whole(promptOf(job, i), ids)], job.measuredAt ?? 1);
  return logProbs[0];
}

/** Whether both tokens were as good as equally high, so that another adapter's last bits decide. */
async function nearTie(
  model: CausalLM,
  { seed, streams, temperature = 1, ...job }: SamplingJob,
  i: number,
  found: { ids: Uint32Array; again: Uint32Array; differs: number; tolerance: number },
): Promise<boolean> {
  const { ids, again, differs, tolerance } = found;
  if (differs >= ids.length || differs >= again.length) return false;
  const prompt = promptOf({ seed, streams, ...job }, i);
  const both = [ids[differs], again[differs]];
  const measured = await responseLogProbs(
    model,
    both.map((id) => whole(prompt, Uint32Array.from([...ids.subarray(0, differs), id]))),
    temperature || 1,
  );
  const [theirs, ours] = both.map((id, k) => {
    const noise = temperature === 0 ? 0 : drawingNoise(seed, streams[i], differs, id);
    return (measured.logProbs[k].at(-1) as number) + noise;
  });
  return Math.abs(theirs - ours) <= 10 * tolerance;
}
