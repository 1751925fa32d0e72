/** How a worker waits for jobs: one request at a time, which the server answers when there is one. */
import type { Consumer, JsMsg } from "@nats-io/jetstream";
import { jobsConsumer, type Streams } from "./streams.ts";

/** A request for a job waits so long; one that the server has lost is made again when the connection is back. */
const WAIT_MS = 30_000;

/** A worker's side of the queue. A job is taken when it can be begun: one that waits in a worker would wait behind others. */
export class Intake {
  private readonly streams: Streams;
  private consumer: Consumer | null = null;

  constructor(streams: Streams) {
    this.streams = streams;
  }

  /** A job; null where none came in time, or the signal fired; undefined where there is nothing to take jobs from. */
  async next(signal: AbortSignal): Promise<JsMsg | null | undefined> {
    try {
      this.consumer ??= await jobsConsumer(this.streams);
      if (!this.consumer) return undefined;
      const waiting = await this.consumer.fetch({ max_messages: 1, expires: WAIT_MS });
      const stop = () => waiting.stop();
      signal.addEventListener("abort", stop);
      try {
        if (signal.aborted) stop();
        for await (const message of waiting) return message;
        return null;
      } finally {
        signal.removeEventListener("abort", stop);
      }
    } catch {
      this.consumer = null; // the server was away, or has lost it
      return undefined;
    }
  }
}
