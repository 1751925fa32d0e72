/**
 * Learners of a run in a cluster. No one of them leads: a learner puts its part of a round into the store, and whoever first sees that
 * enough are there writes down which of them count, which the server lets one do only. What the server forgets is put again by
 * who has it; a learner that comes too late goes on from the state that the others have.
 */
import type { JetStreamManager } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import type { LearnerExchange, RoundResult } from "../rlhf/learners.ts";
import { UserError } from "../runtime/errors.ts";
import { BlobWriter } from "./blob-writer.ts";
import { BlobReader, sha256Of } from "./blobs.ts";
import type { ClusterConnection } from "./connection.ts";
import { isToken, LEARNERS, learnerOf, learnersOf, RUNS } from "./names.ts";
import { Ownership } from "./owner.ts";
import { Reach } from "./reach.ts";
import { streamsOf } from "./streams.ts";
import { trainersPackages } from "./trainers-packages.ts";
import type { FileRef } from "./wire.ts";

/** A learner of a run. */
export interface LearnerOptions {
  /** The run that the learners have in common: letters, digits, "-" and "_". */
  run: string;
  /** Which of them this one is, from 1. */
  number: number;
  /** The learner, for others' messages. */
  who: string;
  /** A round needs so many parts. Default 1. */
  quorum?: number;
  /** With as many, it waits so long for the parts of others that are there, milliseconds. Default ten minutes. */
  graceMs?: number;
  /** How long is waited for one of this number that was there a moment ago, milliseconds. Default: until it must be gone. */
  waitsMs?: number;
  say: (line: string) => void;
}

const LOOK_MS = 200;
const SWEEP_MS = 3000;
const GRACE_MS = 600_000;
/** Parts of rounds that are kept for learners which are behind. */
const KEPT_ROUNDS = 2;

interface Closed {
  parts: FileRef[];
}
interface Offered {
  rounds: number;
  state: FileRef;
}

/** A learner's side of a cluster. */
export class ClusterLearners implements LearnerExchange {
  readonly number: number;
  private readonly connection: ClusterConnection;
  private readonly options: LearnerOptions;
  private readonly owner: Ownership;
  private readonly jsm: JetStreamManager;
  private readonly reader: BlobReader;
  private readonly blobs: BlobWriter;
  private readonly reach: Reach;
  private kv: KV | null = null;
  /** The state after the last round. */
  private newest: { rounds: number; state: () => Uint8Array } | null = null;
  private at = 0;
  private readonly timer: ReturnType<typeof setInterval>;
  private sweeping = false;

  private constructor(connection: ClusterConnection, options: LearnerOptions, owner: Ownership, jsm: JetStreamManager) {
    this.connection = connection;
    this.options = options;
    this.number = options.number;
    this.owner = owner;
    this.jsm = jsm;
    this.reader = new BlobReader(jsm);
    this.blobs = new BlobWriter(connection.nc);
    this.reach = new Reach(options.say);
    this.timer = setInterval(() => void this.sweep(), SWEEP_MS);
  }

  /** Joins a run as the one learner of a number. Throws UserError where the run has one of that number. */
  static async join(connection: ClusterConnection, options: LearnerOptions): Promise<ClusterLearners> {
    const { run, number, who, say, waitsMs } = options;
    if (!isToken(run)) throw new UserError(`${run} cannot be a run's name: take letters, digits, "-" and "_"`);
    const owner = await Ownership.take(connection.nc, learnerOf(run, number), who, say, waitsMs, (_, other) => {
      return new UserError(`the run ${run} has a learner ${number} already (${other}): give this one another number`);
    });
    const { jsm } = await streamsOf(connection.nc);
    return new ClusterLearners(connection, options, owner, jsm);
  }

  async enter(): Promise<{ rounds: number; state: Uint8Array } | null> {
    const offered = await this.offered(await this.bucket());
    return offered && { rounds: offered.rounds, state: await this.reader.get(offered.state) };
  }

