/** When a run's checkpoints are written: by steps, by time, and when it stops. Time changes no result: a save only reads. */
import {
  type CheckpointedModel,
  type Keeping,
  type RunFolder,
  saveCheckpoint,
  snapshotCheckpoint,
} from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import type { CommonSettings } from "./settings.ts";

/** Runs work with what it needs on the GPU. */
type Scope = <R>(work: () => Promise<R>) => Promise<R>;

/** What a checkpoint is made of. */
interface Parts {
  kept: Record<string, CheckpointedModel>;
  state(): Record<string, unknown> | Promise<Record<string, unknown>>;
  around: Scope;
  /** The step of the checkpoint that stays, whatever is due. */
  best(): number | null;
}

/** How often checkpoints are written that are kept. */
export type SaveRhythm = Pick<CommonSettings, "saveSteps" | "saveStrategy">;

/**
 * Whether something is due after so many steps: every so many, or after each pass over the data.
 * @param epoch passes that are complete after some steps
 */
export const dueBy =
  (strategy: CommonSettings["saveStrategy"], steps: number, epoch: (done: number) => number) =>
  (done: number): boolean => {
    if (strategy !== "epoch") return strategy === "steps" && steps > 0 && done % steps === 0;
    return Math.floor(epoch(done) + 1e-9) > Math.floor(epoch(done - 1) + 1e-9);
  };

/** Writes the checkpoints of a run. */
export class Saver {
  /** Whether a checkpoint is due after so many steps. */
  readonly due: (done: number) => boolean;
  readonly #run: RunFolder;
  readonly #parts: Parts;
  readonly #milliseconds: number;
  #last = performance.now();
  /** What is written while the run goes on; it does not reject. */
  #writing: Promise<void> | null = null;
  #written: TrainEvent[] = [];
  #failure: { error: unknown } | null = null;

  constructor(run: RunFolder, due: (done: number) => boolean, minutes: number, parts: Parts) {
    this.#run = run;
    this.#parts = parts;
    this.#milliseconds = minutes * 60_000;
    this.due = due;
  }

  /** Whether the last save is so long ago that one is due by time. */
  get late(): boolean {
    return this.#milliseconds > 0 && !this.#writing && performance.now() - this.#last >= this.#milliseconds;
  }

  get #keeping(): Keeping {
    return { due: this.due, best: this.#parts.best() };
  }

  /** Saves, and gives the events of what is on disk now. */
  async save(done: number): Promise<TrainEvent[]> {
    const before = await this.settle();
    const begun = performance.now();
    const { kept, state, around } = this.#parts;
    const own = await state();
    const name = await around(() => saveCheckpoint(this.#run, done, kept, own, this.#keeping));
    this.#last = performance.now();
    return [...before, { type: "checkpoint", step: done, name, seconds: (this.#last - begun) / 1000 }];
  }

  /** Takes everything as it is now, and writes it while the run goes on. */
  async saveBeside(done: number): Promise<void> {
    const begun = performance.now();
    const { kept, state, around } = this.#parts;
    const own = await state();
    const keeping = this.#keeping; // of now: what becomes better meanwhile is not written yet
    const write = await around(() => snapshotCheckpoint(this.#run, done, kept, own, keeping));
    this.#last = performance.now();
    const seconds = (this.#last - begun) / 1000; // the rest is written beside the run
    this.#writing = write()
      .then((name) => void this.#written.push({ type: "checkpoint", step: done, name, seconds }))
      .catch((error: unknown) => {
        this.#failure = { error };
      })
      .finally(() => {
        this.#writing = null;
      });
  }

  /** Events of what was written beside the run meanwhile. Throws what went wrong with it. */
  news(): TrainEvent[] {
    if (this.#failure) throw this.#failure.error;
    return this.#written.splice(0);
  }

  /** Waits for what is being written, and gives its event. */
  async settle(): Promise<TrainEvent[]> {
    await this.#writing;
    return this.news();
  }

  /** Waits for what is being written, whatever becomes of it. */
  async close(): Promise<void> {
    await this.#writing;
  }
}
