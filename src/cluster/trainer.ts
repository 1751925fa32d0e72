/**
 * A trainer's side of a cluster. Its disk is the truth, and the server soft state: a job is a pure function of its message, its result
 * is accepted once, and what is missing is asked for again. Acknowledgements prove nothing; only accepted results count.
 */
import type { Asking, Counts, DoneBy, Doubtful, Here, Iteration, Pending, TrainerOptions } from "./asked.ts";
import { isGivenUp, refuseGivenUp } from "./asked.ts";
import { BlobWriter } from "./blob-writer.ts";
import { Book } from "./book.ts";
import { nameOf } from "./company.ts";
import { MAX_PAYLOAD } from "./configuration.ts";
import type { ClusterConnection } from "./connection.ts";
import { type AnyJob, checkSize, type JobKind } from "./kinds.ts";
import { MirrorFolder } from "./mirror.ts";
import { resultsOf } from "./names.ts";
import { Pace } from "./pace.ts";
import type { PublishedPolicy } from "./policy.ts";
import { Reception } from "./reception.ts";
import { ResultRecord } from "./record.ts";
import { RunPost, type Seen, SWEEP_MS } from "./run-post.ts";
import { Trust } from "./trust.ts";
import { PublishedWeights } from "./weights.ts";
import { type ReadResult, Refused } from "./wire.ts";

/** Asks workers for results of one kind of jobs, and does what nobody takes. */
export class ClusterTrainer<J extends AnyJob, R, C extends object> {
  readonly counts: Counts = { by: new Map(), double: 0, refused: 0, caught: 0, askedAgain: 0 };
  private readonly options: TrainerOptions;
  private readonly post: RunPost;
  private readonly weights: PublishedWeights;
  private readonly kind: JobKind<J, R, never, C>;
  private readonly record: ResultRecord | null;
  private readonly book = new Book<J, R, C>();
  private readonly reception: Reception;
  private readonly trust: Trust<Pending<J, R, C>>;
  private readonly timer: ReturnType<typeof setInterval>;
  /** What is computed here. */
  private working: Promise<void> = Promise.resolve();
  private looksBack: number;
  private readonly pace = new Pace();

  private constructor(kind: JobKind<J, R, never, C>, options: TrainerOptions, post: RunPost) {
    this.kind = kind;
    this.looksBack = options.looksBack ?? 1;
    this.options = options;
    this.post = post;
    this.reception = new Reception(post.connection, kind.name, options, (member) => this.trust.ignores(member));
    this.trust = new Trust(options.check ?? 0);
    const { mirror } = options;
    const folder = mirror ? new MirrorFolder(mirror.files, mirror.folder) : null;
    this.weights = new PublishedWeights(new BlobWriter(post.connection.nc), post.reach, folder);
    this.record = options.kept && new ResultRecord(options.kept.files, options.kept.folder);
    this.timer = setInterval(() => void this.sweep(), SWEEP_MS);
  }

  /** Joins a cluster as the one trainer of a run. Throws UserError where the run has one. */
  static async open<J extends AnyJob, R, C extends object>(
    connection: ClusterConnection,
    kind: JobKind<J, R, never, C>,
    options: TrainerOptions,
  ): Promise<ClusterTrainer<J, R, C>> {
    const post = await RunPost.take(connection, kind.name, options);
    const trainer = new ClusterTrainer(kind, options, post);
    await post.listen(resultsOf(options.run), trainer.hear);
    return trainer;
  }

  /** Puts a policy where workers find it; those that nobody draws with any more go. */
  publish(policy: PublishedPolicy): Promise<void> {
    const others = this.book.policies();
    this.reception.published(others.size > 0);
    return this.weights.publish(policy, others);
  }