  async round(round: number, part: Uint8Array, signal?: AbortSignal): Promise<RoundResult> {
    const ref = await refOf("a learner's part", part);
    this.at = round;
    let enoughSince: number | null = null;
    for (;;) {
      signal?.throwIfAborted();
      if (this.owner.lost) throw this.owner.lost;
      if (this.connection.nc.isClosed())
        throw new UserError("the server has ended the connection: the credential has expired or was revoked");
      let found: RoundResult | null = null;
      await this.reach.do(async () => {
        const kv = await this.bucket();
        await this.blobs.put(ref, async () => part);
        await this.tell(kv, `${round}.part.${this.number}`, ref);
        await this.tell(kv, `at.${this.number}`, round);
        found = await this.outcome(kv, round, signal);
        if (found) return;
        const parts = await this.partsOf(kv, round);
        if (parts.size < (this.options.quorum ?? 1)) return;
        enoughSince ??= Date.now();
        const missing = (await this.present(kv)).filter(({ number, at }) => !parts.has(number) || at > round);
        // Where others are further, the round is closed: the server has forgotten it, and they offer what came of it.
        if (missing.some(({ at }) => at > round)) return;
        if (missing.length > 0 && Date.now() - enoughSince < (this.options.graceMs ?? GRACE_MS)) return;
        await this.closeRound(kv, round, parts);
        for (const { number } of missing) this.options.say(`learner ${number} was too late for round ${round + 1}`);
      });
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async offer(rounds: number, state: () => Uint8Array): Promise<void> {
    this.at = rounds;
    this.newest = { rounds, state };
  }

  /** Leaves; the others do not wait for this one any more. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.sweep();
    await this.owner.release();
    await this.connection.nc.close();
  }

  private key = (name: string): string => `${this.options.run}.${name}`;

  private async bucket(): Promise<KV> {
    if (this.kv) return this.kv;
    const { Kvm } = await trainersPackages.keyValue();
    this.kv = await new Kvm(this.connection.nc).create(LEARNERS, { history: 1 });
    return this.kv;
  }

  /** Writes down what is not there. */
  private async tell(kv: KV, name: string, value: unknown): Promise<void> {
    const text = JSON.stringify(value);
    const known = await this.get(kv, name);
    if (known !== text) await kv.put(this.key(name), text);
  }

  private async get(kv: KV, name: string): Promise<string | null> {
    try {
      const entry = await kv.get(this.key(name));
      return entry?.operation === "PUT" ? entry.string() : null;
    } catch (error) {
      this.forget(); // the store may have been deleted
      throw error;
    }
  }

  private forget(): void {
    this.kv = null;
    this.blobs.forget();
  }

  /** What came of a round, if it is closed or the others are further. */
  private async outcome(kv: KV, round: number, signal?: AbortSignal): Promise<RoundResult | null> {
    const closed = await this.get(kv, `${round}.closed`);
    if (closed !== null) {
      const { parts } = JSON.parse(closed) as Closed;
      const read = await Promise.all(parts.map((ref) => this.reader.get(ref, signal))).catch(() => null);
      if (read) return { parts: read };
    }
    const offered = await this.offered(kv);
    if (!offered || offered.rounds <= round) return null;
    const state = await this.reader.get(offered.state, signal).catch(() => null);
    return state && { rounds: offered.rounds, state };
  }

  private async offered(kv: KV): Promise<Offered | null> {
    const text = await this.get(kv, "state");
    return text === null ? null : (JSON.parse(text) as Offered);
  }

  /** Names below one in a bucket. */
  private async below(bucket: string, prefix: string): Promise<string[]> {
    const filter = `$KV.${bucket}.${prefix}.`;
    const { state } = await this.jsm.streams.info(`KV_${bucket}`, { subjects_filter: `${filter}>` });
    return Object.keys(state.subjects ?? {}).map((subject) => subject.slice(filter.length));
  }

  /** Parts of a round that are there, by learner. */
  private async partsOf(kv: KV, round: number): Promise<Map<number, FileRef>> {
    const parts = new Map<number, FileRef>();
    for (const number of await this.below(LEARNERS, this.key(`${round}.part`))) {
      const text = await this.get(kv, `${round}.part.${number}`);
      if (text !== null) parts.set(Number(number), JSON.parse(text) as FileRef);
    }
    return parts;
  }

  /** Learners that are there, with the round that each is in. */
  private async present(kv: KV): Promise<{ number: number; at: number }[]> {
    const { Kvm } = await trainersPackages.keyValue();
    const runs = await new Kvm(this.connection.nc).open(RUNS);
    const found: { number: number; at: number }[] = [];
    for (const number of await this.below(RUNS, learnersOf(this.options.run))) {
      const entry = await runs.get(learnerOf(this.options.run, Number(number)));
      if (entry?.operation !== "PUT") continue;
      found.push({ number: Number(number), at: Number((await this.get(kv, `at.${number}`)) ?? 0) });
    }
    return found;
  }

  /** Writes down which parts count, unless somebody else has. */
  private async closeRound(kv: KV, round: number, parts: ReadonlyMap<number, FileRef>): Promise<void> {
    const inOrder = [...parts].sort(([a], [b]) => a - b).map(([, ref]) => ref);
    const first = await kv.create(this.key(`${round}.closed`), JSON.stringify({ parts: inOrder })).catch(() => null);
    if (first !== null) await this.clean(kv, round - KEPT_ROUNDS);
  }

  private async clean(kv: KV, round: number): Promise<void> {
    if (round < 0) return;
    const kept = new Set([...(await this.partsOf(kv, round + 1)).values()].map(({ sha256 }) => sha256));
    for (const [number, { sha256 }] of await this.partsOf(kv, round)) {
      if (!kept.has(sha256)) await this.blobs.remove(sha256);
      await kv.purge(this.key(`${round}.part.${number}`));
    }
    await kv.purge(this.key(`${round}.closed`));
  }

  /** Has the newest state at hand for those who come, and says where this learner is. */
  private async sweep(): Promise<void> {
    if (this.sweeping || this.connection.nc.isClosed()) return;
    this.sweeping = true;
    try {
      await this.reach.do(async () => {
        const kv = await this.bucket();
        await this.tell(kv, `at.${this.number}`, this.at);
        const offered = await this.offered(kv);
        if (!this.newest || (offered && offered.rounds >= this.newest.rounds)) return;
        const { rounds, state } = this.newest;
        const bytes = state(); // before anything is waited for: the next round changes it
        const ref = await refOf("the learners' state", bytes);
        await this.blobs.put(ref, async () => bytes);
        await this.tell(kv, "state", { rounds, state: ref });
        if (offered) await this.blobs.remove(offered.state.sha256);
      });
    } finally {
      this.sweeping = false;
    }
  }
}

const refOf = async (name: string, bytes: Uint8Array): Promise<FileRef> => ({
  name,
  sha256: await sha256Of(bytes),
  size: bytes.length,
});
