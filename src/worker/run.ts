/** A run as its page has it. */
import type { Granularity, Notice, Progress, RunEvent, RunMode, RunSpec, RunState } from "./contract.ts";
import { received } from "./crossing.ts";
import type { ToPage, ToWorker } from "./messages.ts";
import { isOver, next, type OrderName, START, type Standing } from "./standing.ts";

/** A run on the page's side. Iterating it gives all of its events from the first, and waits for more until it is over. */
export interface Run<E = unknown> extends AsyncIterable<RunEvent<E>> {
  /** Names the run also after a reload. */
  readonly id: string;
  readonly state: RunState;
  /** The events told so far. */
  readonly events: readonly RunEvent<E>[];
  /** What befell it, in order: a lost device, a lost worker, a state that cannot be saved. */
  readonly notices: readonly Notice[];
  /** How far it is with longer work that tells no events; null once it tells some. */
  readonly progress: Progress | null;
  /** Why it broke; null where it did not. Iterating such a run throws it. */
  readonly error: Error | null;
  /** What is run; null until it is read, of a run that goes on. */
  readonly spec: RunSpec | null;
  /** Hears of every change: of the state, of a notice, of an event. Same as `subscribe` for one listener. */
  onchange: ((run: Run<E>) => void) | null;
  /**
   * Calls a listener now and after every change.
   * @returns ends that
   */
  subscribe(listener: (run: Run<E>) => void): () => void;
  /** Stops at the next event. */
  pause(): void;
  resume(): void;
  /** Goes on to the end of one more token, phase, rollout or step ("step" by default), then pauses. */
  step(granularity?: Granularity): void;
  /** Drops the run. Resolves when its program has ended and what it saved is deleted. */
  cancel(): Promise<void>;
  /** Asks a query of the worker about this run; also when it is done, as long as the worker holds it. */
  inspect(query: string, argument?: unknown, options?: { signal?: AbortSignal }): Promise<unknown>;
  /**
   * The run as a zip file: what was run, all events, all its files. `Session.restore` goes on from it.
   * @param besides texts for people and other programs, by their paths in the zip file: they are not read again
   */
  snapshot(besides?: Readonly<Record<string, string>>): Promise<Blob>;
  /** Bytes of a file that the run wrote, or null. */
  read(path: string): Promise<Uint8Array | null>;
}

/** What a run needs of its session. */
export interface RunLink {
  send(message: ToWorker): void;
  call(
    name: "query" | "read" | "snapshot",
    argument: unknown,
    of: { run: string; signal?: AbortSignal },
  ): Promise<unknown>;
}

export class PageRun<E> implements Run<E> {
  readonly id: string;
  readonly events: RunEvent<E>[] = [];
  readonly notices: Notice[] = [];
  progress: Progress | null = null;
  error: Error | null = null;
  spec: RunSpec | null;
  onchange: ((run: Run<E>) => void) | null = null;
  /** Crashes of the worker since its last event. */
  crashes = 0;
  private standing: Standing = START;
  /** The last order that was given. */
  private order = 0;
  /** The worker has said that it is over, or is gone. */
  private settled = false;
  /** How it is to go on. */
  private mode: RunMode;
  private readonly listeners = new Set<(run: Run<E>) => void>();
  private readonly link: RunLink;

  constructor(id: string, spec: RunSpec | null, mode: RunMode, link: RunLink) {
    this.id = id;
    this.spec = spec;
    this.mode = mode;
    this.link = link;
  }

  get state(): RunState {
    return this.standing.state;
  }

  get over(): boolean {
    return isOver(this.standing);
  }

  /** It is over, and the worker knows. */
  get ended(): boolean {
    return this.over && this.settled;
  }

  /** Has the worker begin it, or go on with it after another worker broke off. */
  begin(again: boolean): void {
    const { id, spec, mode, order: number } = this;
    const told = this.events.map(({ event }) => event);
    const paused = this.state === "paused";
    this.link.send({ type: "start", run: id, spec, ...mode, told, paused, again, number });
  }

  pause(): void {
    this.tell("pause");
  }

  resume(): void {
    this.tell("resume");
  }

  step(granularity?: Granularity): void {
    this.tell("step", granularity);
  }

  async cancel(): Promise<void> {
    this.tell("cancel");
    while (!this.settled) await this.change();
  }

  inspect(name: string, argument?: unknown, options: { signal?: AbortSignal } = {}): Promise<unknown> {
    return this.link.call("query", { name, argument }, { run: this.id, ...options });
  }

  snapshot(besides: Readonly<Record<string, string>> = {}): Promise<Blob> {
    return this.link.call("snapshot", besides, { run: this.id }) as Promise<Blob>;
  }

  read(path: string): Promise<Uint8Array | null> {
    return this.link.call("read", path, { run: this.id }) as Promise<Uint8Array | null>;
  }

  subscribe(listener: (run: Run<E>) => void): () => void {
    this.listeners.add(listener);
    listener(this);
    return () => this.listeners.delete(listener);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<RunEvent<E>> {
    for (let seq = 0; ; seq++) {
      while (seq >= this.events.length) {
        if (this.error) throw this.error;
        if (this.over) return;
        await this.change();
      }
      yield this.events[seq];
    }
  }

  /** Takes what the worker says of this run. */
  hear(message: Extract<ToPage, { run: string }>): void {
    if (message.type === "state") {
      const { number, state, begun, error } = message;
      if (number < this.order && !isOver(message)) return; // it has not heard the last order yet
      this.settled ||= isOver(message);
      if (!this.over) {
        this.standing = { state, begun };
        if (error) this.error = received(error);
      }
    } else if (this.over) return;
    else if (message.type === "event") {
      if (message.seq !== this.events.length) return;
      this.crashes = 0;
      this.progress = null;
      this.events.push({ runId: this.id, seq: message.seq, event: message.event as E });
    } else if (message.type === "spec") this.spec = message.spec;
    else if (message.type === "progress") this.progress = message.progress;
    else this.notices.push(message.notice);
    this.changed();
  }

  /** The worker is gone. Returns whether the run is to go on in another one. */
  crash(notice: Notice): boolean {
    this.crashes += 1;
    this.standing = next(this.standing, "crash");
    this.progress = null;
    if (this.over) this.settled = true;
    else this.notices.push(notice);
    this.changed();
    return !this.over;
  }

  /** There is no worker to go on in. */
  fail(error: Error): void {
    this.standing = next(this.standing, "fail");
    if (this.state === "broken") this.error = error;
    this.settled = true;
    this.changed();
  }

  /** Ends quietly: the page leaves. */
  close(): void {
    if (!this.over) this.standing = { state: "cancelled", begun: false };
    this.settled = true;
    this.changed();
  }

  private tell(order: OrderName, granularity?: Granularity): void {
    if (this.over && order !== "cancel") return;
    this.order += 1;
    this.standing = next(this.standing, order);
    if (order === "resume") this.mode = {};
    if (order === "step") this.mode = { mode: "step", ...(granularity && { granularity }) };
    this.link.send({ type: "order", run: this.id, number: this.order, order, granularity });
    this.changed();
  }

  private changed(): void {
    this.onchange?.(this);
    for (const listener of [...this.listeners]) listener(this);
    this.wake();
  }

  private wake = () => {};
  private waiting: Promise<void> | null = null;

  /** Resolves at the next change. */
  private change(): Promise<void> {
    this.waiting ??= new Promise<void>((resolve) => {
      this.wake = () => {
        this.waiting = null;
        this.wake = () => {};
        resolve();
      };
    });
    return this.waiting;
  }
}
