/**
 * A worker: takes jobs, fetches the weights that it lacks, draws, and puts results. It keeps nothing that would be missed: what
 * it had under way when it is killed goes to another worker.
 */
import type { JsMsg } from "@nats-io/jetstream";
import { runJob } from "../rlhf/jobs.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import { VERSION } from "../runtime/version.ts";
import { BlobReader } from "./blobs.ts";
import type { ClusterConnection } from "./connection.ts";
import { Intake } from "./intake.ts";
import { decodeJob, encodeResult, Refused } from "./messages.ts";
import { ACK_WAIT, helloSubject, resultSubject } from "./names.ts";
import { HeldPolicy } from "./policy.ts";
import { type Streams, streamsOf } from "./streams.ts";

/** How a worker works. */
export interface WorkerOptions {
  /** Its own name, beside that of its credential, which several may have. */
  name: string;
  /** The adapter that it computes on, for people. */
  adapter: string;
  /** Stops it: the job under way is given back at once. */
  signal: AbortSignal;
  /** Hears what happens. Default: nobody. */
  say?: (line: string) => void;
}

/** What a worker tells every few seconds. */
export interface Hello {
  worker: string;
  adapter: string;
  webrlhf: string;
  /** Jobs done since it began, and their tokens per second of drawing. */
  done: number;
  tokensPerSecond: number;
  /** It is drawing just now. */
  busy: boolean;
}

const HELLO_MS = 5000;
const RETRY_MS = 1000;

/**
 * Works until the signal fires or the server refuses the credential. Returns the jobs done.
 * @throws UserError where the connection is closed for good
 */
export async function runWorker({ nc, user }: ClusterConnection, options: WorkerOptions): Promise<number> {
  const { signal, say = () => {} } = options;
  const streams = await streamsOf(nc);
  const held = new HeldPolicy(new BlobReader(streams.jsm));
  const told: Hello = {
    worker: options.name,
    adapter: options.adapter,
    webrlhf: VERSION,
    done: 0,
    tokensPerSecond: 0,
    busy: false,
  };
  const intake = new Intake(streams);
  let tokens = 0;
  let seconds = 0;
  const hello = () => {
    if (!nc.isClosed()) nc.publish(helloSubject(user), JSON.stringify(told));
  };
  const greeting = setInterval(hello, HELLO_MS);
  hello();
  let waiting = false;
  try {
    while (!signal.aborted) {
      if (nc.isClosed()) throw closed(await nc.closed());
      const message = await intake.next(signal);
      if (message === undefined) {
        if (!waiting) say("waiting for the server, or for a trainer's first job");
        waiting = true;
        await pause(RETRY_MS, signal);
        continue;
      }
      waiting = false;
      if (message === null) continue;
      if (signal.aborted) {
        message.nak();
        break;
      }
      told.busy = true;
      const done = await oneJob(message, { streams, held, user, options });
      told.busy = false;
      if (!done) continue;
      tokens += done.tokens;
      seconds += done.seconds;
      Object.assign(told, { done: told.done + 1, tokensPerSecond: Math.round(tokens / Math.max(seconds, 1e-3)) });
      hello();
    }
    await nc.flush().catch(() => {}); // what was given back reaches the server
  } finally {
    clearInterval(greeting);
    held.destroy();
  }
  return told.done;
}

interface Working {
  streams: Streams;
  held: HeldPolicy;
  user: string;
  options: WorkerOptions;
}

/** Does a job. Null where it was given back, or refused. */
async function oneJob(
  message: JsMsg,
  { streams, held, user, options }: Working,
): Promise<{ tokens: number; seconds: number } | null> {
  const { signal, name: worker, adapter, say = () => {} } = options;
  const [, , run, key] = message.subject.split(".");
  const began = performance.now();
  const drawer = () => ({ worker, adapter, seconds: (performance.now() - began) / 1000 });
  const subject = resultSubject(user, run, key);
  const beat = setInterval(() => message.working(), (ACK_WAIT * 1000) / 4);
  try {
    const { policy, job } = decodeJob(message.data);
    const model = await held.model(policy, signal);
    const result = await runJob(model, job, signal);
    await streams.js.publish(subject, encodeResult(key, drawer(), result));
    await message.ackAck();
    return { tokens: result.responses.reduce((sum, { ids }) => sum + ids.length, 0), seconds: drawer().seconds };
  } catch (error) {
    if (signal.aborted) {
      message.nak();
      return null;
    }
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof Refused || isUserError(error)) {
      say(`a job was refused: ${reason}`);
      await streams.js.publish(subject, encodeResult(key, drawer(), { error: reason })).catch(() => {});
      message.term();
      return null;
    }
    if (/device|GPU/i.test(reason) && !/timeout|NATS|jetstream/i.test(reason)) {
      message.nak();
      throw error; // this process computes no more
    }
    // The server was away, or the weights were: somebody gets the job again.
    say(`a job was given back: ${reason}`);
    message.nak(RETRY_MS);
    return null;
  } finally {
    clearInterval(beat);
  }
}

const closed = (error: unknown): Error =>
  new UserError(
    `the server has ended the connection${error instanceof Error ? `: ${error.message}` : ""}: the credential has expired or was ` +
      "revoked; ask for a new invitation",
    { cause: error },
  );

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
