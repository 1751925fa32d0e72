/** A run's jobs and results, as the server has them. */
import { JOBS, jobSubject, jobsOfRun, ofResult, type QueueName, RESULTS, resultsOf, VOTES, votesOf } from "./names.ts";
import { absent, jobsConsumer, type Streams } from "./streams.ts";

/** A run's part of the streams. */
export class RunQueue {
  private readonly streams: Streams;
  private readonly kind: QueueName;
  private readonly run: string;

  constructor(streams: Streams, kind: QueueName, run: string) {
    this.streams = streams;
    this.kind = kind;
    this.run = run;
  }

  /** Puts a job where workers take it. */
  async ask(key: string, attempt: number, bytes: Uint8Array): Promise<void> {
    const subject = jobSubject(this.kind, this.run, key, attempt);
    await this.streams.js.publish(subject, bytes, { msgID: `${key}.${attempt}` }).catch((error) => {
      if (!/maximum messages per subject/.test(String(error))) throw error; // it is there already
    });
  }

  /**
   * Takes a job away, or all of them. One message after the other: server 2.9 hands out nothing more of a stream that is purged by a
   * subject.
   */
  async withdraw(key?: string): Promise<void> {
    const { jsm } = this.streams;
    const stream = JOBS[this.kind];
    for (;;) {
      const filter = { last_by_subj: jobsOfRun(this.kind, this.run, key) };
      const found = await jsm.streams.getMessage(stream, filter).catch(absent);
      if (!found) return;
      await jsm.streams.deleteMessage(stream, found.seq, false).catch(absent);
    }
  }

  /** Keys of the jobs that are not acknowledged yet. */
  async unfinished(): Promise<Set<string>> {
    const filter = { subjects_filter: jobsOfRun(this.kind, this.run) };
    const { state } = await this.streams.jsm.streams.info(JOBS[this.kind], filter);
    return new Set(Object.keys(state.subjects ?? {}).map((subject) => subject.split(".")[3]));
  }

  /** How many jobs, of all runs, no worker has taken yet. */
  async untaken(): Promise<number> {
    const consumer = await jobsConsumer(this.streams, this.kind);
    return consumer ? (await consumer.info()).num_pending : Number.POSITIVE_INFINITY;
  }

  /** A job's results, whoever put them there. */
  async *results(key: string): AsyncGenerator<{ member: string; bytes: Uint8Array }> {
    const [stream, of] = this.kind === "label" ? [VOTES, votesOf] : [RESULTS, resultsOf];
    const subject = of(this.run, key);
    for (let seq = 1; ; ) {
      const found = await this.streams.jsm.direct.getMessage(stream, { seq, next_by_subj: subject }).catch(absent);
      if (!found) return;
      yield { member: ofResult(found.subject)?.worker ?? "", bytes: found.data };
      seq = found.seq + 1;
    }
  }
}
