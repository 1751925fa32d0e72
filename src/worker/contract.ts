/** What programs, queries and pages of a session hold of each other. */
import type { Files } from "../runtime/files.ts";

/** How far a step goes: to the end of a token, of a phase of a rollout, of a rollout, or of an optimizer step. */
export type Granularity = "token" | "phase" | "rollout" | "step";

/** A run as its program and its queries see it. */
export interface RunContext<Event = unknown> {
  /** The run's id, the same after a reload. */
  runId: string;
  /**
   * The run's own files: what the worker reads (URLs of a page, the disk of Node) with what this run writes on top, which no
   * other run sees. They outlive a crash of the worker, and a reload of the page where runs are saved.
   */
  files: Files;
  /** The folder of `files` in which nothing but this run's own files is seen: for checkpoints and results. */
  folder: string;
  /** Fires when the run is cancelled: finish what was begun, free what was made, return. */
  signal: AbortSignal;
  /** The program ran before and broke off: `files` may hold something to go on from. */
  resumed: boolean;
  /** The events told so far, in order. */
  told: readonly Event[];
  /**
   * Says how far longer work is that tells no events: a download, a scoring. It is shown, and not kept.
   * @param what in words
   */
  progress(what: string, done: number, total: number): void;
  /** Lets waiting queries be answered. Call it, within longer work without events, where the device is free. */
  rest(): Promise<void>;
}

/** Something that a worker can run. */
// biome-ignore lint/suspicious/noExplicitAny: programs of all inputs and events stand in one record
export interface Program<Input = any, Event = any> {
  /**
   * Runs to its end, or until soon after `context.signal` fires; frees what it made in `finally`. A run that goes on is called
   * anew with the same input, and may say again what it said before: that is not told twice, see `key`.
   */
  run(input: Input, context: RunContext<Event>): AsyncIterable<Event>;
  /**
   * What an event ends, for steps. Default: of a trainer's events by their `type`, "token", "phase", "rollout" and "step"; an
   * `event` field within is looked at, too.
   */
  ends?(event: Event): Granularity | undefined;
  /**
   * Names an event, the same name whenever a run that goes on says it again; null for one that is always told. Default: by the
   * fields type, stage, step and others that say where it stands.
   */
  key?(event: Event): string | null;
  /** False for a program that needs no GPU, and so runs where there is none. Default true. */
  device?: boolean;
}

/** A program, or how its module is loaded when it is first wanted. */
export type ProgramSource = Program | (() => Promise<Program>);

/** Surroundings of a query. */
export interface QueryContext {
  /** The run that is asked; without one the run at work; null where there is none. */
  run: RunContext | null;
  /** Fires when nobody waits for the answer any more. */
  signal: AbortSignal;
}

/**
 * Answers a question of the page. It is asked between two events of a program, while a run is paused, or where nothing runs, and
 * has the device to itself then.
 */
// biome-ignore lint/suspicious/noExplicitAny: queries of all arguments stand in one record
export type Query = (argument: any, context: QueryContext) => Promise<unknown>;

/** A query, or one that needs neither the device nor what a program is changing: it is answered at once. */
export type QuerySource = Query | { readonly answer: Query; readonly anytime: true };

/** A program by its name, with its input. Both must be plain data: they are sent and saved. */
export interface RunSpec<Input = unknown> {
  /** The program's name in the worker. */
  program: string;
  input: Input;
}

/** How a run begins. */
export interface RunMode {
  /** "step" pauses after the first `granularity`. Default "run". */
  mode?: "run" | "step";
  /** Of mode "step". Default "step". */
  granularity?: Granularity;
}

/**
 * Where a run stands. "waiting": it has not begun, another run has the worker. "pausing" and "cancelling": it was told to, and
 * finishes what it computes.
 */
export type RunState = "waiting" | "running" | "pausing" | "paused" | "cancelling" | "cancelled" | "done" | "broken";

/** An event of a run. `seq` counts from 0, and is the same after a reload. */
export interface RunEvent<E = unknown> {
  runId: string;
  seq: number;
  event: E;
}

/** How far a run's longer work is that tells no events. */
export interface Progress {
  /** In words. */
  what: string;
  done: number;
  total: number;
}

/** Something that befell a run, and that a person may like to know. */
export interface Notice {
  /**
   * "renewed": the GPU device was lost. "rehired": the worker was. The run goes on from its last state either way. "unsaved":
   * nothing of the run would survive a reload. "saved": after that, it would again.
   */
  type: "renewed" | "rehired" | "unsaved" | "saved";
  /** In words for people. */
  message: string;
}

/** A run that was saved and did not end. */
export interface SavedRun {
  id: string;
  program: string;
  input: unknown;
  /** How many events it told. */
  events: number;
  /** The last of them. */
  last: unknown;
  /** When it was saved, in milliseconds since 1970. */
  savedAt: number;
  /** Another tab has it. */
  held: boolean;
}

/** The device that a worker trains on. */
export interface SessionDevice {
  /** The adapter's name for people. */
  name: string;
  /** "cpu" is a software adapter. */
  kind: "hardware" | "cpu";
  /** Half-precision numbers in shaders. */
  f16: boolean;
  /** Largest buffer in bytes. */
  maxBuffer: number;
}
