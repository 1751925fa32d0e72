/** The page's side of a session: hires a worker, and another one when it breaks off. */
import { UserError } from "../runtime/errors.ts";
import type { RunMode, RunSpec, SavedRun, SessionDevice } from "./contract.ts";
import { Line, newId, type WorkerLike } from "./line.ts";
import type { CallName, ToPage } from "./messages.ts";
import { PageRun, type Run } from "./run.ts";

/** How a session keeps its runs. */
export interface SessionOptions {
  /**
   * Saves runs in a folder of the origin's private file system ("webrlhf-runs" by default), so that they outlive a reload and a
   * crash; false saves none.
   */
  autosave?: { folder?: string } | false;
}

/** A worker's programs and queries, from the page. */
export interface Session {
  /**
   * The device that the worker trains on.
   * @throws in words why there is none
   */
  device(): Promise<SessionDevice>;
  /** Begins a run. One that comes while another one has the worker waits until that is over. */
  run<Input = unknown, E = unknown>(spec: RunSpec<Input>, mode?: RunMode): Run<E>;
  /** The runs that are not over, in the order in which they were begun: while there are several, the first has the worker. */
  readonly runs: readonly Run[];
  /** Asks a query of the worker: between two events of the run at work, while it is paused, or where none is. */
  query(name: string, argument?: unknown, options?: { signal?: AbortSignal }): Promise<unknown>;
  /** What a run would take, as the worker's `estimates` say. */
  estimate(spec: RunSpec): Promise<unknown>;
  /** Runs that were saved before the page was loaded, and did not end; the newest first. */
  unfinished(): Promise<SavedRun[]>;
  /** Goes on with a saved run: tells its events from the first, then goes on where it stopped. */
  goOn<E = unknown>(id: string, mode?: RunMode): Run<E>;
  /** Deletes a saved run. */
  forget(id: string): Promise<void>;
  /**
   * Goes on from a snapshot, as a run of its own.
   * @throws UserError where the file is none, is damaged, or is too large
   */
  restore<E = unknown>(snapshot: Blob, mode?: RunMode): Promise<Run<E>>;
  /** Saves what is under way, ends the worker, and with it the runs on this page; saved ones can go on later. */
  close(): Promise<void>;
}

/** Crashes of the worker without an event between that a run survives. */
const MOST_CRASHES = 3;
/** Milliseconds that saving may take when a session is closed. */
const LONGEST_CLOSE = 3000;

/**
 * Makes a session with a worker that calls `serveSession`, e.g.
 * `createSession(() => new Worker(new URL("./train.worker.ts", import.meta.url), { type: "module" }))`.
 * @param hire starts a worker: when it is first needed, and in the place of one that broke off
 */
export function createSession(hire: () => WorkerLike, options: SessionOptions = {}): Session {
  return new PageSession(hire, options);
}

class PageSession implements Session {
  /** Runs of which the worker has more to say. */
  private readonly known = new Map<string, PageRun<unknown>>();
  private line: Line | null = null;
  private closed = false;
  /** A worker has answered: one that ends before it does is a mishap then, and no mistake. */
  private met = false;
  private readonly hire: () => WorkerLike;
  private readonly folder: string | null;
  private readonly leaving = new AbortController();

