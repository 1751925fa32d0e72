/** What is being trained; the verb's name. */
export type Stage =
  | "sft"
  | "reward"
  | "cost"
  | "dpo"
  | "kto"
  | "orpo"
  | "cpo"
  | "ppo"
  | "raft"
  | "pairwise"
  | "multi-objective"
  | "grpo"
  | "rloo"
  | "reinforce"
  | "iterate";

/** Tables that trainers write besides their metrics. */
export const tables = ["raft", "monitor"] as const;
export type Table = (typeof tables)[number];

/**
 * What a trainer says while it works. A trainer is an async generator of these; a terminal, a log file and a web page
 * are all just consumers.
 */
export type TrainEvent =
  /** First of all; `step` > 0 when the run goes on from a checkpoint. */
  | { type: "start"; stage: Stage; step: number; maxSteps: number; parameters: number }
  /** After each optimizer step (PPO: each rollout; RAFT: each iteration). `tokens` and `seconds` are this step's own. */
  | {
      type: "step";
      step: number;
      maxSteps: number;
      epoch: number;
      metrics: Record<string, number>;
      tokens: number;
      seconds: number;
    }
  | { type: "eval"; step: number; metrics: Record<string, number>; rows?: Record<string, string | number>[] }
  | { type: "samples"; step: number; samples: Sample[] }
  /** Rows of a table of the trainer's own, kept as `<table>.jsonl`. */
  | { type: "rows"; step: number; table: Table; rows: Record<string, string | number | boolean>[] }
  /** Something that a person should look at; the run goes on. */
  | { type: "warning"; step: number; text: string }
  /** The folder `name` under the output folder is whole and on disk. */
  | { type: "checkpoint"; step: number; name: string }
  | { type: "end"; step: number; metrics: Record<string, number> };

/** A response with its score by the reward model and, where there is one, the true reward. */
export interface Sample {
  prompt: string;
  response: string;
  /** None where nothing scores single responses. */
  reward?: number;
  gold?: number;
}
