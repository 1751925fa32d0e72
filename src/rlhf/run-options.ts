/** Where a run is kept and how it goes on: the last argument of every trainer. */
import type { RunFolder } from "./checkpoint.ts";
import type { LearnerExchange } from "./learners.ts";
import type { RunFacts } from "./record.ts";

/** Where and how a run goes on, whatever is trained. */
export interface RunOptions {
  /** Where to save; without it nothing is saved. */
  folder?: RunFolder;
  /**
   * Continues from the newest checkpoint of the folder, or from the checkpoint at this path. A finished run gives the models
   * what it trained, and ends. Default false: a folder that holds something of an earlier run is refused.
   */
  resume?: boolean | string;
  /** Removes what an earlier run left in the folder. Default false. */
  overwrite?: boolean;
  /** Goes on although settings or data have changed that make another run of it. Default false. */
  acceptChanges?: boolean;
  /** When it fires, the trainer finishes the step, saves a checkpoint and returns without an end. */
  signal?: AbortSignal;
  /**
   * What the record in the folder says of the run; null keeps none, for a part of a larger run. Default: what its trainer knows,
   * which is its name and settings.
   */
  record?: RunFacts | null;
  /** Learners that train the same parameters apart: see `diloco_steps`. Default: none. */
  learners?: LearnerExchange;
}