  constructor(hire: () => WorkerLike, { autosave }: SessionOptions) {
    this.hire = hire;
    this.folder = autosave === false ? null : (autosave?.folder ?? "webrlhf-runs");
    const { document } = globalThis as { document?: Document };
    const { signal } = this.leaving;
    const save = () => this.line?.send({ type: "save" });
    document?.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && save(), { signal });
    if (document) globalThis.addEventListener("pagehide", save, { signal });
  }

  get runs(): readonly Run[] {
    return [...this.known.values()].filter((run) => !run.over);
  }

  device(): Promise<SessionDevice> {
    return this.call("device", null) as Promise<SessionDevice>;
  }

  run<Input, E>(spec: RunSpec<Input>, mode: RunMode = {}): Run<E> {
    return this.begin(newId(), spec, mode);
  }

  query(name: string, argument?: unknown, options: { signal?: AbortSignal } = {}): Promise<unknown> {
    return this.call("query", { name, argument }, options);
  }

  estimate(spec: RunSpec): Promise<unknown> {
    return this.call("estimate", spec);
  }

  unfinished(): Promise<SavedRun[]> {
    return this.call("unfinished", null) as Promise<SavedRun[]>;
  }

  goOn<E>(id: string, mode: RunMode = {}): Run<E> {
    const here = this.known.get(id);
    if (here && !here.over) return here as unknown as Run<E>;
    return this.begin(id, null, mode);
  }

  async forget(id: string): Promise<void> {
    await this.call("forget", id);
  }

  async restore<E>(blob: Blob, mode: RunMode = {}): Promise<Run<E>> {
    const id = newId();
    const spec = (await this.call("restore", { id, blob })) as RunSpec;
    const run = this.begin<E>(id, null, mode) as PageRun<E>;
    run.spec = spec;
    return run;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.leaving.abort();
    const { line } = this;
    if (line?.met) {
      const late = new Promise<void>((resolve) => setTimeout(resolve, LONGEST_CLOSE));
      await Promise.race([line.call("close", null).catch(() => {}), late]);
    }
    this.line = null;
    line?.dismiss();
    for (const run of this.known.values()) run.close();
  }

  private begin<E>(id: string, spec: RunSpec | null, mode: RunMode): Run<E> {
    const link = {
      send: (message: Parameters<Line["send"]>[0]) => this.line?.send(message),
      call: (name: CallName, argument: unknown, of: { run: string; signal?: AbortSignal }) =>
        this.call(name, argument, of),
    };
    const run = new PageRun<unknown>(id, spec, mode, link);
    this.known.set(id, run);
    try {
      this.connect();
      run.begin(false);
    } catch (error) {
      run.fail(error as Error);
    }
    return run as unknown as Run<E>;
  }

  private async call(
    name: CallName,
    argument: unknown,
    of: { run?: string; signal?: AbortSignal } = {},
  ): Promise<unknown> {
    return this.connect().call(name, argument, of);
  }

  /** The worker; a new one where there is none. */
  private connect(): Line {
    if (this.closed) throw new UserError("this session is closed: make another one");
    this.line ??= this.newLine();
    return this.line;
  }

  private newLine(): Line {
    const line: Line = new Line(
      this.hire(),
      this.folder,
      (message) => this.hear(message as Extract<ToPage, { run: string }>),
      (why) => this.lost(line, why),
    );
    return line;
  }

  private hear(message: Extract<ToPage, { run: string }>): void {
    const run = this.known.get(message.run);
    run?.hear(message);
    if (run?.ended) this.known.delete(run.id); // whoever started it has it
  }

  /** The worker is gone: its runs go on in another one, unless it never came or ends again and again. */
  private lost(line: Line, why: string): void {
    if (this.line !== line) return;
    this.line = null;
    this.met ||= line.met;
    const live = [...this.known.values()].filter((run) => !run.ended);
    const message = `The training program broke off (${why}). The run goes on from its last state in a new one.`;
    const goOn = live.filter((run) => run.crash({ type: "rehired", message }));
    const hopeless = goOn.filter(({ crashes }) => !this.met || crashes > MOST_CRASHES);
    const words = this.met
      ? `the training program broke off ${MOST_CRASHES + 1} times without an event between: ${why}`
      : `the training program did not load: ${why}`;
    for (const run of hopeless) run.fail(new UserError(words));
    for (const { id } of live.filter((run) => run.ended)) this.known.delete(id);
    const again = goOn.filter((run) => !hopeless.includes(run));
    const dropped = this.met ? live.filter((run) => run.state === "cancelled") : [];
    if (again.length + dropped.length === 0) return;
    try {
      this.connect();
      for (const { id } of dropped) this.forget(id).catch(() => {});
      for (const run of again) run.begin(true);
    } catch (error) {
      for (const run of again) run.fail(error as Error);
    }
  }
}
