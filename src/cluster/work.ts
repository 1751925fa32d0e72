/**
 * How a worker works: it waits until it is needed, takes a job when it can begin it, does it, puts the result, and gives back what it
 * cannot do.
 */
import type { JsMsg } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { deviceFailure } from "../open/surviving.ts";
import { isUserError } from "../runtime/errors.ts";
import { VERSION } from "../runtime/version.ts";
import type { ClusterConnection } from "./connection.ts";
import { PURPOSES } from "./credentials.ts";
import { ClusterError } from "./errors.ts";
import { Greeting } from "./greeting.ts";
import type { Hello } from "./hello.ts";
import { Intake } from "./intake.ts";
import { ACK_WAIT, type KindName, kinds, resultSubject } from "./names.ts";
import { pause } from "./pause.ts";
import type { HeldWeights } from "./policy.ts";
import { type Streams, streamsOf } from "./streams.ts";
import { type Drawer, type FileRef, OtherVersion, Refused, writeError } from "./wire.ts";

/** How a worker works. */
export interface WorkerOptions {
  /** Its own name, beside that of its credential, which several may have. */
  name: string;
  /** The adapter that it computes on, for people. */
  adapter: string;
  /** Stops it: the job under way is given back at once. */
  signal: AbortSignal;
  /** Kinds of jobs that it takes. Default: all. */
  roles?: readonly KindName[];
  /** Hears what happens. Default: nobody. */
  say?: (line: string) => void;
  /** Hears where it stands, whenever that changes. Default: nobody. */
  watch?: (state: WorkerState) => void;
  /** Where weights stay beyond the call, from `holdWeights`; they are the caller's. Default: its own, freed in the end. */
  held?: HeldWeights;
}

/** Work of a worker at some moment. */
export interface WorkerState {
  /**
   * "away": the server does not answer, and is asked again. "waiting": no trainer asks for anything. "fetching": weights are on
   * their way. "drawing": a job is under way. "standing by": faster workers suffice.
   */
  at: "away" | "waiting" | "fetching" | "drawing" | "standing by";
  /** Jobs done since `runWorker` was called. */
  done: number;
  /** Tokens of these jobs. */
  tokens: number;
  /** Tokens per second of these jobs, the time for weights included. */
  tokensPerSecond: number;
  /** The file that is being fetched, in bytes. */
  fetching: { name: string; done: number; total: number } | null;
  /** Why it stands by: so many faster workers suffice. Null where it does not. */
  standBy: { enough: number } | null;
}

const RETRY_MS = 1000;

/** Does jobs of a kind: fetches the weights that they name, says when it begins, and draws. */
export type Skill = (
  bytes: Uint8Array,
  signal: AbortSignal,
  begins: () => void,
) => Promise<{ tokens: number; encoded: (key: string, drawer: Drawer) => Uint8Array }>;

/** Makes a worker's skills; `heard` hears how many bytes of a file are here. */
type Learned = (streams: Streams, heard: (file: FileRef, bytes: number) => void) => Record<KindName, Skill>;

