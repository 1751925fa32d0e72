import type { DataCounts, Histogram } from "../data/counts.ts";
import type { Best } from "./best.ts";
import type { Change } from "./changes.ts";
import type { Phase, RolloutRow } from "./rollout-rows.ts";

/**
 * A message of a trainer at work. A trainer is an async generator of these; a terminal, a log file and a web page
 * are all just consumers. One's own trainer names its own `stage` and `table`s; logs, reports, pages and resume take them all.
 */
export type TrainEvent =
  /** First of all but notes, with the method's name; `step` > 0 when the run goes on from a checkpoint. */
  | {
      type: "start";
      stage: string;
      step: number;
      maxSteps: number;
      /** Those that are trained. */
      parameters: number;
      /** With those of the bases that trained adapters stand on. Default: all are trained. */
      totalParameters?: number;
      /** The best evaluation before, where the run goes on and settings ask for the best. */
      best?: Best;
    }
  /** After each optimizer step (PPO: each rollout; RAFT: each iteration). `tokens` and `seconds` are this step's own. */
  | {
      type: "step";
      step: number;
      maxSteps: number;
      epoch: number;
      metrics: Record<string, number>;
      tokens: number;
      seconds: number;
      /**
       * What the clock and the memory say besides, by names as logs have them: `time/rollout`, whose parts add up to `seconds`, and
       * `memory/peak`, in bytes of the GPU.
       */
      usage?: Record<string, number>;
    }
  /** `best`: the best evaluation up to this one, where settings ask for it; `seconds`: what it took. */
  | {
      type: "eval";
      step: number;
      metrics: Record<string, number>;
      rows?: Record<string, string | number>[];
      best?: Best;
      seconds?: number;
    }
  | { type: "samples"; step: number; samples: Sample[] }
  /**
   * Where `showRollouts` asks for some: responses of the step, token by token, through to its last update. `klCoef` is what
   * the KL terms count in the rewards, 0 where they are part of the loss.
   */
  | { type: "rollout"; step: number; klCoef: number; rows: RolloutRow[] }
  /**
   * Where `showRollouts` asks for some: a part of the step is done, with what it found of the shown responses. The step goes on
   * when the next event is asked for.
   */
  | ({ type: "phase"; step: number } & Phase)
  /** Rows of a table of the trainer's own, kept as `<table>.jsonl`: a name of letters, digits, hyphens. */
  | { type: "rows"; step: number; table: string; rows: Record<string, string | number | boolean>[] }
  /** What became of the rows of a part of the data; once for each part that is used, before the first step. */
  | ({ type: "data"; step: number; part: "train" | "eval" } & DataSummary)
  /** A setting was changed by somebody who watches, or as it was before; `step` is the first that has the new value. */
  | ({ type: "change" } & Change)
  /** Something that a person may like to know: how far a long preparation is, what was left out. */
  | { type: "note"; step: number; text: string }
  /** Something that a person should look at; the run goes on. */
  | { type: "warning"; step: number; text: string }
  /** The folder `name` under the output folder is whole and on disk; `seconds`: for so long the run waited for it. */
  | { type: "checkpoint"; step: number; name: string; seconds?: number }
  /** `step` is less than `maxSteps` where the run `stoppedEarly`. Of the `best` evaluation are the weights, if settings say so. */
  | { type: "end"; step: number; metrics: Record<string, number>; best?: Best; stoppedEarly?: boolean };

/** A trainer's examples in numbers, and what was left out or cut on the way to them. */
export interface DataSummary extends DataCounts {
  /** Examples that are there in the end. */
  used: number;
  /** Their lengths in tokens, a pair's by its longer answer; null of none. */
  lengths: Histogram | null;
}

/** A response with its score by the reward model and, where there is one, the true reward. */
export interface Sample {
  prompt: string;
  response: string;
  /** None where nothing scores single responses. */
  reward?: number;
  gold?: number;
}
