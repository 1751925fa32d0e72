/** The server's streams of a cluster. All of them are soft state: whoever misses one makes it again. */
import type { Consumer, JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import {
  ACK_WAIT,
  JOBS,
  jobsOfKind,
  LABEL_ACK_WAIT,
  type QueueName,
  RESULTS,
  RESULTS_AGE,
  VOTES,
  VOTES_AGE,
} from "./names.ts";
import { packages } from "./packages.ts";

/** What the streams of a cluster are reached by. */
export interface Streams {
  js: JetStreamClient;
  jsm: JetStreamManager;
}

/** Results that the server keeps, at most: no worker fills its disk. The oldest go first, and are asked for again where they are missed. */
const RESULTS_BYTES = 512 << 20;
const VOTES_BYTES = 64 << 20;
/** How long a request to the server waits for an answer, milliseconds. */
const TIMEOUT = 5000;

export async function streamsOf(nc: NatsConnection): Promise<Streams> {
  const { jetstream, jetstreamManager } = await packages.jetstream();
  const options = { timeout: TIMEOUT, checkAPI: false };
  return { js: jetstream(nc, options), jsm: await jetstreamManager(nc, options) };
}

/** Makes the streams of a kind's jobs and of what comes of them where they are missing. Returns whether one was. */
export async function ensureStreams({ jsm }: Streams, kind: QueueName): Promise<boolean> {
  const [name, subjects, age, bytes, wait] =
    kind === "label"
      ? [VOTES, "vote.>", VOTES_AGE, VOTES_BYTES, LABEL_ACK_WAIT]
      : [RESULTS, "result.>", RESULTS_AGE, RESULTS_BYTES, ACK_WAIT];
  const { AckPolicy, DiscardPolicy, RetentionPolicy } = await packages.jetstream();
  const { nanos } = await packages.core();
  const made = await Promise.all([
    ensure(jsm, {
      name: JOBS[kind],
      subjects: [jobsOfKind(kind)],
      retention: RetentionPolicy.Workqueue,
      max_msgs_per_subject: 1,
      discard: DiscardPolicy.New,
      discard_new_per_subject: true,
      max_msgs: 1_000_000,
    }),
    ensure(jsm, {
      name,
      subjects: [subjects],
      max_msgs_per_subject: 1,
      discard: DiscardPolicy.Old,
      max_age: nanos(age * 1000),
      max_bytes: bytes,
      allow_direct: true,
    }),
  ]);
  const known = await jsm.consumers.info(JOBS[kind], kind).catch(absent);
  if (!known) {
    await jsm.consumers.add(JOBS[kind], {
      durable_name: kind,
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(wait * 1000),
      max_deliver: -1,
      max_ack_pending: 100_000,
      max_waiting: 100_000, // workers that wait for a job; 512 are the server's own choice
    });
  }
  return made.some(Boolean) || !known;
}

async function ensure(jsm: JetStreamManager, config: { name: string } & Record<string, unknown>): Promise<boolean> {
  if (await jsm.streams.info(config.name).catch(absent)) return false;
  await jsm.streams.add(config);
  return true;
}

/** Null for what is not there; other errors are thrown. */
export function absent(error: unknown): null {
  const reason = error instanceof Error ? `${error.name} ${error.message}` : String(error);
  if (/not found|404|no message found|no responders|StreamNotFound|ConsumerNotFound/i.test(reason)) return null;
  throw error;
}

/** The consumer that workers take a kind's jobs from; null while there is none. */
export const jobsConsumer = ({ js }: Streams, kind: QueueName): Promise<Consumer | null> =>
  js.consumers.get(JOBS[kind], kind).catch(absent);
