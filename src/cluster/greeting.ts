/** A worker's hellos: each says that it is there, and asks whether it is needed. */

import { Answers, type StandBy } from "./answers.ts";
import type { ClusterConnection } from "./connection.ts";
import { HELLO_MS, type Hello } from "./hello.ts";
import { helloSubject, inboxOf } from "./names.ts";
import { packages } from "./packages.ts";

/** So long a worker that comes waits to hear whether it is needed, milliseconds. */
const ANSWER_MS = 1000;

/** Greets trainers every few seconds, and hears their answers. */
export class Greeting {
  private readonly connection: ClusterConnection;
  private readonly told: Hello;
  private readonly changed: (standBy: StandBy | null) => void;
  private readonly answers = new Answers();
  /** Each hello is answered under a subject of its own below this: the server lets a trainer answer each once. */
  private readonly inbox: string;
  private hellos = 0;
  private readonly timer: ReturnType<typeof setInterval>;
  private readonly end: () => void;

  private constructor(
    connection: ClusterConnection,
    told: Hello,
    changed: (standBy: StandBy | null) => void,
    inbox: string,
  ) {
    this.connection = connection;
    this.told = told;
    this.changed = changed;
    this.inbox = inbox;
    const heard = connection.nc.subscribe(`${inbox}.*`, {
      callback: (error, message) => {
        if (!error) this.answers.hear(message.data);
        if (!told.busy) this.look();
      },
    });
    this.end = () => heard.unsubscribe();
    this.timer = setInterval(() => this.hello(), HELLO_MS);
    this.hello();
  }

  /**
   * Begins.
   * @param told what is told, as it is at the time
   * @param changed hears when the worker is to stand by, and when it is needed again, but not while it is busy
   */
  static async begin(
    connection: ClusterConnection,
    told: Hello,
    changed: (standBy: StandBy | null) => void,
  ): Promise<Greeting> {
    const { createInbox } = await packages.core();
    return new Greeting(connection, told, changed, createInbox(inboxOf(connection.user)));
  }

  /** Greets at once. */
  hello(): void {
    const { nc, user } = this.connection;
    const reply = `${this.inbox}.${this.hellos++}`;
    if (!nc.isClosed()) nc.publish(helloSubject(user), JSON.stringify(this.told), { reply });
  }

  /** Resolves when the first answer is there, or was waited for long enough. */
  answered(signal: AbortSignal): Promise<void> {
    return this.answers.first(ANSWER_MS, signal);
  }

  /** Whether others suffice. */
  look(): boolean {
    const { standBy } = this.answers;
    if (Boolean(standBy) !== this.told.standsBy) {
      this.told.standsBy = Boolean(standBy);
      this.changed(standBy);
    }
    return this.told.standsBy;
  }

  /** Resolves when it should be looked again whether others suffice. */
  news(signal: AbortSignal): Promise<void> {
    return this.answers.change(HELLO_MS, signal);
  }

  /** Greets no more. */
  close(): void {
    clearInterval(this.timer);
    this.end();
  }
}
