/**
 * A worker: takes jobs, fetches the weights that it lacks, draws, and puts results. It keeps nothing that would be missed: what
 * it had under way when it is killed goes to another worker.
 */
import type { JsMsg } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { deviceFailure } from "../open/surviving.ts";
import { isUserError } from "../runtime/errors.ts";
import { VERSION } from "../runtime/version.ts";
import { BlobReader } from "./blobs.ts";
import type { ClusterConnection } from "./connection.ts";
import { ClusterError } from "./errors.ts";
import type { Hello } from "./hello.ts";
import { Intake } from "./intake.ts";
import { type AnyJob, type JobKind, sampling, scoring } from "./kinds.ts";
import { mirroredFiles } from "./mirror.ts";
import { ACK_WAIT, helloSubject, type KindName, kinds, resultSubject } from "./names.ts";
import { pause } from "./pause.ts";
import { HeldPolicy, type HeldWeights } from "./policy.ts";
import { type Streams, streamsOf } from "./streams.ts";
import { type Drawer, type FileRef, OtherVersion, type PolicyRef, Refused, writeError } from "./wire.ts";

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
   * their way. "drawing": a job is under way.
   */
  at: "away" | "waiting" | "fetching" | "drawing";
  /** Jobs done since `runWorker` was called. */
  done: number;
  /** Tokens of these jobs. */
  tokens: number;
  /** Tokens per second of these jobs, the time for weights included. */
  tokensPerSecond: number;
  /** The file that is being fetched, in bytes. */
  fetching: { name: string; done: number; total: number } | null;
}

const HELLO_MS = 5000;
const RETRY_MS = 1000;

/**
 * Works until the signal fires or the server refuses the credential. Returns the jobs done.
 * @throws ClusterError where it can work here no more: the connection is closed for good, the trainer is another version of webrlhf,
 * the GPU was lost
 */
export async function runWorker(connection: ClusterConnection, options: WorkerOptions): Promise<number> {
  const { nc, user, expires } = connection;
  const { signal, say = () => {}, watch = () => {} } = options;
  const streams = await streamsOf(nc);
  const state: WorkerState = { at: "waiting", done: 0, tokens: 0, tokensPerSecond: 0, fetching: null };
  const become = (change: Partial<WorkerState>) => watch({ ...Object.assign(state, change) });
  const heard = ({ name, size }: FileRef, bytes: number) =>
    become({ at: "fetching", fetching: { name, done: bytes, total: size } });
  const files = mirroredFiles(new BlobReader(streams.jsm, heard), heard, say);
  const held = ((options.held as HeldPolicy | undefined) ?? new HeldPolicy()).from(files);
  const scorer = new HeldPolicy(files, null, "score");
  const skills: Record<KindName, Skill> = { sample: skillOf(sampling, held), score: skillOf(scoring, scorer) };
  const told: Hello = {
    worker: options.name,
    adapter: options.adapter,
    webrlhf: VERSION,
    done: 0,
    tokensPerSecond: 0,
    busy: false,
  };
  const intake = new Intake(streams, options.roles ?? kinds, say);
  let seconds = 0;
  void (async () => {
    for await (const { type } of nc.status()) {
      if (type === "disconnect") become({ at: "away", fetching: null });
      else if (type === "reconnect" && state.at === "away") become({ at: told.busy ? "drawing" : "waiting" });
    }
  })();
  const hello = () => {
    if (!nc.isClosed()) nc.publish(helloSubject(user), JSON.stringify(told));
  };
  const greeting = setInterval(hello, HELLO_MS);
  hello();
  become({});
  let waiting = false;
  try {
    while (!signal.aborted) {
      if (nc.isClosed()) throw closed(await nc.closed(), expires ?? null);
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
      told.busy = true;
      const drawing = () => become({ at: "drawing", fetching: null });
      const done = await oneJob(taken.message, { nc, streams, skill: skills[taken.kind], user, options, drawing });
      told.busy = false;
      const tokens = state.tokens + (done?.tokens ?? 0);
      seconds += done?.seconds ?? 0;
      const tokensPerSecond = Math.round(tokens / Math.max(seconds, 1e-3));
      become({ at: "waiting", fetching: null, tokens, done: state.done + (done ? 1 : 0), tokensPerSecond });
      Object.assign(told, { done: state.done, tokensPerSecond });
      if (done) hello();
    }
    await nc.flush().catch(() => {}); // what was given back reaches the server
  } finally {
    clearInterval(greeting);
    if (!options.held) held.destroy();
    scorer.destroy();
  }
  return state.done;
}

/** Does jobs of a kind. */
type Skill = (
  bytes: Uint8Array,
  signal: AbortSignal,
  begins: () => void,
) => Promise<{ tokens: number; encoded: (key: string, drawer: Drawer) => Uint8Array }>;

/** Does a kind's jobs with the weights that they name. */
const skillOf =
  <J extends AnyJob, R, M>(
    kind: JobKind<J, R, M, never>,
    held: { model(ref: PolicyRef, signal: AbortSignal): Promise<M> },
  ): Skill =>
  async (bytes, signal, begins) => {
    const { policy, job } = kind.decode(bytes);
    const model = await held.model(policy, signal);
    begins();
    const result = await kind.run(model, job, signal);
    return {
      tokens: kind.tokens(job, result),
      encoded: (key, drawer) => kind.encodeResult(key, drawer, result),
    };
  };

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
  const drawer = () => ({ worker, adapter, seconds: (performance.now() - began) / 1000 });
  const subject = resultSubject(user, run, key);
  const beat = setInterval(() => message.working(), (ACK_WAIT * 1000) / 4);
  try {
    const { tokens, encoded } = await skill(message.data, signal, drawing);
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
