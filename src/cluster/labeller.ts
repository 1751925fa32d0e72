/**
 * A person's side of a cluster: takes one pair at a time, has the person decide it, and sends the label. It needs neither a GPU nor
 * weights, and keeps nothing that would be missed.
 */
import type { JsMsg } from "@nats-io/jetstream";
import type { ClusterConnection } from "./connection.ts";
import { ClusterError } from "./errors.ts";
import { Intake } from "./intake.ts";
import { decodeLabelJob, encodeVote, type LabelChoice, type LabelJob, type ShownPair } from "./label-messages.ts";
import { JOBS, LABEL_ACK_WAIT, voteSubject } from "./names.ts";
import { pause } from "./pause.ts";
import { jobsConsumer, type Streams, streamsOf } from "./streams.ts";
import { Refused } from "./wire.ts";

/** How a person labels. */
export interface LabellerOptions {
  /** A random name of 8 to 64 letters, digits, "-" and "_" that stays the person's: two labels of a pair come from two of them. */
  labeller: string;
  /** What the person wants to be called; others see up to 40 characters of it. */
  name: string;
  /** Pairs that this person has labelled, which are left to others. */
  labelled: Pick<Set<string>, "has" | "add">;
  /**
   * Has the person decide; null gives the pair back.
   * @param alive tells that the person is there: ten minutes after the last sign the pair goes to somebody else
   * @param signal fires when the pair is this person's no longer
   */
  decide: (pair: ShownPair, alive: () => void, signal: AbortSignal) => Promise<LabelChoice | null>;
  /** Stops it: the pair that lies there is given back. */
  signal: AbortSignal;
  /** Hears where it stands, whenever that changes. Default: nobody. */
  watch?: (state: LabellerState) => void;
  /** Milliseconds after the last sign of the person. Default: ten minutes. */
  leaseMs?: number;
}

/** Where a labeller stands. */
export interface LabellerState {
  /** "away": the server does not answer, and is asked again. "waiting": there is no pair for this person. */
  at: "away" | "waiting" | "deciding" | "sending";
  /** Labels sent since `runLabeller` was called. */
  done: number;
  /** Pairs that nobody has taken yet. */
  waiting: number;
  /** The last pair that came was one that this person has labelled: others are to label what is left. */
  forOthers: boolean;
}

/** How long a pair is somebody's who gives no sign, milliseconds. */
export const LABEL_LEASE_MS = 600_000;
const RETRY_MS = 1000;
/** Pairs that are looked through at once for one that is not for others alone. */
const MOST_HELD = 1000;
/** Who has found none leaves them to others for so long, and longer where there are many. */
const OTHERS_MS = 1000;
const OTHERS_EACH_MS = 30;
const COUNT_MS = 3000;

/**
 * Takes pairs and sends labels until the signal fires ("stopped"), or the person gave no sign for ten minutes ("idle").
 * @throws ClusterError where the credential has expired, was revoked, or is for other work
 */
export async function runLabeller(
  connection: ClusterConnection,
  options: LabellerOptions,
): Promise<{ done: number; end: "stopped" | "idle" }> {
  const { nc } = connection;
  const { signal, watch = () => {} } = options;
  const streams = await streamsOf(nc);
  const intake = new Intake(streams, ["label"]);
  const state: LabellerState = { at: "waiting", done: 0, waiting: 0, forOthers: false };
  const become = (change: Partial<LabellerState>) => watch({ ...Object.assign(state, change) });
  const counting = setInterval(() => void count(), COUNT_MS);
  const count = async () => {
    const consumer = nc.isClosed() ? null : await jobsConsumer(streams, "label").catch(() => null);
    const info = await consumer?.info().catch(() => null);
    if (info && info.num_pending !== state.waiting) become({ waiting: info.num_pending });
  };
  void (async () => {
    for await (const { type } of nc.status()) {
      if (type === "disconnect" && state.at === "waiting") become({ at: "away" });
      else if (type === "reconnect" && state.at === "away") become({ at: "waiting" });
    }
  })();
  become({});
  void count();
  try {
    await refuseOthersWork(streams, connection);
    while (!signal.aborted) {
      if (nc.isClosed()) throw ended(connection);
      const taken = await ownPair(intake, options);
      if (taken === undefined) await pause(RETRY_MS, signal);
      if (!taken) continue;
      if ("forOthers" in taken) {
        become({ forOthers: true });
        await pause(OTHERS_MS * (1 + Math.random()) + OTHERS_EACH_MS * taken.forOthers, signal);
        continue;
      }
      const end = await onePair(taken, { connection, streams, options, become, done: () => state.done + 1 });
      if (end === "idle") return { done: state.done, end };
      become({ at: "waiting", forOthers: false });
      if (end === "sent") void count();
    }
    await nc.flush().catch(() => {}); // what was given back reaches the server
    return { done: state.done, end: "stopped" };
  } finally {
    clearInterval(counting);
  }
}