  /**
   * Asks for an iteration's jobs; one that is under way becomes longer by them.
   * @throws UserError for a job that is too large, or whose result may be
   */
  async request(
    number: number,
    jobs: readonly J[],
    { policy, ...rest }: DoneBy & C,
    asking: Asking<R> = {},
  ): Promise<void> {
    const context = rest as unknown as C;
    const { mirror } = this.options;
    const ref = { ...policy.ref, ...(mirror && { mirror: mirror.url }) };
    const { of, first } = this.book.longer(number, jobs.length, policy, asking);
    const asked: Pending<J, R, C>[] = [];
    for (const [i, job] of jobs.entries()) {
      const { key, bytes } = await this.kind.encode(this.options.run, { policy: ref, job });
      checkSize(this.kind, job, bytes.length, this.post.connection.nc.info?.max_payload ?? MAX_PAYLOAD);
      const pending = { key, job, context, of, place: first + i, bytes, attempt: 0, askedAt: 0 };
      const one: Pending<J, R, C> = { ...pending, errors: new Set(), copied: false, here: false };
      const read = await this.record?.get(of.kept, key, (kept) => this.decoded(kept, one));
      if (read) await this.fill(of, one.place, read);
      else asked.push(one);
    }
    if (!this.book.isOpen(of)) return; // given up meanwhile
    for (const one of asked) this.book.pending.set(one.key, one);
    // What came while there was no trainer.
    if (this.looksBack-- > 0) for (const one of asked) await this.post.reach.do(() => this.lookUp(one));
    await Promise.all(asked.filter((one) => this.book.isPending(one)).map((one) => this.ask(one)));
    await this.record?.trim(of.kept);
  }

  private decoded = (bytes: Uint8Array, { key, job, context }: Pending<J, R, C>): ReadResult<R> =>
    this.kind.decodeResult(bytes, { ...context, key, job });

  /**
   * The results of an iteration's jobs, in their order.
   * @param here draws what no worker takes; null leaves all of it to workers
   * @throws UserError where workers say that a job cannot be done, or another trainer has taken the run
   */
  async take(number: number, here: Here<J, R> | null, signal?: AbortSignal): Promise<R[]> {
    const [first] = await this.takeFirst([number], here, signal);
    return first.results;
  }

  /**
   * The iterations of several of which all is there, as soon as that is so of one; otherwise as `take`.
   * @param numbers may become others meanwhile
   */
  async takeFirst(
    numbers: Iterable<number>,
    here: Here<J, R> | null,
    signal?: AbortSignal,
  ): Promise<Pick<Iteration<R>, "number" | "results">[]> {
    let done: Iteration<R>[] = [];
    const waits = this.reception.serving.waits();
    try {
      for (;;) {
        const of = new Set(Array.from(numbers, this.book.of));
        done = [...of].filter(({ left }) => left === 0);
        if (done.length > 0) break;
        done = [...of]; // what fails gives up all of them
        this.post.refuseEnded();
        signal?.throwIfAborted();
        this.reception.look();
        const doubtful = here && this.book.doubtful.find(({ one }) => of.has(one.of));
        const own = here && !doubtful && (await this.claim(of));
        if (!here) this.book.missing(of).forEach(refuseGivenUp);
        if (doubtful) await this.atWork(this.check(doubtful, here));
        else if (own) await this.atWork(this.drawHere(own, here));
        else await this.post.news.wait(200, signal);
      }
      this.post.refuseFailed();
    } finally {
      waits();
      for (const iteration of done) this.book.forget(iteration);
    }
    // Only now: a worker that is caught takes back what it gave.
    if (this.trust.checks) {
      for (const { results, arrived } of done) for (const result of results) await arrived?.(result);
    }
    return done;
  }

  /** Waits for an iteration's results no more, and lets nobody begin its jobs. */
  async giveUp(number: number): Promise<void> {
    const iteration = this.book.of(number);
    const missing = this.book.missing(new Set([iteration]));
    this.book.forget(iteration);
    await this.post.reach.do(async () => {
      for (const { key } of missing) await this.post.queue.withdraw(key);
    });
  }

  /** How many workers are served. */
  get workers(): number {
    return this.reception.serving.served;
  }

