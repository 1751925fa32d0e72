/** Where a run is kept and how it goes on: the last argument of every trainer. */
import type { Change } from "./changes.ts";
import type { RunFolder } from "./checkpoint.ts";
import type { RunControls } from "./controls.ts";
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
  /** Where wishes come from while the run is at work: to pause it, to change its learning rate. Default: nowhere. */
  controls?: RunControls | undefined;
  /**
   * Changes of settings that are made on the way, as another run's changes.jsonl has them. A run that is resumed makes its own
   * again. Default: none.
   */
  changes?: readonly Change[];
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
