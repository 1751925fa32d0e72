/**
 * Has people label pairs: puts them where labellers take them, looks at what comes, and takes each label once. What was taken is the
 * caller's to keep; the server's streams may be lost at any time, and what is missing is asked for again.
 */
import { UserError } from "../runtime/errors.ts";
import { MAX_PAYLOAD } from "./configuration.ts";
import type { ClusterConnection } from "./connection.ts";
import { decodeVote, encodeLabelJob, type LabelJob, type Vote } from "./label-messages.ts";
import { LABEL_LEASE_MS } from "./labeller.ts";
import { ofResult, votesOf } from "./names.ts";
import { News } from "./news.ts";
import { Ownership } from "./owner.ts";
import { RunQueue } from "./queue.ts";
import { Reach } from "./reach.ts";
import { ensureStreams, type Streams, streamsOf } from "./streams.ts";
import { Refused } from "./wire.ts";

/** A label that was taken, with who gave it. */
export interface TakenVote extends Vote {
  /** Whoever came by another link, or with another random name, is somebody else. */
  who: string;
}

/** A label that is wanted. */
export interface LabelTask {
  job: LabelJob;
  /** Its number among all. */
  number: number;
}

/** How labels are collected. */
export interface LabelDeskOptions {
  /** The run's name: letters, digits, "-" and "_". */
  run: string;
  /** Whoever collects, for others' messages. */
  who: string;
  say: (line: string) => void;
  /** People who may label by one link; the labels of more are not taken. Default 100. */
  mostLabellers?: number;
  /** How long is waited for another desk that held the run's name a moment ago, milliseconds. Default: until it must be gone. */
  waitsMs?: number;
}

/** What to collect. */
export interface Collecting {
  tasks: readonly LabelTask[];
  /** Labels that were taken before, with their pairs. */
  before: Iterable<{ pair: number; who: string }>;
  /** Keeps a label; it counts when the promise has resolved. */
  keep: (task: LabelTask, vote: TakenVote) => Promise<void>;
  /** Ends the collecting: what lies there is taken back. */
  signal: AbortSignal;
}

/** What became of what labellers sent. */
export interface LabelCounts {
  taken: number;
  /** Labels of pairs that had theirs, and of somebody who had labelled the pair. */
  double: number;
  refused: number;
  askedAgain: number;
}

/** Pairs that lie where labellers take them, at once. */
const AT_ONCE = 512;
const SWEEP_MS = 3000;

interface Pending {
  task: LabelTask;
  key: string;
  bytes: Uint8Array;
  attempt: number;
  askedAt: number;
  /** When it was first seen that somebody has it. */
  withSomebody: number | null;
}

/** Collects labels in a cluster, as the only one of a run. */
export class LabelDesk {
  readonly counts: LabelCounts = { taken: 0, double: 0, refused: 0, askedAgain: 0 };
  private readonly connection: ClusterConnection;
  private readonly options: LabelDeskOptions;
  private readonly owner: Ownership;
  private readonly streams: Streams;
  private readonly queue: RunQueue;
  private readonly reach: Reach;
  private readonly news = new News();
  private readonly pending = new Map<string, Pending>();
  /** Who has labelled a pair. */
  private readonly labelled = new Map<number, Set<string>>();
  /** People by the link that they came by. */
  private readonly people = new Map<string, Set<string>>();
  private readonly told = new Set<string>();
  private keep: Collecting["keep"] = async () => {};
  private accepting: Promise<void> = Promise.resolve();
  private failure: Error | null = null;
  private sweeping = false;

  private constructor(
    connection: ClusterConnection,
    options: LabelDeskOptions,
    owner: Ownership,
    streams: Streams,
    queue: RunQueue,
  ) {
    this.connection = connection;
    this.options = options;
    this.owner = owner;
    this.streams = streams;
    this.queue = queue;
    this.reach = new Reach(options.say);
    connection.nc.subscribe(votesOf(options.run), {
      callback: (error, message) => {
        if (error) this.stop(refusedHere(error));
        else this.hear(message.subject, message.data);
      },
    });
  }

