/** Runs of a worker: one at a time, each held at its gate, each with its own files. */
import { device, openDevice } from "../gpu/device.ts";
import { Patience } from "../open/index.ts";
import { filesOf } from "../open/surroundings.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import type { Notice, Program, ProgramSource, Progress, RunContext, RunSpec } from "./contract.ts";
import { sent } from "./crossing.ts";
import { endsOf, Told } from "./events.ts";
import { Gate } from "./gate.ts";
import type { StartMessage, ToPage, ToWorker } from "./messages.ts";
import { FOLDER, type RunFiles, runFiles } from "./run-files.ts";
import { isOver, next, START, type Standing } from "./standing.ts";
import { Turn, type Turns } from "./turns.ts";

/** A run before it was broken off. */
export interface Before {
  spec: RunSpec;
  events: readonly unknown[];
  contents: ReadonlyMap<string, Uint8Array>;
  /** It came to its end. */
  done: boolean;
}

/** A run as the worker has it. */
export interface LiveRun {
  readonly id: string;
  readonly spec: RunSpec;
  readonly told: unknown[];
  readonly files: RunFiles;
  readonly context: RunContext;
  standing: Standing;
}

/** Runs of which nothing is left but this. */
interface Entry {
  readonly id: string;
  standing: Standing;
  /** The last order that was heard. */
  order: number;
  readonly gate: Gate;
  readonly abort: AbortController;
  run: LiveRun | null;
}

/** What keeps runs beyond the worker. */
export interface Keeping {
  /** Takes a run for this worker alone; with what it was, where it was saved. */
  take(id: string, wanted: boolean): Promise<Before | null>;
  /** Saves a run: at once, or some seconds later at most. */
  save(run: LiveRun, now: boolean): void;
  /** Deletes what is saved of a run that was cancelled. */
  drop(id: string): void;
  /** Gives a run back, and forgets it where it is over for good. */
  leave(id: string, forget: boolean): Promise<void>;
}

/** What a runner is made of. */
export interface RunnerParts {
  programs: Readonly<Record<string, ProgramSource>>;
  turns: Turns;
  post(message: ToPage): void;
  keeping: Keeping;
}

/** Finished runs whose files are held for questions. */
const HELD = 8;

export class Runner {
  private readonly entries = new Map<string, Entry>();
  /** When every run commanded so far has ended. */
  private ended: Promise<void> = Promise.resolve();
  /** What programs read besides their own files. Default: the disk, or URLs. */
  files: Files | undefined;
  private readonly parts: RunnerParts;
  private current: Entry | null = null;

  constructor(parts: RunnerParts) {
    this.parts = parts;
  }

  /** A run whose files are held: the one of an id, or the one at work. */
  find(id: string | undefined): LiveRun | null {
    if (id === undefined) return this.current?.run ?? null;
    const run = this.entries.get(id)?.run;
    if (!run) throw new UserError(`the run ${id} is not held by this worker: it was not begun, or was let go`);
    return run;
  }

  /** All runs that were begun and did not end. */
  live(): LiveRun[] {
    return [...this.entries.values()].flatMap(({ run, standing }) => (run && !isOver(standing) ? [run] : []));
  }

  start(message: StartMessage): void {
    const { run: id, mode, granularity, paused, number } = message;
    const gate = new Gate(paused ? "shut" : mode === "step" ? (granularity ?? "step") : "open");
    const standing: Standing = paused ? next(START, "pause") : START;
    const entry: Entry = { id, standing, order: number, gate, abort: new AbortController(), run: null };
    this.entries.set(id, entry);
    this.say(entry);
    this.ended = this.ended.then(() => this.drive(entry, message));
  }

  order({ run: id, number, order, granularity }: Extract<ToWorker, { type: "order" }>): void {
    const entry = this.entries.get(id);
    if (!entry) return;
    entry.order = number;
    if (order === "cancel" && isOver(entry.standing)) this.entries.delete(id); // nobody asks for its files any more
    entry.standing = next(entry.standing, order);
    if (order === "pause") entry.gate.shut();
    else entry.gate.open(order === "step" ? (granularity ?? "step") : "open");
    if (order === "cancel") {
      entry.abort.abort();
      this.parts.keeping.drop(id);
    }
    this.say(entry);
  }

  private async drive(entry: Entry, message: StartMessage): Promise<void> {
    const { id, abort } = entry;
    const { keeping, turns } = this.parts;
    const turn = new Turn(turns);
    let fact: "end" | "fail" = "end";
    let error: unknown;
    this.current = entry;
    try {
      if (!abort.signal.aborted) await entry.gate.pass(undefined, (opened) => opened);
      if (!abort.signal.aborted) await this.begin(entry, message, turn); // else it was dropped before it began
    } catch (thrown) {
      [fact, error] = ["fail", thrown];
    }
    turn.leave();
    this.current = null;
    const { state } = next(entry.standing, fact);
    if (state === "broken" && entry.run) keeping.save(entry.run, true);
    await keeping.leave(id, state !== "broken");
    this.move(entry, fact, error);
    if (entry.standing.state !== "done") this.entries.delete(id);
    const done = [...this.entries.values()].filter(({ standing }) => standing.state === "done");
    for (const old of done.slice(0, -HELD)) this.entries.delete(old.id);
  }

