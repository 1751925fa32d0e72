/** Keeps the record of a training run: written when it begins, brought up to date when it ends. */
import { snakeCase } from "../runtime/names.ts";
import { VERSION } from "../runtime/version.ts";
import type { TrainEvent } from "./events.ts";
import { type RunFacts, type RunRecord, recordOf, writeRecord } from "./record.ts";
import type { RunOptions } from "./run-options.ts";

/** The name and settings of a training: what its trainer knows of it by itself. */
export interface Training {
  stage: string;
  settings: object;
}

/** Passes a trainer's events on, and writes what becomes of the run into its folder. */
export async function* recorded(
  { folder, record }: RunOptions,
  training: Training,
  train: () => AsyncGenerator<TrainEvent>,
): AsyncGenerator<TrainEvent> {
  if (!folder || record === null) return yield* train();
  const facts = record ?? factsOf(training);
  const keep = (state: RunRecord["state"], steps: number | null = null) =>
    writeRecord(folder.files, recordOf(folder.path), { ...facts, state, steps });
  let steps: number | null = null;
  let begun = false;
  try {
    for await (const event of train()) {
      // Before its start a run may still be refused: the record is of what is there already.
      if (event.type === "start") {
        await keep("running");
        begun = true;
      }
      yield event;
      if (event.type === "end") steps = event.step;
    }
  } catch (error) {
    if (begun) await keep("failed").catch(() => {}); // the first error is the one to tell
    throw error;
  }
  if (begun) await keep(steps === null ? "stopped" : "finished", steps);
}

/** The facts of a run whose trainer was called with nothing but its settings. */
const factsOf = ({ stage, settings }: Training): RunFacts => ({
  verb: stage,
  webrlhf: VERSION,
  adapter: null,
  settings: Object.fromEntries(Object.entries(settings).map(([key, value]) => [snakeCase(key), value])),
  inputs: [],
  parents: [],
});
