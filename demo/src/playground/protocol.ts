/**
 * What the page and its training worker say to each other. The page sends commands; the worker answers with replies, and
 * a page can be rebuilt from the replies alone, so a recorded run is a list of them.
 */
import type { Sample, TrainEvent } from "webrlhf/rlhf";

/** Everything that decides a run. Equal knobs give equal runs on the same adapter. */
export interface Knobs {
  algorithm: "ppo" | "raft";
  seed: number;
  /** Weight of the KL penalty (PPO only). */
  klCoef: number;
  /** Of the policy; PPO's critic learns at the same rate. */
  learningRate: number;
  /** Responses sampled in each step of the policy. */
  rolloutSize: number;
  /** Steps of the policy. */
  steps: number;
  /** Preference pairs that the reward model learns from. */
  rewardPairs: number;
}

export type Command =
  /** Begins a run from the shipped language model; "step" stops after its first step. */
  | { type: "start"; knobs: Knobs; mode: "run" | "step" }
  /** Stops after the step that is being computed. */
  | { type: "pause" }
  | { type: "resume" }
  /** Computes one more step, then pauses. */
  | { type: "step" }
  /** Drops the run and frees its memory. */
  | { type: "reset" };

/**
 * A command and the run it is about. The page counts its runs: a start or a reset takes the next number, and ends what was
 * commanded before, begun or not.
 */
export interface Order {
  run: number;
  command: Command;
}

/** A reply and the run it is about, so that nobody takes a dropped run's words for the present one's. */
export interface Report {
  run: number;
  reply: Reply;
}

/** The parts of a run, in order. */
export type Stage = "load" | "reward" | "before" | "policy" | "after";

/** "broken": the run ended before its end, by an error. */
export type Phase = "idle" | "running" | "pausing" | "paused" | "done" | "broken";

export interface DeviceInfo {
  name: string;
  kind: "hardware" | "cpu";
}

export type Reply =
  /** The worker has a device and waits for commands. Sent once. */
  | { type: "ready"; device: DeviceInfo }
  | { type: "state"; phase: Phase; stage: Stage }
  /** An event of a trainer, or an evaluation of the policy ("before", "after") as an "eval" event. */
  | { type: "event"; stage: Stage; event: TrainEvent }
  /** Responses to the same held-out prompts, before training and after so many steps of it. */
  | { type: "samples"; when: "before" | "after"; step: number; samples: Sample[] }
  /** The GPU device was lost, and the run goes on from its last state on a new one. */
  | { type: "renewed"; message: string }
  /** "webgpu": this browser offers no device; "run": the run broke off. The worker is of no further use. */
  | { type: "error"; about: "webgpu" | "run"; message: string };