/** A pair as it was taken. */
interface Taken {
  message: JsMsg;
  job: LabelJob;
  run: string;
  key: string;
}

/**
 * The next pair that this person may label. Those that are for others alone are held until it is found, for they would come again at
 * once, and then given back.
 * @returns how many were for others where there was no other one; null and undefined as `Intake.next`
 */
async function ownPair(
  intake: Intake<"label">,
  { labelled, signal }: LabellerOptions,
): Promise<Taken | { forOthers: number } | null | undefined> {
  const held: JsMsg[] = [];
  try {
    for (;;) {
      const taken = await intake.next(signal, held.length > 0 ? RETRY_MS : undefined);
      if (!taken) return held.length > 0 ? { forOthers: held.length } : taken;
      const { message } = taken;
      const [, , run, key] = message.subject.split(".");
      const job = readPair(message);
      if (!job) continue;
      if (signal.aborted) held.push(message);
      else if (!labelled.has(`${run}.${job.pair}`)) return { message, job, run, key };
      else if (held.push(message) >= MOST_HELD) return { forOthers: held.length };
    }
  } finally {
    for (const message of held) message.nak();
  }
}

/** A pair; null where it is none, and is taken out of the queue. */
function readPair(message: JsMsg): LabelJob | null {
  try {
    return decodeLabelJob(message.data);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    message.term();
    return null;
  }
}

interface Labelling {
  connection: ClusterConnection;
  streams: Streams;
  options: LabellerOptions;
  become: (change: Partial<LabellerState>) => void;
  done: () => number;
}

/** Has the person decide a pair, and sends what they say. */
async function onePair(
  { message, job, run, key }: Taken,
  { connection: { nc, user }, streams, options, become, done }: Labelling,
): Promise<"sent" | "back" | "idle"> {
  const { signal, labeller, name, labelled, decide, leaseMs = LABEL_LEASE_MS } = options;
  const { pair, prompt, first, second } = job;
  const began = Date.now();
  const lease = new AbortController();
  const over = AbortSignal.any([signal, lease.signal]);
  const expire = () => lease.abort();
  let timer = setTimeout(expire, leaseMs);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(expire, leaseMs);
  };
  const beat = setInterval(() => message.working(), (LABEL_ACK_WAIT * 1000) / 6);
  try {
    become({ at: "deciding", forOthers: false });
    const choice = await decide({ prompt, first, second }, alive, over);
    if (choice === null || over.aborted) {
      message.nak();
      return lease.signal.aborted ? "idle" : "back";
    }
    become({ at: "sending" });
    clearTimeout(timer);
    const bytes = encodeVote(key, { labeller, name, choice, seconds: (Date.now() - began) / 1000 });
    while (!(await sent(() => streams.js.publish(voteSubject(user, run, key), bytes)))) {
      if (nc.isClosed() || signal.aborted) {
        message.nak();
        return "back";
      }
      become({ at: "away" });
      await pause(RETRY_MS, signal);
    }
    labelled.add(`${run}.${pair}`);
    message.ack(); // where it is lost, whoever collects takes the pair away
    become({ done: done() });
    return "sent";
  } finally {
    clearTimeout(timer);
    clearInterval(beat);
  }
}

const sent = (publish: () => Promise<unknown>): Promise<boolean> =>
  publish().then(
    () => true,
    () => false,
  );

/** An invitation to compute is none to label. */
async function refuseOthersWork(streams: Streams, connection: ClusterConnection): Promise<void> {
  try {
    await jobsConsumer(streams, "label");
  } catch (error) {
    const { message, cause } = error as Error;
    if (connection.nc.isClosed()) throw ended(connection);
    if (!/permission/i.test(`${message} ${cause instanceof Error ? cause.message : ""}`)) return; // the server is away
    const why = `it does not let anybody into ${JOBS.label}`;
    throw new ClusterError(
      "refused",
      `the invitation is not for labelling (${why}): webrlhf cluster invite --labels makes one`,
    );
  }
}

const ended = ({ expires }: ClusterConnection): Error =>
  new ClusterError(
    expires != null && expires * 1000 <= Date.now() ? "expired" : "refused",
    "the server has ended the connection: the invitation has expired or was revoked; ask for a new one",
  );