  /** Takes the jobs back that are left, and leaves. Results on the disk stay: whose they are removes them. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.post.left = true;
    this.book.pending.clear();
    this.post.news.tell();
    await this.working.catch(() => {}); // who waits for it hears of it
    await this.post.queue.withdraw().catch(() => {});
    await this.post.settled;
    await this.post.leave();
  }

  private atWork(work: Promise<void>): Promise<void> {
    this.working = work;
    return work;
  }

  private ask = (one: Pending<J, R, C>): Promise<void> => this.post.ask(one);

  private askAgain(one: Pending<J, R, C>): Promise<void> {
    one.attempt += 1;
    this.counts.askedAgain += 1;
    return this.ask(one);
  }

  private hear = (key: string, member: string, bytes: Uint8Array): void => {
    const own = this.book.pending.get(key);
    if (own) void this.post.inTurn(() => this.accept(own, member, bytes));
    else this.counts.double += 1;
  };

  /** Takes a result, or says why it is none. */
  private async accept(one: Pending<J, R, C>, from: string, bytes: Uint8Array): Promise<void> {
    if (!this.book.isPending(one) || this.book.isDoubtful(one)) {
      this.counts.double += 1;
      return;
    }
    if (this.trust.ignores(from)) return; // the sweep asks again
    try {
      const read = this.decoded(bytes, one);
      if ("error" in read) return await this.fail(one, from, `${read.worker}: ${read.error}`);
      this.pace.add(read.seconds);
      const tokens = this.kind.tokens(one.job, read.result);
      this.reception.serving.took(nameOf({ member: from, worker: read.worker }), {
        ...one,
        ...read,
        tokens,
        version: one.job.version,
      });
      if (this.trust.isDue(from, read.worker)) {
        one.here = true;
        this.book.doubtful.push({ one, from, at: this.trust.now(), bytes, result: read.result });
        this.post.news.tell();
        return;
      }
      await this.keep(one, read.result, bytes, from);
      this.trust.took(from, one);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.counts.refused += 1;
      this.trust.refused(from);
      const last = this.trust.ignores(from) ? `; nothing that ${from} sends is looked at any more: revoke it` : "";
      this.options.say(`${from} sent ${error.message}: the job is asked for again${last}`);
      await this.askAgain(one);
    }
  }

  /** Draws a job again that a worker has drawn. */
  private async check(doubtful: Doubtful<J, R, C>, here: Here<J, R>): Promise<void> {
    const { one, from, at, bytes, result } = doubtful;
    const wrong = await here.check(one.job, one.of.policy, result);
    await this.post.inTurn(async () => {
      if (!this.book.doubtful.includes(doubtful)) return;
      if (wrong !== null) return this.caught(from, wrong);
      this.book.doubtful = this.book.doubtful.filter((other) => other !== doubtful);
      one.here = false;
      await this.keep(one, result, bytes, from);
      this.trust.passed(from, at);
    });
  }

  /** Drops what a member has given since it was last known to be honest, and asks for it again. */
  private async caught(from: string, wrong: string): Promise<void> {
    const taken = this.trust.caught(from).filter(({ of }) => this.book.isOpen(of));
    this.counts.caught += 1;
    const waiting = this.book.doubtful.filter((other) => other.from === from).map(({ one }) => one);
    this.book.doubtful = this.book.doubtful.filter((other) => other.from !== from);
    for (const one of waiting) one.here = false;
    for (const other of taken) {
      other.of.left += 1;
      this.counts.by.set(from, (this.counts.by.get(from) ?? 0) - 1);
      this.book.pending.set(other.key, other);
      await this.record?.drop(other.of.kept, other.key);
    }
    this.options.say(
      `${from} does not draw as it is told: ${wrong}. ${waiting.length + taken.length} of its results are asked for again, and nothing that it sends ` +
        "is looked at any more",
    );
    for (const other of [...waiting, ...taken]) await this.askAgain(other);
    await this.options
      .revoke?.(from)
      .catch((error: Error) => this.options.say(`${from} is not revoked: ${error.message}`));
  }

