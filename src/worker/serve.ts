/** The worker's side of a session: programs and questions, behind one port. */
import { closeDevice, openDevice } from "../gpu/device.ts";
import { deviceFailure } from "../gpu/failures.ts";
import { filesOf } from "../open/surroundings.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { opfsFiles } from "../runtime/opfs.ts";
import { servedFiles, withoutStartPage } from "../runtime/served.ts";
import type { ProgramSource, QuerySource, RunContext, RunSpec, SessionDevice } from "./contract.ts";
import { sent } from "./crossing.ts";
import { Keeper } from "./keeper.ts";
import type { ToPage, ToWorker } from "./messages.ts";
import { Runner } from "./runner.ts";
import { fromZip, toZip } from "./snapshot.ts";
import { Turns } from "./turns.ts";

/** Says what a run with an input would take. It has the device to itself meanwhile, as a query has; `files` are what runs read. */
// biome-ignore lint/suspicious/noExplicitAny: estimates for all inputs stand in one record
export type Estimate = (input: any, around: { files: Files }) => Promise<unknown>;

/** Programs, queries and places of a worker. */
export interface ServeOptions {
  /** What can be run, by name. */
  programs: Readonly<Record<string, ProgramSource>>;
  /** What can be asked, by name. */
  queries?: Readonly<Record<string, QuerySource>>;
  /** What a run of a program would take, by the program's name. */
  estimates?: Readonly<Record<string, Estimate>>;
  /** What programs read besides their own files. Default: URLs, relative ones to the worker; in Node and Deno the disk. */
  files?: Files;
  /** Where runs are saved. Default: the origin's private file system. */
  storage?: () => Promise<Files>;
  /** Called when the device was lost and another one opened while no run was at work: what was on the old one is gone. */
  renewed?: () => void;
}

/** The side of a port or of a worker's global scope that a session is served on. */
export interface ServeScope {
  postMessage(message: unknown): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  /** Ports wait for it. */
  start?(): void;
}

/**
 * Serves sessions to the page that made this worker, e.g. as the whole of a worker's module:
 * `serveSession({ programs: { train: trainProgram } })`. The page's side is `createSession`.
 * @param scope the worker's global scope, or a port
 */
export function serveSession(options: ServeOptions, scope: ServeScope = globalThis as unknown as ServeScope): void {
  const server = new Server(options, scope);
  scope.addEventListener("message", ({ data }) => server.hear(data as ToWorker));
  scope.start?.();
}

class Server {
  private readonly turns = new Turns();
  private readonly calls = new Map<number, AbortController>();
  private readonly keeper: Keeper;
  private readonly runner: Runner;
  private readonly options: ServeOptions;
  private readonly post: (message: ToPage) => void;

  constructor(options: ServeOptions, scope: ServeScope) {
    this.options = options;
    this.post = (message) => scope.postMessage(message);
    this.keeper = new Keeper(options.storage ?? (() => opfsFiles(".")), (run, notice) =>
      this.post({ type: "notice", run, notice }),
    );
    const { programs, files } = options;
    this.runner = new Runner({ programs, turns: this.turns, keeping: this.keeper, post: this.post });
    this.runner.files = files;
  }

  hear(message: ToWorker): void {
    if (message.type === "hello") void this.greet(message);
    else if (message.type === "call") void this.answer(message);
    else if (message.type === "abort") this.calls.get(message.id)?.abort();
    else if (message.type === "start") this.runner.start(message);
    else if (message.type === "order") this.runner.order(message);
    else if (message.type === "save") void this.keeper.saveAll(this.runner.live());
  }

  /** The page knows by a lock whether this worker lives: of one that was ended nothing else tells. */
  private async greet({ alive, folder, base }: ToWorker & { type: "hello" }): Promise<void> {
    if (base !== null) this.runner.files ??= served(base);
    this.keeper.saveIn(folder);
    const locks = globalThis.navigator?.locks;
    if (alive !== null && locks) {
      await new Promise<void>((resolve) => {
        locks
          .request(alive, () => {
            resolve();
            return new Promise(() => {});
          })
          .catch(() => resolve());
      });
    }
    this.post({ type: "hello" });
  }

