/** K responses to each of many prompts, kept row by row, so that whatever breaks off loses nothing that was finished. */

import type { SampledRow } from "../../data/scored-rows.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { permutation, streamId } from "../../runtime/rng.ts";
import type { RowLog } from "../../runtime/row-log.ts";
import { type JobsOptions, jobsOf } from "../jobs.ts";
import { type Prompt, type Response, responsesOf, type Sampler, type SamplingOptions } from "../sampler.ts";
import type { RolloutSource } from "../source.ts";
import { episodeOf } from "./responses.ts";

/** A prompt with its stable number, e.g. its place in the dataset: it names the random numbers and the row. */
export interface NumberedPrompt extends Prompt {
  id: number;
}

/** Disjoint parts of the prompts, one per iteration, in one random order. Throws `UserError` where there are too few. */
export function promptSlices(
  prompts: readonly Prompt[],
  o: { iterations: number; promptsPerIteration: number | null; seed: number },
): NumberedPrompt[][] {
  const { iterations, promptsPerIteration, seed } = o;
  const each = promptsPerIteration ?? Math.floor(prompts.length / iterations);
  if (each < 1 || each * iterations > prompts.length) {
    throw new UserError(
      `${iterations} iterations with ${Math.max(1, each)} new prompts each need ${Math.max(1, each) * iterations} prompts; ` +
        `there are ${prompts.length}`,
    );
  }
  const order = permutation(prompts.length, seed, streamId("iterate"));
  return Array.from({ length: iterations }, (_, i) =>
    [...order.subarray(i * each, (i + 1) * each)].map((id) => ({ ...prompts[id], id })),
  );
}

/** Options of `sampleRows`. */
export interface SampleRowsOptions extends Omit<SamplingOptions, "onResponses"> {
  /** K, responses per prompt. */
  samples: number;
  /** Prompts handed to the sampler at once. Default 64. */
  promptsAtOnce?: number;
  /**
   * What is taken up again after a break: of a sampler that computes prompts together, all of a call ("calls", the
   * default), so that no row depends on where the break was; of a server, only what is missing ("rows").
   */
  redo?: "calls" | "rows";
  /** A prompt to which nothing was drawn, as its environment failed, becomes a row without responses. Default: an error. */
  mayDrop?: boolean;
  /** Told how many prompts are finished. */
  progress?: (done: number, total: number) => void;
  /** When it fires, nothing more is begun; the rows so far are in the log. */
  signal?: AbortSignal;
}

/**
 * Draws what the log has not got yet. Returns all rows in the order of the prompts, or null when the signal stopped it.
 * Throws `UserError` when a prompt got fewer responses than were asked for, and whatever the sampler throws.
 */
export async function sampleRows(
  draw: Sampler,
  prompts: readonly NumberedPrompt[],
  log: RowLog<SampledRow>,
  options: SampleRowsOptions,
): Promise<SampledRow[] | null> {
  const { promptsAtOnce = 64, redo = "calls", mayDrop = false, progress, signal, ...sampling } = options;
  progress?.(prompts.filter(({ id }) => log.rows.has(id)).length, prompts.length);
  for (let at = 0; at < prompts.length; at += promptsAtOnce) {
    const call = prompts.slice(at, at + promptsAtOnce);
    const missing = call.filter(({ id }) => !log.rows.has(id));
    if (missing.length === 0) continue;
    if (signal?.aborted) return null;
    const asked = redo === "rows" ? missing : call;
    await draw(
      asked,
      asked.map(({ id }) => id),
      {
        ...sampling,
        async onResponses(responses) {
          await log.add(rowsOf(asked, responses, options.samples));
          progress?.(prompts.filter(({ id }) => log.rows.has(id)).length, prompts.length);
        },
      },
    );
    const dropped = mayDrop ? asked.filter(({ id }) => !log.rows.has(id)) : [];
    if (dropped.length > 0) await log.add(dropped.map((prompt) => [prompt.id, rowOf(prompt, [])] as const));
  }
  return wholeRows(prompts, log);
}

/** The rows of all prompts, in their order. */
function wholeRows(prompts: readonly NumberedPrompt[], log: RowLog<SampledRow>): SampledRow[] {
  return prompts.map(({ id }) => {
    const row = log.rows.get(id);
    if (!row) throw new Error(`the sampler gave no responses to prompt ${id}`);
    return row;
  });
}

/** How a source draws an iteration's rows. */
export interface DrawRowsOptions extends JobsOptions {
  samples: number;
  tokenizer: TextTokenizer;
  progress?: (done: number, total: number) => void;
  signal?: AbortSignal | undefined;
  /** Is called before anything is asked for. */
  publish(): Promise<void>;
  /** Is called when everything is asked for: the model may change. */
  requested(): void;
}

/**
 * As `sampleRows`, drawn by a source. What is taken up again after a break are whole jobs, so that no row depends on where the
 * break was.
 */
export async function drawRows(
  source: RolloutSource,
  prompts: readonly NumberedPrompt[],
  log: RowLog<SampledRow>,
  options: DrawRowsOptions,
): Promise<SampledRow[] | null> {
  const { tokenizer, progress, signal, publish, requested, ...sampling } = options;
  const { samples, iteration } = sampling;
  const tell = () => progress?.(prompts.filter(({ id }) => log.rows.has(id)).length, prompts.length);
  tell();
  const jobs = jobsOf(
    prompts.map(({ ids }) => ids),
    prompts.map(({ id }) => id),
    { ...sampling, promptsPerJob: sampling.promptsPerJob ?? source.promptsPerJob ?? null },
  );
  let first = 0;
  const asked = new Map<string, readonly NumberedPrompt[]>();
  for (const job of jobs) {
    const own = prompts.slice(first, first + job.prompts.length);
    first += own.length;
    if (own.some(({ id }) => !log.rows.has(id))) asked.set(job.id, own);
  }
  if (asked.size === 0) return wholeRows(prompts, log);
  if (signal?.aborted) return null;
  await publish();
  try {
    await source.request(
      iteration,
      jobs.filter(({ id }) => asked.has(id)),
      {
        async arrived(result) {
          const own = asked.get(result.id) ?? [];
          await log.add(rowsOf(own, responsesOf(tokenizer, own, [result], samples), samples));
          tell();
        },
        signal,
      },
    );
    requested();
    await source.take(iteration);
  } catch (error) {
    if (signal?.aborted) return null;
    throw error;
  }
  return wholeRows(prompts, log);
}

/** One row for each prompt that these responses belong to. */
function rowsOf(
  prompts: readonly NumberedPrompt[],
  responses: readonly Response[],
  samples: number,
): [number, SampledRow][] {
  const groups = new Map<number, Response[]>();
  for (const response of responses) {
    const group = groups.get(response.prompt);
    if (group) group.push(response);
    else groups.set(response.prompt, [response]);
  }
  return [...groups].map(([i, group]) => {
    const { id } = prompts[i];
    if (group.length !== samples) {
      throw new UserError(`prompt ${id} got ${group.length} responses instead of ${samples}`);
    }
    return [id, rowOf(prompts[i], group)];
  });
}

function rowOf({ id, text, messages }: NumberedPrompt, group: readonly Response[]): SampledRow {
  const episodes = group.map(episodeOf).filter((episode) => episode !== null);
  return {
    id,
    prompt: episodes[0]?.prompt ?? (messages ? [...messages] : text),
    responses: group.map((response) => response.text),
    ended: group.map(({ ended }) => ended),
    tokenIds: group.map(({ ids, promptLength }) => Array.from(ids.subarray(promptLength))),
    ...(episodes.length > 0 && { episodes }),
  };
}
