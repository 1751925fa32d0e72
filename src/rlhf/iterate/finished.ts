/** What finished iterations leave, and how a run finds where it was. */
import { UserError } from "../../runtime/errors.ts";
import { type Files, parseJson } from "../../runtime/files.ts";
import type { Best } from "../best.ts";
import { checkpointSteps } from "../checkpoint.ts";
import type { Sample, TrainEvent } from "../events.ts";

/** How the names of metrics begin that are measured on held-out prompts. */
export const HELD_OUT = "heldout_";

/** What metrics.json of a finished iteration holds. */
export interface Finished {
  iteration: number;
  reference: "initial" | "previous";
  /** New prompts in each iteration: another number would share them out otherwise. */
  promptsPerIteration: number;
  /** Optimizer steps of this iteration. */
  steps: number;
  metrics: Record<string, number>;
  /** Responses to held-out prompts. */
  samples: Sample[];
}

/** @param best the best iteration's evaluation up to this one, where settings ask for it */
export function* reported({ metrics, samples }: Finished, step: number, best: Best | null): Generator<TrainEvent> {
  if (samples.length > 0) yield { type: "samples", step, samples };
  yield { type: "eval", step, metrics, ...(best && { best }) };
}

/** Of a finished iteration, whose model is saved: nothing goes on from them. */
export async function removeCheckpoints(files: Files, path: string): Promise<void> {
  for (const step of await checkpointSteps(files, path)) await files.remove(`${path}/checkpoint-${step}`);
}

/**
 * What metrics.json says of the iterations from 0 (the start itself) on, up to the first that has none.
 * @throws UserError where these iterations were told otherwise than `expected`, or there are more of them
 */
export async function finishedIterations(
  files: Files,
  path: string,
  iterations: number,
  expected: Pick<Finished, "reference" | "promptsPerIteration">,
): Promise<Finished[]> {
  const found: Finished[] = [];
  for (;;) {
    const file = `${path}/iteration_${found.length}/metrics.json`;
    const content = await files.read(file);
    if (!content) return found;
    const record = parseJson<Finished>(content, file);
    for (const key of ["reference", "promptsPerIteration"] as const) {
      if (record[key] === expected[key]) continue;
      throw new UserError(
        `${file}: the run had ${key} ${record[key]}, not ${expected[key]}; use that, or another folder`,
      );
    }
    if (found.length > iterations) {
      throw new UserError(`${path} holds ${found.length - 1} iterations already; ask for more of them`);
    }
    found.push(record);
  }
}