  /** Joins a cluster. Throws UserError where somebody collects for this run already, or the credential does not let labels in. */
  static async open(connection: ClusterConnection, options: LabelDeskOptions): Promise<LabelDesk> {
    const { run, who, say, waitsMs } = options;
    const taken = (_: string, other: string) =>
      new UserError(`labels for this file are collected already, by ${other}: stop that one first`);
    const owner = await Ownership.take(connection.nc, run, who, say, waitsMs, taken).catch((error) => {
      throw isRefusal(error) ? refusedHere(error) : error;
    });
    try {
      const streams = await streamsOf(connection.nc);
      await ensureStreams(streams, "label");
      const desk = new LabelDesk(connection, options, owner, streams, new RunQueue(streams, "label", run));
      await connection.nc.flush();
      return desk;
    } catch (error) {
      await owner.release();
      throw error;
    }
  }

  /** People whose labels were taken, in this run's whole time. */
  get labellers(): number {
    return [...this.people.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** How many pairs lie before somebody; null where the server does not say. */
  async onTables(): Promise<number | null> {
    const untaken = await this.queue.untaken().catch(() => null);
    return untaken === null || !Number.isFinite(untaken) ? null : Math.max(0, this.pending.size - untaken);
  }

  /**
   * Collects until every task has its label, or the signal fires.
   * @throws UserError where a pair is too large, or the run has been taken by somebody else
   */
  async collect({ tasks, before, keep, signal }: Collecting): Promise<void> {
    this.keep = keep;
    for (const { pair, who } of before) this.remember(pair, who);
    const waiting = await this.written(tasks);
    const there = await this.queue.unfinished().catch(() => new Set<string>());
    const sweeper = setInterval(() => void this.sweep(), SWEEP_MS);
    try {
      for (let first = true; ; first = false) {
        while (this.pending.size < AT_ONCE && waiting.length > 0 && !signal.aborted) {
          const one = waiting.shift() as Pending;
          this.pending.set(one.key, one);
          // What was said while nobody collected, and what still lies there.
          if (first) await this.reach.do(() => this.lookUp(one));
          if (this.isPending(one) && !there.has(one.key)) await this.ask(one);
          one.askedAt = Date.now();
        }
        if (this.failure) throw this.failure;
        if (this.owner.lost) throw this.owner.lost;
        if (this.connection.nc.isClosed()) {
          throw new UserError("the server has ended the connection: the trainer's credential is no longer valid");
        }
        if (signal.aborted || this.pending.size + waiting.length === 0) return;
        await this.news.wait(500, signal);
      }
    } finally {
      clearInterval(sweeper);
      this.pending.clear();
      await this.queue.withdraw().catch(() => {});
      await this.accepting;
    }
  }

  /** Leaves. */
  async close(): Promise<void> {
    await this.owner.release();
    await this.connection.nc.close();
  }

  private async written(tasks: readonly LabelTask[]): Promise<Pending[]> {
    const most = this.connection.nc.info?.max_payload ?? MAX_PAYLOAD;
    const all: Pending[] = [];
    for (const task of tasks) {
      const { key, bytes } = await encodeLabelJob(this.options.run, task.job);
      if (bytes.length > most) {
        throw new UserError(`pair ${task.job.pair + 1} has ${bytes.length} bytes, and the server takes ${most}`);
      }
      all.push({ task, key, bytes, attempt: 0, askedAt: 0, withSomebody: null });
    }
    return all;
  }

  private isPending = (one: Pending): boolean => this.pending.get(one.key) === one;

  private async ask(one: Pending): Promise<void> {
    one.askedAt = Date.now();
    one.withSomebody = null;
    await this.reach.do(() => this.queue.ask(one.key, one.attempt, one.bytes));
    if (!this.isPending(one)) void this.queue.withdraw(one.key).catch(() => {}); // it has come meanwhile
  }

  private askAgain(one: Pending): Promise<void> {
    one.attempt += 1;
    this.counts.askedAgain += 1;
    return this.ask(one);
  }

  private hear(subject: string, bytes: Uint8Array): void {
    const from = ofResult(subject);
    if (!from || from.run !== this.options.run) return;
    const one = this.pending.get(from.key);
    if (!one) this.counts.double += 1;
    else void this.inTurn(() => this.accept(one, from.worker, bytes));
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    this.accepting = this.accepting.then(work).catch((error) => this.stop(error as Error));
    return this.accepting;
  }

  /** Takes a label, or says why it is none. A pair that has no label then stays where it is: the sweep finds what is missing. */
  private async accept(one: Pending, member: string, bytes: Uint8Array): Promise<void> {
    if (!this.isPending(one)) {
      this.counts.double += 1;
      return;
    }
    const vote = this.read(one, member, bytes);
    if (!vote) return;
    const { pair } = one.task.job;
    const who = `${member}/${vote.labeller}`;
    if (this.labelled.get(pair)?.has(who)) {
      this.counts.double += 1; // others are to say it, too
      return;
    }
    const { mostLabellers = 100 } = this.options;
    const known = this.people.get(member);
    if (known && !known.has(who) && known.size >= mostLabellers) {
      this.counts.refused += 1;
      const line = `more than ${mostLabellers} people label by the link of ${member}: the labels of more are not taken`;
      this.tell(`${member} people`, line);
      return;
    }
    await this.keep(one.task, { ...vote, who });
    this.remember(pair, who);
    this.pending.delete(one.key);
    this.counts.taken += 1;
    // Where the labeller's own word to the server was lost, nobody should label it in vain.
    void this.queue.withdraw(one.key).catch(() => {});
    this.news.tell();
  }

  private read(one: Pending, member: string, bytes: Uint8Array): Vote | null {
    try {
      return decodeVote(bytes, one.key);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.counts.refused += 1;
      const line = `${member} sent ${error.message}: it is not taken; revoke the link where labels do not come`;
      this.tell(`${member} refused`, line);
      return null;
    }
  }

  private remember(pair: number, who: string): void {
    const of = this.labelled.get(pair) ?? new Set();
    this.labelled.set(pair, of.add(who));
    const [member] = who.split("/");
    this.people.set(member, (this.people.get(member) ?? new Set()).add(who));
  }

  /** Says something once. */
  private tell(what: string, line: string): void {
    if (!this.told.has(what)) this.options.say(line);
    this.told.add(what);
  }

  private stop(error: Error): void {
    this.failure ??= error;
    this.news.tell();
  }

  /** Looks at what is missing, and asks for it again. */
  private async sweep(): Promise<void> {
    if (this.pending.size === 0 || this.sweeping || this.connection.nc.isClosed()) return;
    this.sweeping = true;
    await this.reach.do(async () => {
      await ensureStreams(this.streams, "label");
      const there = await this.queue.unfinished();
      const allTaken = (await this.queue.untaken()) === 0;
      for (const one of [...this.pending.values()]) {
        if (Date.now() - one.askedAt < SWEEP_MS / 2) continue;
        if (there.has(one.key)) {
          if (allTaken) one.withSomebody ??= Date.now();
          if (allTaken && Date.now() - (one.withSomebody ?? Date.now()) > LABEL_LEASE_MS) await this.takeBack(one);
          continue;
        }
        const before = one.attempt;
        await this.lookUp(one);
        if (this.isPending(one) && one.attempt === before) await this.askAgain(one);
      }
    });
    this.sweeping = false;
  }

  /** Gives a pair to somebody else that a page has had for ten minutes, whatever it says of its person. */
  private async takeBack(one: Pending): Promise<void> {
    await this.queue.withdraw(one.key);
    if (this.isPending(one)) await this.askAgain(one);
  }

  /** Reads what was said of a pair out of the stream. */
  private async lookUp(one: Pending): Promise<void> {
    for await (const { member, bytes } of this.queue.results(one.key)) {
      await this.inTurn(() => this.accept(one, member, bytes));
      if (!this.isPending(one)) return;
    }
  }
}

const isRefusal = ({ message, cause }: Error): boolean =>
  /permission/i.test(`${message} ${cause instanceof Error ? cause.message : ""}`);

const refusedHere = (error: Error): UserError =>
  new UserError(
    "the credential does not let labels in: take the trainer.creds of a cluster that this version of webrlhf has set up " +
      `(${error.message})`,
    { cause: error },
  );
