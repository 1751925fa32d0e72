/** What the page for workers and its worker say to each other. */
import type { Absence, WorkerState } from "webrlhf/cluster";

/** Where to work. */
export interface WorkInput {
  url: string;
  creds: string;
  /** Name that others see. */
  name: string;
  adapter: string;
}

/** Why the work has ended, where nobody has ended it. */
export interface Over {
  type: "over";
  absence: Absence;
  /** In the library's words. */
  message: string;
}

/** How far the work is. */
export interface Told extends WorkerState {
  /** The server has let this page in. */
  joined: boolean;
  /** What the library said last of a job that was not done. */
  said: string;
}
