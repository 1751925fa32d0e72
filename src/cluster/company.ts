/** Which workers are there, and what is said where none is. */
import { readHello, type SeenWorker } from "./hello.ts";
import type { KindName } from "./names.ts";

/** Workers say every 5 seconds that they are there. */
const ALONE_MS = 6000;
/** Who was not heard of for so long is gone. */
const GONE_MS = 13_000;
/** Nobody makes more than so many up. */
const MOST = 200_000;

/** A worker's name among all: that of its credential, which several may have, with its own. */
export const nameOf = ({ member, worker }: { member: string; worker: string }): string => `${member}/${worker}`;

/** Hears of workers, and says once that none has come. */
export class Company {
  private readonly say: (line: string) => void;
  private readonly alone: string;
  private readonly ms: number;
  private readonly began = Date.now();
  private readonly heard = new Map<string, number>();
  /** A worker has been heard of, or it was said that there is none. */
  private told = false;

  /**
   * @param alone what is so where no worker comes
   * @param ms how long none must have been heard of. Default 6000
   */
  constructor(say: (line: string) => void, alone = "the trainer samples alone", ms = ALONE_MS) {
    this.say = say;
    this.alone = alone;
    this.ms = ms;
  }

  /** A worker has been heard of. Null where that was none, one that takes no such jobs, or one too many. */
  greeted(subject: string, bytes: Uint8Array, kind: KindName): SeenWorker | null {
    const hello = readHello(subject, bytes);
    if (!hello?.roles.includes(kind)) return null;
    this.told = true;
    const name = nameOf(hello);
    if (this.heard.size >= MOST && !this.heard.has(name)) return null;
    this.heard.set(name, Date.now());
    return hello;
  }

  /** Names of those that were heard of a moment ago. */
  get names(): string[] {
    const since = Date.now() - GONE_MS;
    for (const [name, at] of this.heard) if (at < since) this.heard.delete(name);
    return [...this.heard.keys()];
  }

  /** Says that nobody is there, where that is so and was not said. */
  tell(): void {
    if (this.told || Date.now() - this.began < this.ms) return;
    this.told = true;
    this.say(`no worker has joined: ${this.alone}; start one with webrlhf worker --cluster URL --creds worker.creds`);
  }
}
