/** The order of one model's requests: clients number them, and may send a later one first. */
import { ApiError, badField, tooMany } from "../errors.ts";
import type { Line } from "../line.ts";

/** Requests that may wait for one before them. */
const MOST_WAITING = 256;
/** A client sends a request again for so long; one that did not come by then never will. */
const GAP_MS = 120_000;

/** Runs numbered requests in the order of their numbers. */
export class Turns {
  private next: number;
  private readonly line: Line;
  private readonly waiting = new Map<number, () => void>();
  private readonly missed: (why: string) => void;
  private readonly gapMs: number;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param first the number of the first request
   * @param line what all models of a server wait in
   * @param missed hears of requests that never came
   */
  constructor(first: number, line: Line, missed: (why: string) => void, gapMs = GAP_MS) {
    this.next = first;
    this.line = line;
    this.missed = missed;
    this.gapMs = gapMs;
  }

  /** Throws for a number that cannot have its turn any more, or not yet. */
  check(seq: number): void {
    if (!Number.isSafeInteger(seq) || seq < 1)
      throw badField("seq_id", `seq_id must be a whole number of at least 1, not ${seq}`);
    if (seq < this.next || this.waiting.has(seq)) {
      throw new ApiError(400, `Request ${seq} of this model was there already; the next one is ${this.next}.`, {
        param: "seq_id",
      });
    }
    if (seq >= this.next + MOST_WAITING) {
      throw tooMany(`Request ${seq} of this model is too far ahead: the next one is ${this.next}.`);
    }
  }

  /** Whether nothing has to come before this request any more. */
  isNext(seq: number): boolean {
    return seq === this.next;
  }

  /** Does a request's work when all before it are done. `check` has let its number pass. */
  take<R>(seq: number, work: () => Promise<R>): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      this.waiting.set(seq, () => this.line.run(work).then(resolve, reject));
      this.advance();
    });
  }

  /** Runs what still waits, whatever is missing. */
  close(): void {
    clearTimeout(this.timer);
    for (const [seq, begin] of [...this.waiting].sort(([a], [b]) => a - b)) {
      this.waiting.delete(seq);
      begin();
    }
  }

  private advance(): void {
    for (let begin = this.waiting.get(this.next); begin; begin = this.waiting.get(this.next)) {
      this.waiting.delete(this.next);
      this.next += 1;
      begin();
    }
    clearTimeout(this.timer);
    if (this.waiting.size === 0) return;
    this.timer = setTimeout(() => {
      const first = Math.min(...this.waiting.keys());
      const which = first - 1 === this.next ? `request ${this.next}` : `requests ${this.next} to ${first - 1}`;
      this.missed(`${which} of this model never came`);
      this.next = first;
      this.advance();
    }, this.gapMs);
  }
}
