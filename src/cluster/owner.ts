/** One trainer for each run: a key that its trainer renews, and that goes when it does not. */
import type { KV } from "@nats-io/kv";
import type { NatsConnection } from "@nats-io/nats-core";
import { UserError } from "../runtime/errors.ts";
import { RUNS } from "./names.ts";
import { packages } from "./packages.ts";
import { trainersPackages } from "./trainers-packages.ts";

/** A key that is not renewed for so long goes. */
const TTL_MS = 15_000;
const RENEW_MS = 4000;

/** The name of a run, held for as long as its trainer lives. */
export class Ownership {
  /** Why the run is not this trainer's any more. */
  lost: UserError | null = null;
  private readonly nc: NatsConnection;
  private readonly run: string;
  private readonly value: string;
  private readonly taken: Taken;
  private kv: KV | null = null;
  private revision = 0;
  private timer: ReturnType<typeof setInterval> | null = null;
  private renewing = false;

  private constructor(nc: NatsConnection, run: string, who: string, taken: Taken) {
    this.taken = taken;
    this.nc = nc;
    this.run = run;
    this.value = JSON.stringify({ who, id: crypto.randomUUID() });
  }

  /**
   * Takes a run's name. One that was killed holds it a little longer: that is waited for.
   * @param who the trainer, for others' messages
   * @param waitsMs how long that is waited for
   * @param taken what is thrown where somebody else has it
   * @throws UserError where another trainer has it
   */
  static async take(
    nc: NatsConnection,
    run: string,
    who: string,
    say: (line: string) => void,
    waitsMs = TTL_MS + 3000,
    taken = trainerTaken,
  ): Promise<Ownership> {
    const own = new Ownership(nc, run, who, taken);
    let said = false;
    for (const began = Date.now(); ; ) {
      const other = await own.create();
      if (other === null) break;
      if (Date.now() - began > waitsMs) throw taken(run, other);
      if (!said) say(`${other} had the run ${run} a moment ago: waiting up to ${TTL_MS / 1000} s whether it is gone`);
      said = true;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    own.timer = setInterval(() => void own.renew(), RENEW_MS);
    return own;
  }

  /** Gives the name back. */
  async release(): Promise<void> {
    if (this.timer) clearInterval(this.timer);
    if (!this.lost) await this.kv?.delete(this.run, { previousSeq: this.revision }).catch(() => {}); // it goes by itself
  }

  /** Null where the name is this trainer's now, else who has it. */
  private async create(): Promise<string | null> {
    const { Kvm } = await trainersPackages.keyValue();
    const { StorageType } = await packages.jetstream();
    this.kv = await new Kvm(this.nc).create(RUNS, { ttl: TTL_MS, history: 1, storage: StorageType.Memory });
    try {
      this.revision = await this.kv.create(this.run, this.value);
      return null;
    } catch (error) {
      const entry = await this.kv.get(this.run);
      if (entry?.operation !== "PUT") throw error;
      const text = entry.string();
      if (text !== this.value) return whoIn(text);
      this.revision = entry.revision;
      return null;
    }
  }

  private async renew(): Promise<void> {
    if (this.renewing || this.lost || this.nc.isClosed()) return;
    this.renewing = true;
    try {
      this.revision = await (this.kv as KV).update(this.run, this.value, this.revision);
    } catch {
      // The server was away, was emptied, or somebody else came: who has the name now?
      const other = await this.create().catch(() => null);
      if (other !== null) this.lost = this.taken(this.run, other);
    } finally {
      this.renewing = false;
    }
  }
}

/** The trainer that a key names. */
export function whoIn(text: string): string {
  try {
    return String((JSON.parse(text) as { who?: unknown }).who ?? "another trainer");
  } catch {
    return "another trainer";
  }
}

export type Taken = (run: string, other: string) => UserError;

const trainerTaken: Taken = (run, other) =>
  new UserError(`the run ${run} has a trainer already (${other}): stop that one, or choose another output folder`);
