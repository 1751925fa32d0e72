/**
 * A run's post in a cluster: its name, which nobody else has, its queue, and how answers to it are looked at. Who asks workers for
 * results and who asks people for labels have it alike.
 */
import { UserError } from "../runtime/errors.ts";
import type { ClusterConnection } from "./connection.ts";
import { ofResult, type QueueName } from "./names.ts";
import { News } from "./news.ts";
import { Ownership, type Taken } from "./owner.ts";
import { RunQueue } from "./queue.ts";
import { Reach } from "./reach.ts";
import { ensureStreams, type Streams, streamsOf } from "./streams.ts";

/** Where a run asks. */
export interface RunPostOptions {
  /** The run's name: letters, digits, "-" and "_". */
  run: string;
  /** Whoever asks, for others' messages. */
  who: string;
  say: (line: string) => void;
  /** How long is waited for somebody that held the name a moment ago, milliseconds. Default: until it must be gone. */
  waitsMs?: number;
}

/** Something that was asked for. */
export interface AskedFor {
  key: string;
  bytes: Uint8Array;
  attempt: number;
  /** When, in milliseconds. */
  askedAt: number;
}

/** What the queue has of what is missing. */
export interface Seen {
  /** The server has lost its streams. */
  lost: boolean;
  /** Keys of what is not acknowledged. */
  there: ReadonlySet<string>;
  /** Nothing waits: somebody has all of it. */
  allTaken: boolean;
}

/** What is missing is looked for so often. */
export const SWEEP_MS = 3000;

/** Asks for what a run needs, and looks at what comes, one after the other. */
export class RunPost {
  readonly connection: ClusterConnection;
  readonly queue: RunQueue;
  readonly reach: Reach;
  readonly news = new News();
  /** The run is being left. */
  left = false;
  private readonly kind: QueueName;
  private readonly run: string;
  private readonly owner: Ownership;
  private readonly streams: Streams;
  private failure: Error | null = null;
  private turns: Promise<void> = Promise.resolve();
  private sweeping = false;

  private constructor(
    connection: ClusterConnection,
    kind: QueueName,
    { run, say }: RunPostOptions,
    owner: Ownership,
    streams: Streams,
  ) {
    this.connection = connection;
    this.kind = kind;
    this.run = run;
    this.owner = owner;
    this.streams = streams;
    this.queue = new RunQueue(streams, kind, run);
    this.reach = new Reach(say);
  }

  /**
   * Takes a run's name, and makes what is missing at the server.
   * @param taken what is thrown where somebody else has the name
   */
  static async take(
    connection: ClusterConnection,
    kind: QueueName,
    options: RunPostOptions,
    taken?: Taken,
  ): Promise<RunPost> {
    const { run, who, say, waitsMs } = options;
    const owner = await Ownership.take(connection.nc, run, who, say, waitsMs, taken);
    try {
      const streams = await streamsOf(connection.nc);
      await ensureStreams(streams, kind);
      return new RunPost(connection, kind, options, owner, streams);
    } catch (error) {
      await owner.release();
      throw error;
    }
  }

  /**
   * Hears what is sent to the run.
   * @param subject of its results, or of what people say
   */
  async listen(
    subject: string,
    heard: (key: string, member: string, bytes: Uint8Array) => void,
    refused: (error: Error) => void = () => {},
  ): Promise<void> {
    const { nc } = this.connection;
    // Not by a consumer of the stream: it would be gone with the stream. What is missed here is read from the stream.
    nc.subscribe(subject, {
      callback: (error, message) => {
        const from = error ? null : ofResult(message.subject);
        if (error) refused(error);
        else if (from?.run === this.run) heard(from.key, from.worker, message.data);
      },
    });
    await nc.flush().catch(async (error) => {
      await this.owner.release();
      throw error;
    });
  }

  /** Throws where nothing can come any more. */
  refuseEnded(): void {
    this.refuseFailed();
    if (this.owner.lost) throw this.owner.lost;
    if (this.left) throw new Error("the run has left its cluster");
    if (this.connection.nc.isClosed()) {
      throw new UserError("the server has ended the connection: the trainer's credential is no longer valid");
    }
  }

  /** Throws what has stopped the run. */
  refuseFailed(): void {
    if (this.failure) throw this.failure;
  }

  /** Nothing can come any more. */
  stop(error: Error): void {
    this.failure ??= error;
    this.news.tell();
  }

  /** What comes is looked at one after the other. */
  inTurn(work: () => Promise<void>): Promise<void> {
    this.turns = this.turns.then(work).catch((error) => this.stop(error as Error));
    return this.turns;
  }

  /** Resolves when all that has come was looked at. */
  get settled(): Promise<void> {
    return this.turns;
  }

  /** Puts something where it is taken. */
  async ask(one: AskedFor): Promise<void> {
    one.askedAt = Date.now();
    await this.reach.do(() => this.queue.ask(one.key, one.attempt, one.bytes));
  }

  /**
   * Looks at what is missing, unless that is being done.
   * @param each looks at one of those that were not asked for just now
   * @param before is done first
   */
  async sweep<T extends AskedFor>(
    missing: ReadonlyMap<string, T>,
    each: (one: T, seen: Seen) => Promise<void>,
    before: (lost: boolean) => Promise<void> = async () => {},
  ): Promise<void> {
    if (missing.size === 0 || this.sweeping || this.connection.nc.isClosed()) return;
    this.sweeping = true;
    await this.reach.do(async () => {
      const lost = await ensureStreams(this.streams, this.kind);
      await before(lost);
      const there = await this.queue.unfinished();
      const allTaken = (await this.queue.untaken()) === 0;
      for (const one of [...missing.values()]) {
        if (Date.now() - one.askedAt >= SWEEP_MS / 2) await each(one, { lost, there, allTaken });
      }
    });
    this.sweeping = false;
  }

  /**
   * Reads what has come for something from the stream.
   * @param accept looks at one
   * @param over says that no more need be looked at
   */
  async lookUp(
    { key }: AskedFor,
    accept: (member: string, bytes: Uint8Array) => Promise<void>,
    over: () => boolean,
  ): Promise<void> {
    for await (const { member, bytes } of this.queue.results(key)) {
      await this.inTurn(() => accept(member, bytes));
      if (over()) return;
    }
  }

  /** Gives the name back, and leaves the server. */
  async leave(): Promise<void> {
    await this.owner.release();
    await this.connection.nc.close();
  }
}
