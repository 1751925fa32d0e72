/**
 * Has people label pairs: puts them where labellers take them, looks at what comes, and takes each label once. What was taken is the
 * caller's to keep; the server's streams may be lost at any time, and what is missing is asked for again.
 */
import { UserError } from "../runtime/errors.ts";
import { MAX_PAYLOAD } from "./configuration.ts";
import type { ClusterConnection } from "./connection.ts";
import { decodeVote, encodeLabelJob, type LabelJob, type Vote } from "./label-messages.ts";
import { LABEL_LEASE_MS } from "./labeller.ts";
import { votesOf } from "./names.ts";
import { type AskedFor, RunPost, type RunPostOptions, type Seen, SWEEP_MS } from "./run-post.ts";
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
export interface LabelDeskOptions extends RunPostOptions {
  /** People who may label by one link; the labels of more are not taken. Default 100. */
  mostLabellers?: number;
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

interface Pending extends AskedFor {
  task: LabelTask;
  /** When it was first seen that somebody has it. */
  withSomebody: number | null;
}

/** Collects labels in a cluster, as the only one of a run. */
export class LabelDesk {
  readonly counts: LabelCounts = { taken: 0, double: 0, refused: 0, askedAgain: 0 };
  private readonly options: LabelDeskOptions;
  private readonly post: RunPost;
  private readonly pending = new Map<string, Pending>();
  /** Who has labelled a pair. */
  private readonly labelled = new Map<number, Set<string>>();
  /** People by the link that they came by. */
  private readonly people = new Map<string, Set<string>>();
  private readonly told = new Set<string>();
  private keep: Collecting["keep"] = async () => {};

  private constructor(options: LabelDeskOptions, post: RunPost) {
    this.options = options;
    this.post = post;
  }

  /** Joins a cluster. Throws UserError where somebody collects for this run already, or the credential does not let labels in. */
  static async open(connection: ClusterConnection, options: LabelDeskOptions): Promise<LabelDesk> {
    const taken = (_: string, other: string) =>
      new UserError(`labels for this file are collected already, by ${other}: stop that one first`);
    const post = await RunPost.take(connection, "label", options, taken).catch((error) => {
      throw isRefusal(error) ? refusedHere(error) : error;
    });
    const desk = new LabelDesk(options, post);
    await post.listen(votesOf(options.run), desk.hear, (error) => post.stop(refusedHere(error)));
    return desk;
  }

  /** People whose labels were taken, in this run's whole time. */
  get labellers(): number {
    return [...this.people.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** How many pairs lie before somebody; null where the server does not say. */
  async onTables(): Promise<number | null> {
    const untaken = await this.post.queue.untaken().catch(() => null);
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
    const there = await this.post.queue.unfinished().catch(() => new Set<string>());
    const sweeper = setInterval(() => void this.post.sweep(this.pending, this.look), SWEEP_MS);
    try {
      for (let first = true; ; first = false) {
        while (this.pending.size < AT_ONCE && waiting.length > 0 && !signal.aborted) {
          const one = waiting.shift() as Pending;
          this.pending.set(one.key, one);
          // What was said while nobody collected, and what still lies there.
          if (first) await this.post.reach.do(() => this.lookUp(one));
          if (this.isPending(one) && !there.has(one.key)) await this.ask(one);
          one.askedAt = Date.now();
        }
        this.post.refuseEnded();
        if (signal.aborted || this.pending.size + waiting.length === 0) return;
        await this.post.news.wait(500, signal);
      }
    } finally {
      clearInterval(sweeper);
      this.pending.clear();
      await this.post.queue.withdraw().catch(() => {});
      await this.post.settled;
    }
  }

  /** Leaves. */
  async close(): Promise<void> {
    await this.post.leave();
  }

  private async written(tasks: readonly LabelTask[]): Promise<Pending[]> {
    const most = this.post.connection.nc.info?.max_payload ?? MAX_PAYLOAD;
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
    one.withSomebody = null;
    await this.post.ask(one);
    if (!this.isPending(one)) void this.post.queue.withdraw(one.key).catch(() => {}); // it has come meanwhile
  }

  private askAgain(one: Pending): Promise<void> {
    one.attempt += 1;
    this.counts.askedAgain += 1;
    return this.ask(one);
  }

  private hear = (key: string, member: string, bytes: Uint8Array): void => {
    const one = this.pending.get(key);
    if (!one) this.counts.double += 1;
    else void this.post.inTurn(() => this.accept(one, member, bytes));
  };

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
    void this.post.queue.withdraw(one.key).catch(() => {});
    this.post.news.tell();
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

  /** Looks at what is missing, and asks for it again. */
  private look = async (one: Pending, { there, allTaken }: Seen): Promise<void> => {
    if (there.has(one.key)) {
      if (allTaken) one.withSomebody ??= Date.now();
      if (allTaken && Date.now() - (one.withSomebody ?? Date.now()) > LABEL_LEASE_MS) await this.takeBack(one);
      return;
    }
    const before = one.attempt;
    await this.lookUp(one);
    if (this.isPending(one) && one.attempt === before) await this.askAgain(one);
  };

  /** Gives a pair to somebody else that a page has had for ten minutes, whatever it says of its person. */
  private async takeBack(one: Pending): Promise<void> {
    await this.post.queue.withdraw(one.key);
    if (this.isPending(one)) await this.askAgain(one);
  }

  /** Reads what was said of a pair out of the stream. */
  private lookUp(one: Pending): Promise<void> {
    const over = () => !this.isPending(one);
    return this.post.lookUp(one, (member, bytes) => this.accept(one, member, bytes), over);
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
