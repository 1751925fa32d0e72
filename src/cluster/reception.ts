/** Hears which workers are there, and answers whether they are needed. */
import type { NatsConnection } from "@nats-io/nats-core";
import type { TrainerOptions } from "./asked.ts";
import { Company, nameOf } from "./company.ts";
import { ANSWER_HOLDS, type Answer } from "./hello.ts";
import { inboxOf, type KindName } from "./names.ts";
import { Serving } from "./serving.ts";

/** A trainer's side of workers' hellos. */
export class Reception {
  readonly serving: Serving;
  private readonly company: Company;
  private readonly nc: NatsConnection;
  private readonly options: TrainerOptions;
  private readonly kind: KindName;
  /** The credential lets the trainer answer. */
  private answers = true;

  /** @param ignores whether nothing that a member sends is looked at */
  constructor(nc: NatsConnection, kind: KindName, options: TrainerOptions, ignores: (member: string) => boolean) {
    this.nc = nc;
    this.kind = kind;
    this.options = options;
    this.company = new Company(options.say, options.alone, options.aloneMs);
    this.serving = new Serving(() => this.company.names.filter((name) => !ignores(name.split("/")[0])));
    nc.subscribe("hello.*", {
      callback: (error, message) => {
        if (!error) this.greeted(message.subject, message.data, message.reply);
      },
    });
    void this.watch();
  }

  /** Looks whether nobody has come, or what was planned goes wrong. */
  look(): void {
    this.company.tell();
    this.serving.look();
  }

  private greeted(subject: string, bytes: Uint8Array, reply: string | undefined): void {
    const hello = this.company.greeted(subject, bytes, this.kind);
    // Only to the worker itself: a trainer may speak where workers may not, and says nothing there for them.
    if (!hello || !this.answers || !reply?.startsWith(`${inboxOf(hello.member)}.`) || this.nc.isClosed()) return;
    const standBy = !this.serving.serves(nameOf(hello));
    const { run } = this.options;
    const answer: Answer = { run, standBy, enough: this.serving.served, holds: ANSWER_HOLDS };
    this.nc.publish(reply, JSON.stringify(answer));
  }

  /** Credentials from before there were answers do not let a trainer give any: everybody is served then, as it was. */
  private async watch(): Promise<void> {
    for await (const event of this.nc.status()) {
      if (event.type === "error" && /permission/i.test(event.error.message) && /_INBOX_/.test(event.error.message))
        this.answers = false;
    }
  }
}
