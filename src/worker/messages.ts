/** What a page and its worker say to each other. Everything of a run names it, so that nothing stale is taken for the present. */
import type { Granularity, Notice, Progress, RunMode, RunSpec, RunState } from "./contract.ts";
import type { SentError } from "./crossing.ts";
import type { OrderName } from "./standing.ts";

/** How a run is called for. */
export interface StartMessage extends RunMode {
  type: "start";
  run: string;
  /** Null: it is a saved run, or one whose snapshot was given before. */
  spec: RunSpec | null;
  /** Events that the page has heard already. */
  told: unknown[];
  /** It begins paused. */
  paused: boolean;
  /** It ran before. */
  again: boolean;
  /** The last order that was given. */
  number: number;
}

export type ToWorker =
  | { type: "hello"; alive: string | null; folder: string | null; base: string | null }
  | { type: "call"; id: number; name: CallName; argument: unknown; run?: string | undefined }
  | { type: "abort"; id: number }
  | StartMessage
  | { type: "order"; run: string; number: number; order: OrderName; granularity?: Granularity | undefined }
  /** Whatever is unsaved is to be saved now: the page may be gone soon. */
  | { type: "save" };

/** Calls that have an answer. `query` has its name in `argument`. */
export type CallName =
  | "device"
  | "query"
  | "estimate"
  | "unfinished"
  | "forget"
  | "read"
  | "snapshot"
  | "restore"
  | "close";

export type ToPage =
  | { type: "hello" }
  | { type: "answer"; id: number; value: unknown }
  | { type: "failure"; id: number; error: SentError }
  | { type: "event"; run: string; seq: number; event: unknown }
  | { type: "spec"; run: string; spec: RunSpec }
  /** `number` is that of the last order that was heard. */
  | { type: "state"; run: string; number: number; state: RunState; begun: boolean; error?: SentError | undefined }
  | { type: "notice"; run: string; notice: Notice }
  | { type: "progress"; run: string; progress: Progress | null };
