/** What a run does between two steps for those who watch it: it is held, it saves, it changes settings. */
import type { Change, Changes } from "./changes.ts";
import type { RunControls, Standing, Wish } from "./controls.ts";
import type { TrainEvent } from "./events.ts";
import type { RunOptions } from "./run-options.ts";
import type { Saver } from "./saver.ts";

/** What is told of a change. */
export const changed = (change: Change): TrainEvent => ({ type: "change", ...change });

/** Hears wishes for a run, and grants them. Whatever becomes of wishes, the run goes on. */
export class Desk {
  readonly #changes: Changes;
  readonly #run: RunOptions;
  #controls: RunControls | null;
  #wishes: Wish[] = [];
  #problem: string | null = null;
  #saved = -1;

  constructor(changes: Changes, run: RunOptions) {
    this.#changes = changes;
    this.#run = run;
    this.#controls = run.controls ?? null;
  }

  /** Says that the run is at work. */
  begin(step: number): Promise<void> {
    return this.#stand("running", step);
  }

  /** Makes the changes that are known of the next step. */
  upcoming(done: number): TrainEvent[] {
    return this.#changes.make(done + 1).map(changed);
  }

  /** Looks for wishes. True where something is to be done before the next step, with the numbers of this one read. */
  async look(done: number): Promise<boolean> {
    await this.#hear((controls) => controls.look());
    return this.#wishes.length > 0 || this.#changes.due(done + 1);
  }

  /** Whether the run was asked to stop. */
  get stops(): boolean {
    return this.#wishes.some(({ ask }) => ask === "stop");
  }

  /** Takes down that a checkpoint of this step is there. */
  saved(step: number): void {
    this.#saved = step;
  }

  /** Does what is asked for between a step and the next. True where the run is to stop then; what it has is saved. */
  async *between(done: number, saver: Saver | null): AsyncGenerator<TrainEvent, boolean> {
    const { signal } = this.#run;
    const note = (text: string): TrainEvent => ({ type: "note", step: done, text });
    yield* this.upcoming(done);
    let held = false;
    for (;;) {
      if (this.#problem !== null) {
        yield { type: "warning", step: done, text: this.#problem };
        this.#problem = null;
      }
      for (const wish of this.#wishes.splice(0)) {
        if (wish.ask === "set") yield await this.#change(done, wish);
        else if (wish.ask === "save") yield* this.#save(done, saver);
        else if (wish.ask === "stop") {
          yield* this.#save(done, saver);
          return true;
        } else if (held !== (wish.ask === "pause")) {
          held = !held;
          yield note(held ? `paused after step ${done}` : "goes on");
        } else continue;
        await this.#stand(held ? "paused" : "running", done);
      }
      if (!held || this.#controls === null) return false;
      if (signal?.aborted) {
        yield* this.#save(done, saver);
        return true;
      }
      await this.#hear((controls) => controls.wait(signal));
    }
  }

  async *#save(done: number, saver: Saver | null): AsyncGenerator<TrainEvent> {
    if (saver && this.#saved !== done) yield* await saver.save(done);
    this.#saved = done;
  }

  async #change(done: number, { setting, value }: Wish & { ask: "set" }): Promise<TrainEvent> {
    const refused = (why: string): TrainEvent => ({ type: "warning", step: done, text: `not changed: ${why}` });
    if (this.#run.learners) return refused("the learners of a run go by the same settings");
    if (this.#run.record === null) return refused("this run is a part of a larger one, whose settings hold throughout");
    try {
      return changed(await this.#changes.ask(done + 1, setting, value));
    } catch (error) {
      return refused((error as Error).message); // of files, too: a full disk ends no run because of a wish
    }
  }

  async #hear(how: (controls: RunControls) => Promise<readonly Wish[]>): Promise<void> {
    if (!this.#controls) return;
    try {
      this.#wishes.push(...(await how(this.#controls)));
    } catch (error) {
      this.#fail(error);
    }
  }

  async #stand(state: Standing["state"], step: number): Promise<void> {
    const fixed = this.#run.record === null || this.#run.learners !== undefined;
    try {
      await this.#controls?.stand({ state, step, settings: fixed ? {} : this.#changes.values });
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#controls = null;
    this.#problem = `nobody can control this run any more: ${(error as Error).message}`;
  }
}