/** Works with some skills: see `runWorker`. */
export async function work(connection: ClusterConnection, options: WorkerOptions, learned: Learned): Promise<number> {
  const { nc, user, expires, role } = connection;
  const { signal, say = () => {}, watch = () => {} } = options;
  if (role && role !== "worker") {
    throw new ClusterError(
      "refused",
      `the credential ${user} is ${PURPOSES[role]}, and lets nobody work: take worker.creds, or ask for an invitation that ` +
        "webrlhf cluster invite NAME makes",
    );
  }
  const streams = await streamsOf(nc);
  const state: WorkerState = { at: "waiting", done: 0, tokens: 0, tokensPerSecond: 0, fetching: null, standBy: null };
  const become = (change: Partial<WorkerState>) => watch({ ...Object.assign(state, change) });
  const skills = learned(streams, ({ name, size }, bytes) =>
    become({ at: "fetching", fetching: { name, done: bytes, total: size } }),
  );
  const told: Hello = {
    worker: options.name,
    adapter: options.adapter,
    webrlhf: VERSION,
    done: 0,
    tokensPerSecond: 0,
    busy: false,
    standsBy: false,
    roles: [...(options.roles ?? kinds)],
  };
  const intake = new Intake(streams, told.roles, say);
  let seconds = 0;
  let away = false;
  const idle = () => (away ? "away" : told.standsBy ? "standing by" : "waiting");
  void (async () => {
    for await (const { type } of nc.status()) {
      if (type !== "disconnect" && type !== "reconnect") continue;
      away = type === "disconnect";
      if (away) become({ at: "away", fetching: null });
      else if (state.at === "away") become({ at: told.busy ? "drawing" : idle() });
    }
  })();
  const greeting = await Greeting.begin(connection, told, (standBy) => become({ at: idle(), standBy }));
  become({});
  let waiting = false;
  try {
    await greeting.answered(signal);
    while (!signal.aborted) {
      if (nc.isClosed()) throw closed(await nc.closed(), expires ?? null);
      if (greeting.look()) {
        await greeting.news(signal);
        continue;
      }
      const taken = await intake.next(signal);
      if (taken === undefined) {
        if (!waiting) say("waiting for the server, or for a trainer's first job");
        waiting = true;
        await pause(RETRY_MS, signal);
        continue;
      }
      waiting = false;
      if (taken === null) continue;
      if (signal.aborted) {
        taken.message.nak();
        break;
      }
      if (greeting.look()) {
        taken.message.nak(); // it was asked for before, and goes to who is needed
        continue;
      }
      told.busy = true;
      const drawing = () => become({ at: "drawing", fetching: null });
      const done = await oneJob(taken.message, { nc, streams, skill: skills[taken.kind], user, options, drawing });
      told.busy = false;
      const tokens = state.tokens + (done?.tokens ?? 0);
      seconds += done?.seconds ?? 0;
      const tokensPerSecond = Math.round(tokens / Math.max(seconds, 1e-3));
      become({ at: idle(), fetching: null, tokens, done: state.done + (done ? 1 : 0), tokensPerSecond });
      Object.assign(told, { done: state.done, tokensPerSecond });
      if (done) greeting.hello();
    }
    await nc.flush().catch(() => {}); // what was given back reaches the server
  } finally {
    greeting.close();
  }
  return state.done;
}

interface Working {
  nc: NatsConnection;
  streams: Streams;
  skill: Skill;
  user: string;
  options: WorkerOptions;
  /** The weights are here. */
  drawing: () => void;
}

/** Does a job. Null where it was given back, or refused. */
async function oneJob(
  message: JsMsg,
  { nc, streams, skill, user, options, drawing }: Working,
): Promise<{ tokens: number; seconds: number } | null> {
  const { signal, name: worker, adapter, say = () => {} } = options;
  const [, , run, key] = message.subject.split(".");
  const began = performance.now();
  const since = () => (performance.now() - began) / 1000;
  let fetched = 0;
  const drawer = () => ({ worker, adapter, seconds: since(), fetched });
  const begins = () => {
    fetched = since();
    drawing();
  };
  const subject = resultSubject(user, run, key);
  const beat = setInterval(() => message.working(), (ACK_WAIT * 1000) / 4);
  try {
    const { tokens, encoded } = await skill(message.data, signal, begins);
    await streams.js.publish(subject, encoded(key, drawer()));
    await message.ackAck();
    return { tokens, seconds: drawer().seconds };
  } catch (error) {
    if (signal.aborted) {
      message.nak();
      return null;
    }
    const reason = error instanceof Error ? error.message : String(error);
    // Others may do what cannot be done here.
    if (error instanceof OtherVersion || deviceFailure(error)) {
      message.nak(RETRY_MS);
      await nc.flush().catch(() => {});
      throw new ClusterError(error instanceof OtherVersion ? "version" : "gpu", reason, { cause: error });
    }
    if (error instanceof Refused || isUserError(error)) {
      say(`a job was refused: ${reason}`);
      await streams.js.publish(subject, writeError({ key, drawer: drawer() }, reason)).catch(() => {});
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

/** A server that is asked a second time says of an expired credential no more than that it does not take it. */
const closed = (error: unknown, expires: number | null): Error =>
  new ClusterError(
    /expired/i.test(String(error)) || (expires !== null && expires * 1000 <= Date.now()) ? "expired" : "refused",
    `the server has ended the connection${error instanceof Error ? `: ${error.message}` : ""}: the credential has expired or was ` +
      "revoked; ask for a new invitation",
    { cause: error },
  );
