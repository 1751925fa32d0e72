/** Which workers are there, and what is said where none is. */
import { readHello } from "./hello.ts";

/** Workers say every 5 seconds that they are there. */
const ALONE_MS = 6000;
/** Who was not heard of for so long is gone. */
const GONE_MS = 13_000;

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

  /** A worker has been heard of. */
  greeted = (error: Error | null, message: { subject: string; data: Uint8Array }): void => {
    const hello = error ? null : readHello(message.subject, message.data);
    if (!hello) return;
    this.told = true;
    this.heard.set(`${hello.member}/${hello.worker}`, Date.now());
  };

  /** How many workers were heard of a moment ago. */
  get size(): number {
    const since = Date.now() - GONE_MS;
    for (const [name, at] of this.heard) if (at < since) this.heard.delete(name);
    return this.heard.size;
  }

  /** Says that nobody is there, where that is so and was not said. */
  tell(): void {
    if (this.told || Date.now() - this.began < this.ms) return;
    this.told = true;
    this.say(`no worker has joined: ${this.alone}; start one with webrlhf worker --cluster URL --creds worker.creds`);
  }
}
