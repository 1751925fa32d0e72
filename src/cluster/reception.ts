/** Hears which workers are there, and answers whether they are needed. */
import type { TrainerOptions } from "./asked.ts";
import { Company, nameOf } from "./company.ts";
import type { ClusterConnection } from "./connection.ts";
import { ANSWER_HOLDS, type Answer } from "./hello.ts";
import { inboxOf, type KindName } from "./names.ts";
import { Serving } from "./serving.ts";

/** A trainer's side of workers' hellos. */
export class Reception {
  readonly serving: Serving;
  private readonly company: Company;
  private readonly connection: ClusterConnection;
  private readonly options: TrainerOptions;
  private readonly kind: KindName;

  /** @param ignores whether nothing that a member sends is looked at */
  constructor(
    connection: ClusterConnection,
    kind: KindName,
    options: TrainerOptions,
    ignores: (member: string) => boolean,
  ) {
    this.connection = connection;
    this.kind = kind;
    this.options = options;
    this.company = new Company(options.say, options.alone, options.aloneMs);
    this.serving = new Serving(() => this.company.names.filter((name) => !ignores(name.split("/")[0])));
    connection.nc.subscribe("hello.*", {
      callback: (error, message) => {
        if (!error) this.greeted(message.subject, message.data, message.reply);
      },
    });
  }

  /** Looks whether nobody has come, or what was planned goes wrong. */
  look(): void {
    this.company.tell();
    this.serving.look();
  }

  /** A version of the policy is published: see `Serving`. Who may not answer plans nothing, and serves everybody. */
  published(overlaps: boolean): void {
    if (this.connection.answers) this.serving.published(overlaps);
  }

  private greeted(subject: string, bytes: Uint8Array, reply: string | undefined): void {
    const hello = this.company.greeted(subject, bytes, this.kind);
    const { nc, answers } = this.connection;
    // Credentials from before there were answers permit none: everybody is served then, but whom other runs let stand by.
    if (!hello || !answers || nc.isClosed()) return;
    // Only to the worker itself: a trainer may speak where workers may not, and says nothing there for them.
    if (!reply?.startsWith(`${inboxOf(hello.member)}.`)) return;
    const standBy = !this.serving.serves(nameOf(hello));
    const { run } = this.options;
    const answer: Answer = { run, standBy, enough: this.serving.served, holds: ANSWER_HOLDS };
    nc.publish(reply, JSON.stringify(answer));
  }
}
