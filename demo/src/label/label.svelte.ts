/** A page on which somebody labels for a cluster: which pair lies there, how many were labelled, and why nothing comes. */
import {
  type Absence,
  ClusterError,
  connectCluster,
  type LabelChoice,
  type LabellerState,
  type ReadInvitation,
  runLabeller,
  type ShownPair,
} from "webrlhf/cluster";
import type { Shelf } from "../lib/labels.ts";
import { keepPerson, newPerson, type Person, readPerson } from "./person.ts";

/** Where the page stands. "leaving": its pair is being given back. "idle": nobody was here for ten minutes. */
export type Phase = "ready" | "joining" | "labelling" | "leaving" | "paused" | "idle" | "over";

const RETRY_MS = 2000;

export class Labelling {
  phase: Phase = $state("ready");
  person: Person = $state.raw(newPerson());
  told: LabellerState | null = $state.raw(null);
  /** The pair that lies there, with what takes the decision. */
  pair: ShownPair | null = $state.raw(null);
  over: { absence: Absence | null; message: string } | null = $state.raw(null);
  private readonly shelf: Shelf;
  private readonly room: string;
  private readonly invitation: ReadInvitation;
  private decided: ((choice: LabelChoice | null) => void) | null = null;
  private alive: (() => void) | null = null;
  private stop: AbortController | null = null;
  private working: Promise<void> = Promise.resolve();

  constructor(invitation: ReadInvitation, shelf: Shelf) {
    this.invitation = invitation;
    this.shelf = shelf;
    this.room = invitation.member;
    this.person = readPerson(shelf, this.room) ?? this.person;
  }

  /** Takes pairs until it is told to pause. */
  start(name: string): void {
    if (this.stop) return;
    this.keep({ ...this.person, name: name.trim() });
    const stop = new AbortController();
    this.stop = stop;
    this.over = null;
    this.working = this.work(stop.signal).finally(() => {
      this.stop = null;
      this.told = null;
      this.pair = null;
    });
  }

  /** Gives the pair back. Resolves when that is done. */
  async pause(): Promise<void> {
    if (!this.stop) return;
    this.phase = "leaving";
    this.stop.abort();
    await this.working;
  }

  /** Another person sits here now. */
  async someoneElse(): Promise<void> {
    await this.pause();
    this.keep(newPerson());
    this.phase = "ready";
  }

  /** The person has given a sign. */
  sign(): void {
    this.alive?.();
  }

  choose(choice: LabelChoice): void {
    this.decided?.(choice);
  }

  /** Whoever labels in another tab of this browser is the same person. */
  private newest(): Person {
    const kept = readPerson(this.shelf, this.room);
    return kept?.labeller === this.person.labeller ? kept : this.person;
  }

  private keep(person: Person): void {
    this.person = person;
    keepPerson(this.shelf, this.room, person);
  }

  private async work(signal: AbortSignal): Promise<void> {
    let known = false;
    this.phase = "joining";
    while (!signal.aborted) {
      try {
        const end = await this.once(signal, () => {
          known = true;
        });
        if (end === "idle") {
          this.phase = "idle";
          return;
        }
      } catch (error) {
        const absence = error instanceof ClusterError ? error.absence : null;
        if (absence === "unreachable" && known) {
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
          continue;
        }
        this.over = { absence, message: (error as Error).message };
        this.phase = "over";
        return;
      }
    }
    this.phase = "paused";
  }

  private async once(signal: AbortSignal, joined: () => void): Promise<"idle" | "stopped"> {
    const { url, creds } = this.invitation;
    const connection = await connectCluster({ url, creds, file: "the invitation" }, "webrlhf label");
    joined();
    this.phase = "labelling";
    let before = 0;
    try {
      const { end } = await runLabeller(connection, {
        labeller: this.person.labeller,
        name: this.person.name,
        labelled: {
          has: (pair) => this.newest().labelled.includes(pair),
          add: (pair) => {
            const person = this.newest();
            this.keep({ ...person, labelled: [...person.labelled, pair] });
            return new Set();
          },
        },
        signal,
        decide: (pair, alive, gone) => this.decide(pair, alive, gone),
        watch: (state) => {
          this.told = state;
          if (state.done > before) this.keep({ ...this.person, done: this.person.done + state.done - before });
          before = state.done;
        },
      });
      return end;
    } finally {
      await connection.nc.close();
    }
  }

  private decide(pair: ShownPair, alive: () => void, gone: AbortSignal): Promise<LabelChoice | null> {
    this.pair = pair;
    this.alive = alive;
    return new Promise((resolve) => {
      const decided = (choice: LabelChoice | null) => {
        gone.removeEventListener("abort", back);
        this.decided = null;
        this.alive = null;
        this.pair = null;
        resolve(choice);
      };
      const back = () => decided(null);
      gone.addEventListener("abort", back);
      this.decided = decided;
    });
  }
}