  private async keep(one: Pending<J, R, C>, result: R, bytes: Uint8Array, from: string): Promise<void> {
    await this.record?.add(one.of.kept, one.key, bytes);
    this.book.pending.delete(one.key);
    if (one.copied) void this.post.queue.withdraw(one.key).catch(() => {}); // whoever has begun it sends it in vain
    this.counts.by.set(from, (this.counts.by.get(from) ?? 0) + 1);
    await this.fill(one.of, one.place, result);
    this.post.news.tell();
  }

  private async fill(iteration: Iteration<R>, place: number, result: R): Promise<void> {
    if (!this.trust.checks) await iteration.arrived?.(result);
    iteration.results[place] = result;
    iteration.left -= 1;
    if (iteration.left === 0) iteration.filled?.();
  }

  private async fail(one: Pending<J, R, C>, from: string, reason: string): Promise<void> {
    one.errors.add(`${reason} (attempt ${one.attempt + 1})`);
    this.options.say(`a job could not be done by ${from}, ${reason}`);
    if (isGivenUp(one)) this.post.news.tell();
    else await this.askAgain(one);
  }

  /** Looks at what is missing, and asks for it again. */
  private sweep(): Promise<void> {
    return this.post.sweep(this.book.pending, this.look, (lost) => this.weights.putAgain(lost));
  }

  private look = async (one: Pending<J, R, C>, { there, allTaken }: Seen): Promise<void> => {
    if (one.here || isGivenUp(one)) return;
    // A job that the queue still has will be done; one that it has not has a result, or was lost.
    if (there.has(one.key)) {
      if (allTaken && !one.copied && this.pace.isLate(one.askedAt)) await this.copy(one);
      return;
    }
    const before = one.attempt;
    await this.lookUp(one);
    if (this.book.isPending(one) && one.attempt === before && !one.here) await this.askAgain(one);
  };

  /** Lets an idle worker do, too, what another one has had for too long. */
  private copy(one: Pending<J, R, C>): Promise<void> {
    one.copied = true;
    return this.post.queue.ask(one.key, ++one.attempt, one.bytes);
  }

  /** Reads a job's results from the stream; what was refused is asked for again. */
  private lookUp(one: Pending<J, R, C>): Promise<void> {
    const before = one.attempt;
    const over = () => !this.book.isPending(one) || one.attempt !== before;
    return this.post.lookUp(one, (member, bytes) => this.accept(one, member, bytes), over);
  }

  private async drawHere(one: Pending<J, R, C>, here: Here<J, R>): Promise<void> {
    one.here = true;
    const began = performance.now();
    try {
      const result = await here.draw(one.job, one.of.policy);
      const seconds = (performance.now() - began) / 1000;
      const bytes = this.kind.encodeResult(one.key, { worker: "trainer", adapter: "", seconds }, result);
      await this.post.inTurn(async () => {
        if (!this.book.isPending(one)) return;
        this.pace.add(seconds);
        this.reception.serving.drew(this.kind.tokens(one.job, result));
        await this.keep(one, result, bytes, "");
      });
      await this.post.queue.withdraw(one.key).catch(() => {}); // a copy that a worker has is refused when it comes
    } finally {
      one.here = false;
    }
  }

  /** A job of some iterations that nobody has taken, from the queue's end, or that somebody has had for too long. */
  private async claim(iterations: ReadonlySet<Iteration<R>>): Promise<Pending<J, R, C> | null> {
    const left = this.book.missing(iterations).filter((one) => !one.here);
    const own = left.find(isGivenUp) ?? left.find((one) => one.copied) ?? left.at(-1);
    if (!own || isGivenUp(own)) return own ?? null;
    try {
      if ((await this.post.queue.untaken()) > 0) {
        await this.post.queue.withdraw(own.key);
        return this.book.isPending(own) ? own : null;
      }
    } catch {
      return own; // the server is away: what is drawn here needs none
    }
    return this.pace.isLate(own.askedAt) ? own : null;
  }
}
