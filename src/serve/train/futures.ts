/** Answers that clients come back for: each request gets an id at once, and its result by that id when there is one. */

import { deviceFailure } from "../../open/surviving.ts";
import { isUserError } from "../../runtime/errors.ts";
import { ApiError, tooMany } from "../errors.ts";

/** What came of a request. */
export type Outcome =
  | { json: object; error?: undefined }
  | { proto: Uint8Array; error?: undefined }
  | { error: string; category: "user" | "server" };

interface Future {
  /** Null while it is being worked on. */
  outcome: Outcome | null;
  /** When it was there, for how long it is kept. */
  at: number;
  readonly settled: Promise<void>;
  readonly stop: AbortController;
}

export interface FutureLimits {
  /** Requests being worked on at once. */
  mostPending: number;
  /** Bytes of results that wait to be fetched; beyond them the oldest go. */
  mostBytes: number;
}

/** Results that nobody fetched are dropped after so long. */
const KEPT_MS = 900_000;
/** Results that are kept, however small. */
const MOST_KEPT = 8192;

/** The results of a server's requests, by their ids. */
export class Futures {
  private readonly limits: FutureLimits;
  /** The oldest first. */
  private readonly all = new Map<string, Future>();
  private pending = 0;
  private bytes = 0;

  constructor(limits: FutureLimits) {
    this.limits = limits;
  }

  /** Whether a request of this id has begun, and its result is not gone: it was sent twice then. */
  has(id: string): boolean {
    return this.all.has(id);
  }

  /** Throws where there is no room for one more. */
  checkRoom(): void {
    if (this.pending >= this.limits.mostPending) {
      throw tooMany("The server works on as many requests as it can. Please try again later.");
    }
  }

  /** Takes a request in; `work` is called at once. What it throws is its result. */
  begin(id: string, work: (signal: AbortSignal) => Promise<Outcome>): void {
    this.checkRoom();
    const stop = new AbortController();
    this.pending += 1;
    const settled = work(stop.signal)
      .catch(failed)
      .then((outcome) => {
        this.pending -= 1;
        future.outcome = outcome;
        future.at = performance.now();
        this.bytes += sizeOf(outcome);
        this.all.delete(id);
        this.all.set(id, future);
        this.dropOld();
      });
    const future: Future = { outcome: null, at: 0, settled, stop };
    this.all.set(id, future);
  }

  /** A request's result, or null where it is not there within `ms`. Throws for an id that is not known any more. */
  async result(id: string, ms: number, signal: AbortSignal): Promise<Outcome | null> {
    const future = this.all.get(id);
    if (!future) {
      throw new ApiError(
        410,
        `There is no request ${id.slice(0, 200)} any more: its result was dropped, or the server is another one.`,
      );
    }
    if (!future.outcome && ms > 0) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      let wake = () => {};
      const enough = new Promise<void>((resolve) => {
        wake = resolve;
        timer = setTimeout(resolve, ms);
        signal.addEventListener("abort", wake, { once: true });
      });
      await Promise.race([future.settled, enough]);
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
    }
    return future.outcome;
  }

  /** Stops the work on a request that nobody waits for any more; one that is done, or unknown, stays as it is. */
  cancel(id: string): void {
    this.all.get(id)?.stop.abort(new ApiError(400, "The request was cancelled."));
  }

  /** Stops all, and resolves when nothing is being worked on. */
  async close(): Promise<void> {
    for (const { stop } of this.all.values()) stop.abort(new ApiError(503, "The server is shutting down."));
    await Promise.all([...this.all.values()].map(({ settled }) => settled));
  }

  private dropOld(): void {
    const now = performance.now();
    for (const [id, { outcome, at }] of this.all) {
      if (!outcome) continue;
      const over = this.bytes > this.limits.mostBytes || this.all.size - this.pending > MOST_KEPT;
      if (!over && now - at < KEPT_MS) break;
      this.all.delete(id);
      this.bytes -= sizeOf(outcome);
    }
  }
}

const sizeOf = (outcome: Outcome): number => ("proto" in outcome ? outcome.proto.length : 0);

function failed(error: unknown): Outcome {
  const message = error instanceof Error ? error.message : String(error);
  const failure = deviceFailure(error);
  if (failure) return { error: failure.message, category: "server" };
  const user = error instanceof ApiError ? error.status < 500 : isUserError(error);
  return { error: message, category: user ? "user" : "server" };
}