  private async begin(entry: Entry, message: StartMessage, turn: Turn): Promise<void> {
    this.move(entry, "begin");
    const run = await this.open(entry, message, turn);
    if (!run || entry.abort.signal.aborted) return;
    this.parts.keeping.save(run, true);
    await turn.take();
    await this.surviving(entry, run, turn);
  }

  /** Makes a run's files, with what it wrote before. Null where it had come to its end already. */
  private async open(entry: Entry, message: StartMessage, turn: Turn): Promise<LiveRun | null> {
    const { id, abort } = entry;
    const { keeping, post } = this.parts;
    const before = await keeping.take(id, message.again || message.spec === null);
    const spec = message.spec ?? before?.spec;
    if (!spec) throw new UserError(`there is no saved run ${id}: it has ended, or was deleted`);
    if (message.spec === null) post({ type: "spec", run: id, spec });
    const events = before?.events ?? [];
    // Both begin with the same events: what the page heard may not have been saved, what was saved may not have arrived.
    const told = [...message.told, ...events.slice(message.told.length)];
    for (const [seq, event] of told.entries())
      if (seq >= message.told.length) post({ type: "event", run: id, seq, event });
    const files = runFiles(this.files ?? (await filesOf({})), before?.contents);
    const context: RunContext = {
      runId: id,
      files: files.files,
      folder: FOLDER,
      signal: abort.signal,
      resumed: before !== null || told.length > 0,
      told,
      progress: throttled((progress) => post({ type: "progress", run: id, progress })),
      rest: () => turn.rest(),
    };
    entry.run = { id, spec, told, files, context, standing: entry.standing };
    return before?.done ? null : entry.run;
  }

  /** A run that goes on from its last state when its device is lost; nothing is told twice. */
  private async surviving(entry: Entry, run: LiveRun, turn: Turn): Promise<void> {
    const { id, spec, context } = run;
    const program = await this.program(spec.program);
    if (program.device !== false) await openDevice();
    const patience = program.device === false ? null : new Patience(undefined, "start the run again");
    const told = new Told(program.key?.bind(program));
    for (const event of run.told) told.isNew(event);
    for (let resumed = context.resumed; ; resumed = true) {
      told.restart();
      try {
        await this.iterate(entry, run, program.run(spec.input, { ...context, resumed }), {
          program,
          told,
          turn,
          patience,
        });
        return;
      } catch (error) {
        if (entry.abort.signal.aborted || !patience) throw error;
        const what = await patience.renew(error, () => {});
        this.notice(
          id,
          "renewed",
          `The graphics card stopped (${what}). The run goes on from its last state on a new device.`,
        );
      }
    }
  }

  private async iterate(
    entry: Entry,
    run: LiveRun,
    events: AsyncIterable<unknown>,
    around: { program: Program; told: Told; turn: Turn; patience: Patience | null },
  ): Promise<void> {
    const { program, told, turn, patience } = around;
    const { id } = run;
    let gpu = patience && device();
    for await (const event of events) {
      if (entry.abort.signal.aborted) return; // its finally blocks free what it holds
      if (gpu && gpu !== device()) {
        gpu = device();
        this.notice(id, "renewed", "The graphics card stopped. The run goes on from its last state on a new device.");
      }
      if (!told.isNew(event)) continue;
      this.parts.post({ type: "event", run: id, seq: run.told.length, event });
      run.told.push(event);
      const ended = program.ends ? program.ends(event) : endsOf(event);
      if (ended === "step") patience?.progress();
      this.parts.keeping.save(run, isCheckpoint(event));
      await turn.rest();
      await entry.gate.pass(ended, async (opened) => {
        this.move(entry, "hold");
        this.parts.keeping.save(run, true);
        turn.leave();
        await opened;
        await turn.take();
      });
      if (entry.abort.signal.aborted) return;
    }
  }

  private async program(name: string): Promise<Program> {
    const { programs } = this.parts;
    if (!Object.hasOwn(programs, name)) {
      throw new UserError(`there is no program "${name}" in this worker, only ${Object.keys(programs).join(", ")}`);
    }
    const source = programs[name];
    return typeof source === "function" ? source() : source;
  }

  private move(entry: Entry, what: "begin" | "hold" | "end" | "fail", error?: unknown): void {
    entry.standing = next(entry.standing, what);
    this.say(entry, error);
  }

  private say(entry: Entry, error?: unknown): void {
    const { id, order, standing } = entry;
    if (entry.run) entry.run.standing = standing;
    const why = standing.state === "broken" ? { error: sent(error) } : {};
    this.parts.post({ type: "state", run: id, number: order, ...standing, ...why });
  }

  private notice(run: string, type: Notice["type"], message: string): void {
    this.parts.post({ type: "notice", run, notice: { type, message } });
  }
}

/** Of words that come in quick succession the first and the last are heard, and one in a while between. */
function throttled(hear: (progress: Progress) => void): RunContext["progress"] {
  let last = 0;
  return (what, done, total) => {
    const now = performance.now();
    if (done < total && now - last < 100) return;
    last = now;
    hear({ what, done, total });
  };
}

const isCheckpoint = (event: unknown): boolean => {
  if (typeof event !== "object" || event === null) return false;
  const { type, event: inner } = event as { type?: unknown; event?: unknown };
  return type === "checkpoint" || isCheckpoint(inner);
};