  private async answer({ id, name, argument, run }: ToWorker & { type: "call" }): Promise<void> {
    const abort = new AbortController();
    this.calls.set(id, abort);
    try {
      const value = await this.carryOut(name, argument, run, abort.signal);
      abort.signal.throwIfAborted();
      this.post({ type: "answer", id, value });
    } catch (error) {
      this.post({ type: "failure", id, error: sent(error) });
    } finally {
      this.calls.delete(id);
    }
  }

  private async carryOut(
    name: (ToWorker & { type: "call" })["name"],
    argument: unknown,
    run: string | undefined,
    signal: AbortSignal,
  ): Promise<unknown> {
    switch (name) {
      case "device":
        return described();
      case "query":
        return this.ask(argument as Question, run, signal);
      case "estimate":
        return this.estimate(argument as RunSpec);
      case "unfinished":
        return this.keeper.unfinished();
      case "forget":
        return this.keeper.forget(argument as string);
      case "snapshot":
        return this.snapshot(run, argument as Record<string, string>);
      case "restore":
        return this.restore(argument as { id: string; blob: Blob });
      case "read":
        return this.runner.find(run)?.context.files.read(argument as string);
      case "close":
        await this.keeper.saveAll(this.runner.live());
        closeDevice();
    }
  }

  private async snapshot(id: string | undefined, besides: Readonly<Record<string, string>>): Promise<Blob> {
    const run = this.runner.find(id);
    if (!run) throw new UserError("no run was begun");
    const { spec, told, files, standing } = run;
    return toZip({ spec, events: [...told], contents: files.contents(), done: standing.state === "done" }, besides);
  }

  private async restore({ id, blob }: { id: string; blob: Blob }): Promise<RunSpec> {
    const before = await fromZip(blob);
    const { programs } = this.options;
    if (!Object.hasOwn(programs, before.spec.program)) {
      const known = Object.keys(programs).join(", ");
      throw new UserError(`this is a run of the program "${before.spec.program}", and there are only ${known}`);
    }
    this.keeper.give(id, before);
    return before.spec;
  }

  private async estimate({ program, input }: RunSpec): Promise<unknown> {
    const { estimates = {} } = this.options;
    if (!Object.hasOwn(estimates, program)) throw new UserError(`nothing says what a run of "${program}" takes`);
    const files = this.runner.files ?? (await filesOf({}));
    return this.turns.during(() => estimates[program](input, { files }));
  }

  private async ask({ name, argument }: Question, id: string | undefined, signal: AbortSignal): Promise<unknown> {
    const { queries = {} } = this.options;
    if (!Object.hasOwn(queries, name)) {
      throw new UserError(`there is no query "${name}" in this worker, only ${Object.keys(queries).join(", ")}`);
    }
    const query = queries[name];
    const run: RunContext | null = this.runner.find(id)?.context ?? null;
    if (typeof query !== "function") return query.answer(argument, { run, signal });
    return this.turns.during(async () => {
      signal.throwIfAborted();
      try {
        return await query(argument, { run, signal });
      } catch (error) {
        // A run at work meets the loss itself, and goes on from its last state.
        if (!deviceFailure(error) || this.runner.live().length > 0) throw error;
        await openDevice();
        this.options.renewed?.();
        return query(argument, { run, signal });
      }
    });
  }
}

interface Question {
  name: string;
  argument: unknown;
}

/** Files of web servers, by addresses relative to a page. */
const served = (base: string): Files =>
  servedFiles(withoutStartPage((path, init) => fetch(new URL(String(path), base), init)));

async function described(): Promise<SessionDevice> {
  const { name, kind, f16, maxBuffer } = await openDevice();
  return { name, kind, f16, maxBuffer };
}
