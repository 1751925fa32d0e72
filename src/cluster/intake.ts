/** How a worker waits for jobs: one request at a time, which the server answers when there is one. */
import type { Consumer, JsMsg } from "@nats-io/jetstream";
import { ClusterError } from "./errors.ts";
import type { QueueName } from "./names.ts";
import { jobsConsumer, type Streams } from "./streams.ts";

/** A request for a job waits so long; one that the server has lost is made again when the connection is back. */
const WAIT_MS = 30_000;
/** So often a worker of several kinds looks whether there are jobs of another one than the last. */
const LOOK_MS = 10_000;
/** A request for a job that was there a moment ago waits so long. */
const SHORT_MS = 1000;

/** A job that was taken. */
export interface TakenJob<K extends QueueName> {
  kind: K;
  message: JsMsg;
}

/** A worker's side of the queues. A job is taken when it can be begun: one that waits in a worker would wait behind others. */
export class Intake<K extends QueueName> {
  private readonly streams: Streams;
  private readonly say: (line: string) => void;
  /** The kind of the last job first. */
  private kinds: readonly K[];
  private readonly consumers = new Map<K, Consumer>();
  private looked = Date.now();

  /** @param kinds of jobs that are taken */
  constructor(streams: Streams, kinds: readonly K[], say: (line: string) => void = () => {}) {
    this.streams = streams;
    this.kinds = kinds;
    this.say = say;
  }

  /**
   * A job. It is waited for at one queue, that of the last job: two requests might give two jobs, and the lease of the one that
   * waits would run.
   * @param ms how long it is waited for, at least a second. Default: half a minute, or less where there are several kinds
   * @returns null where none came in time, or the signal fired; undefined where there is nothing to take jobs from
   * @throws ClusterError where the credential lets nobody take any of the kinds
   */
  async next(signal: AbortSignal, ms?: number): Promise<TakenJob<K> | null | undefined> {
    try {
      const other = await this.other(signal);
      if (other) return other;
      const [kind, ...others] = this.kinds;
      const consumer = await this.consumer(kind);
      if (!consumer) {
        // Perhaps there is another queue.
        this.kinds = [...this.kinds.filter((one) => one !== kind), ...(this.kinds.includes(kind) ? [kind] : [])];
        return undefined;
      }
      return await this.from(kind, consumer, ms ?? (others.length > 0 ? LOOK_MS : WAIT_MS), signal);
    } catch (error) {
      if (error instanceof ClusterError) throw error;
      this.consumers.clear(); // the server was away, or has lost them
      return undefined;
    }
  }

  /** A job of another kind than the last one, where it is time to look for one. */
  private async other(signal: AbortSignal): Promise<TakenJob<K> | null> {
    if (Date.now() - this.looked < LOOK_MS) return null;
    this.looked = Date.now();
    for (const kind of this.kinds.slice(1)) {
      const consumer = await this.consumer(kind);
      if (!consumer || (await consumer.info()).num_pending === 0) continue;
      const taken = await this.from(kind, consumer, SHORT_MS, signal);
      if (taken) return taken;
    }
    return null;
  }

  private async from(kind: K, consumer: Consumer, ms: number, signal: AbortSignal): Promise<TakenJob<K> | null> {
    const waiting = await consumer.fetch({ max_messages: 1, expires: ms });
    const stop = () => waiting.stop();
    signal.addEventListener("abort", stop);
    try {
      if (signal.aborted) stop();
      for await (const message of waiting) {
        this.kinds = [kind, ...this.kinds.filter((one) => one !== kind)];
        return { kind, message };
      }
      return null;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** The queue of a kind; null where nobody has asked for such jobs yet, or the credential is from before there was such a kind. */
  private async consumer(kind: K): Promise<Consumer | null> {
    const known = this.consumers.get(kind);
    if (known) return known;
    try {
      const found = await jobsConsumer(this.streams, kind);
      if (found) this.consumers.set(kind, found);
      return found;
    } catch (error) {
      const { cause, message } = error as Error;
      const reason = `${message} ${cause instanceof Error ? cause.message : ""}`;
      if (!/permission/i.test(reason)) throw error;
      if (this.kinds.length === 1) {
        throw new ClusterError(
          "refused",
          `the credential lets nobody take jobs to ${kind}: it is from before there were such jobs, or for other work; ask for a new ` +
            "invitation, which webrlhf cluster invite NAME makes",
          { cause: error },
        );
      }
      this.kinds = this.kinds.filter((other) => other !== kind);
      this.say(`the credential is from before workers could ${kind}: ask for a new invitation for that`);
      return null;
    }
  }
}
