/** Events from the middle of a step: the work tells, and goes on when whoever iterates asks for the next event. */
import { type Clock, HELD } from "./clock.ts";
import type { TrainEvent } from "./events.ts";

/** Says something in the middle of a step. The promise resolves when the next event is asked for, so that a run can be held. */
export type Tell = (event: TrainEvent) => Promise<void>;

interface Word {
  event: TrainEvent;
  heard(): void;
  left(reason: Error): void;
}

/** Between the work of a step, which is a promise, and the generator of the run's events. */
export class Telling {
  readonly #words: Word[] = [];
  #wake: () => void = () => {};
  #closed = false;
  #held = 0;

  /** Seconds for which work waited to be heard. */
  get held(): number {
    return this.#held;
  }

  readonly tell: Tell = (event) =>
    new Promise((heard, left) => {
      if (this.#closed) return left(gone());
      this.#words.push({ event, heard, left });
      this.#wake();
    });

  /** `tell` for a step that is measured: what it waits to be heard is none of its time. */
  on(clock: Clock): Tell {
    return (event) => clock.during(HELD, () => this.tell(event));
  }

  /** The events that are told while something is at work, then its result. */
  async *during<T>(work: Promise<T>): AsyncGenerator<TrainEvent, T> {
    let over = false;
    const ended = () => {
      over = true;
      this.#wake();
    };
    work.then(ended, ended);
    for (;;) {
      while (!over && this.#words.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#words.length === 0) return work;
      const told = performance.now();
      yield this.#words[0].event;
      this.#held += (performance.now() - told) / 1000;
      this.#words.shift()?.heard();
    }
  }

  /** Nobody listens any more: whatever waits to be heard, or tells something later, fails. */
  close(): void {
    this.#closed = true;
    for (const { left } of this.#words.splice(0)) left(gone());
  }
}

const gone = () => new Error("the run was left in the middle of a step");
