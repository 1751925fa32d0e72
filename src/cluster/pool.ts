/** Single jobs done in a cluster: by whichever worker has time, and by this program where none has. */
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import type { Here } from "./asked.ts";
import type { AnyJob, JobKind } from "./kinds.ts";
import { PolicyPublisher, type PublishedPolicy } from "./policy.ts";
import type { ClusterTrainer } from "./trainer.ts";

/** Jobs that are asked for at once. */
export const AT_ONCE = 128;
/** All of them belong to one iteration, which becomes longer as they come. */
const ITERATION = 0;

interface Asked<J, R, C> {
  job: J;
  context: C;
  resolve: (result: R) => void;
  reject: (error: unknown) => void;
}

/** Has jobs of one kind done, with one model. */
export class JobPool<J extends AnyJob, R extends { id: string }, M extends CausalLM | ScoreModel, C extends object> {
  private readonly open: () => Promise<ClusterTrainer<J, R, C>>;
  private readonly kind: JobKind<J, R, M, C>;
  private readonly model: M;
  private readonly waiting: Asked<J, R, C>[] = [];
  private readonly underWay = new Map<string, Asked<J, R, C>>();
  private readonly stop = new AbortController();
  private readonly signal: AbortSignal;
  private joined: Promise<{ trainer: ClusterTrainer<J, R, C>; policy: PublishedPolicy }> | null = null;
  private running = false;

  /**
   * @param open joins the cluster, when the first job comes
   * @param signal stops it: what is not done is rejected with its reason
   */
  constructor(open: () => Promise<ClusterTrainer<J, R, C>>, kind: JobKind<J, R, M, C>, model: M, signal?: AbortSignal) {
    this.open = open;
    this.kind = kind;
    this.model = model;
    this.signal = signal ? AbortSignal.any([signal, this.stop.signal]) : this.stop.signal;
  }

  /**
   * The result of a job; its id is no other one's.
   * @throws UserError where the cluster refuses it, or workers say that it cannot be done
   */
  do(job: J, context: C): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.stop.signal.aborted) return reject(this.stop.signal.reason);
      this.waiting.push({ job, context, resolve, reject });
      if (this.running) void this.ask();
      else void this.run();
    });
  }

  /** Takes back what is not done, and leaves. Gives how many jobs workers did, and how many this program. */
  async close(): Promise<{ elsewhere: number; here: number }> {
    this.fail(new Error("the cluster was left"));
    const joined = await this.joined?.catch(() => null);
    await joined?.trainer.close();
    const by = [...(joined?.trainer.counts.by ?? [])];
    const of = (own: boolean) => by.reduce((sum, [name, n]) => sum + (own === (name === "") ? n : 0), 0);
    return { elsewhere: of(false), here: of(true) };
  }

  private async join() {
    const policy = await new PolicyPublisher().take(this.model);
    const trainer = await this.open();
    await trainer.publish(policy);
    return { trainer, policy };
  }

  private async run(): Promise<void> {
    this.running = true;
    const here: Here<J, R> = {
      draw: (job) => this.kind.run(this.model, job, this.signal),
      check: (job, _, result) => this.kind.wrong(this.model, job, result),
    };
    try {
      this.joined ??= this.join();
      const { trainer } = await this.joined;
      while (this.waiting.length + this.underWay.size > 0) {
        await this.ask();
        await trainer.take(ITERATION, here, this.signal);
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.running = false;
    }
    // What came in the last moment.
    if (this.waiting.length > 0) void this.run();
  }

  /** Asks for as many jobs as may be asked for. */
  private async ask(): Promise<void> {
    try {
      const joined = await this.joined;
      if (!joined) return;
      const asked: Promise<void>[] = [];
      while (this.underWay.size < AT_ONCE) {
        const one = this.waiting.shift();
        if (!one) break;
        this.underWay.set(one.job.id, one);
        const arrived = async (result: R) => this.arrived(result);
        asked.push(
          joined.trainer.request(ITERATION, [one.job], { ...one.context, policy: joined.policy }, { arrived }),
        );
      }
      await Promise.all(asked);
    } catch (error) {
      this.fail(error);
    }
  }

  private arrived(result: R): void {
    const one = this.underWay.get(result.id);
    this.underWay.delete(result.id);
    one?.resolve(result);
    void this.ask();
  }

  private fail(error: unknown): void {
    this.stop.abort(error);
    for (const one of [...this.waiting.splice(0), ...this.underWay.values()]) one.reject(error);
    this.underWay.clear();
  }
}
