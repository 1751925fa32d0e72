/** The page's line to one worker: calls that are answered, and word of the worker's end. */
import { UserError } from "../runtime/errors.ts";
import { received } from "./crossing.ts";
import type { CallName, ToPage, ToWorker } from "./messages.ts";

/** A worker, or a port to one, as a session needs it. */
export interface WorkerLike {
  postMessage(message: unknown): void;
  // biome-ignore lint/suspicious/noExplicitAny: workers and ports name their events by other types
  addEventListener(type: string, listener: (event: any) => void): void;
  terminate?(): void;
  close?(): void;
  start?(): void;
}

interface Waiting {
  done(): void;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Calls are not comlink's: those of a worker that ends would wait for ever there, and cannot be taken back. */
export class Line {
  private readonly worker: WorkerLike;
  private readonly waiting = new Map<number, Waiting>();
  private readonly watching = new AbortController();
  private calls = 0;
  private ended = false;
  /** The worker has said something. */
  met = false;
  private readonly heard: (message: ToPage) => void;
  private readonly died: (why: string) => void;

  /**
   * @param heard hears what is no answer
   * @param died is told once that the worker is gone, unless it was dismissed
   */
  constructor(
    worker: WorkerLike,
    folder: string | null,
    heard: (message: ToPage) => void,
    died: (why: string) => void,
  ) {
    this.worker = worker;
    this.heard = heard;
    this.died = died;
    worker.addEventListener("message", ({ data }) => this.hear(data));
    worker.addEventListener("error", (event) => {
      event?.preventDefault?.(); // the run says so
      this.end(event?.message || "it did not load");
    });
    worker.addEventListener("messageerror", () => this.end("it said what cannot be read"));
    worker.addEventListener("close", () => this.end("it was ended"));
    worker.start?.();
    const locks = globalThis.navigator?.locks;
    const alive = locks ? `webrlhf worker ${newId()}` : null;
    // Relative paths are the page's: a worker's own address is an accident of how the page was built.
    const base = globalThis.document?.baseURI ?? null;
    this.send({ type: "hello", alive, folder, base });
    this.alive = alive;
  }

  private readonly alive: string | null;

  send(message: ToWorker): void {
    if (!this.ended) this.worker.postMessage(message);
  }

  /** Calls the worker. Rejects with its error, or when it ends. */
  call(
    name: CallName,
    argument: unknown,
    { run, signal }: { run?: string; signal?: AbortSignal } = {},
  ): Promise<unknown> {
    const id = this.calls++;
    return new Promise((resolve, reject) => {
      if (this.ended) return reject(new UserError("the training program has ended"));
      signal?.throwIfAborted();
      const abort = () => {
        if (this.waiting.delete(id)) reject(signal?.reason);
        this.send({ type: "abort", id });
      };
      signal?.addEventListener("abort", abort, { once: true });
      const done = () => signal?.removeEventListener("abort", abort);
      this.waiting.set(id, { resolve, reject, done });
      this.send({ type: "call", id, name, argument, run });
    });
  }

  /** Ends the worker. */
  dismiss(): void {
    this.finish("it was ended");
  }

  private hear(message: ToPage): void {
    if (this.ended) return;
    this.met = true;
    if (message.type === "hello") this.watch();
    else if (message.type === "answer") this.take(message.id)?.resolve(message.value);
    else if (message.type === "failure") this.take(message.id)?.reject(received(message.error));
    else this.heard(message);
  }

  private take(id: number): Waiting | undefined {
    const found = this.waiting.get(id);
    this.waiting.delete(id);
    found?.done();
    return found;
  }

  /** Hears of the worker's end by the lock that it holds. */
  private watch(): void {
    if (this.alive === null) return;
    const { signal } = this.watching;
    globalThis.navigator.locks.request(this.alive, { signal }, () => this.end("it was ended")).catch(() => {});
  }

  private end(why: string): void {
    if (this.ended) return;
    this.finish(why);
    this.died(why);
  }

  private finish(why: string): void {
    if (this.ended) return;
    this.ended = true;
    this.watching.abort();
    if (this.worker.terminate) this.worker.terminate();
    else this.worker.close?.();
    const words = `the training program broke off: ${why}`;
    for (const id of [...this.waiting.keys()]) this.take(id)?.reject(new UserError(words));
  }
}

/** A name that nothing else has. `randomUUID` is missing on insecure pages. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
