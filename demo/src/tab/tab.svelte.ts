/** A page that works in a cluster: who invited it, what its worker is doing, and why it does nothing. */
import type { ReadInvitation } from "webrlhf/cluster";
import { createSession, type Run, type Session, type SessionDevice } from "webrlhf/worker";
import type { Over, Told, WorkInput } from "./protocol.ts";

/** Where the page stands. "leaving": it was told to pause, and gives its job back. "hidden": it pauses for it is not seen. */
export type Phase = "ready" | "working" | "leaving" | "paused" | "hidden" | "over";

/** Milliseconds between two looks at the worker. */
const LOOK_MS = 250;

export class Tab {
  device: SessionDevice | null = $state.raw(null);
  phase: Phase = $state("ready");
  told: Told | null = $state.raw(null);
  /** Jobs and tokens before the last pause. */
  before = $state.raw({ done: 0, tokens: 0 });
  /** Why the work ended. */
  over: Over | { absence: null; message: string } | null = $state.raw(null);
  /** Goes on while nobody sees the page. */
  goesOn = $state(false);
  /** What befell the worker: a lost device, say. */
  notice = $state("");
  readonly name = `tab-${Math.random().toString(36).slice(2, 8)}`;
  private readonly session: Session;
  private run: Run<Over> | null = null;
  private invitation: ReadInvitation | null = null;
  private resting: "paused" | "hidden" = "paused";
  private visible = true;

  constructor() {
    const hire = () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    this.session = createSession(hire, { autosave: false }); // its input is a secret
  }

  /** @throws in words why nothing can be computed here */
  async start(): Promise<void> {
    this.device = await this.session.device();
  }

  close(): void {
    void this.run?.cancel();
    void this.session.close();
  }

  /** Works until it is told to pause. */
  async work(invitation: ReadInvitation): Promise<void> {
    this.invitation = invitation;
    if (this.run || !this.device) return;
    const { url, creds } = invitation;
    const input: WorkInput = { url, creds, name: this.name, adapter: this.device.name };
    const run = this.session.run<WorkInput, Over>({ program: "work", input });
    this.run = run;
    this.phase = "working";
    this.resting = "paused";
    this.over = null;
    this.notice = "";
    const leave = run.subscribe(() => {
      this.notice = run.notices.at(-1)?.message ?? "";
    });
    const looking = setInterval(() => void this.look(), LOOK_MS);
    try {
      for await (const { event } of run) this.over = event;
    } catch (error) {
      if (run.state !== "cancelled") this.over = { absence: null, message: (error as Error).message };
    } finally {
      clearInterval(looking);
      leave();
      await this.look();
      const { done, tokens } = this.told ?? { done: 0, tokens: 0 };
      this.before = { done: this.before.done + done, tokens: this.before.tokens + tokens };
      this.told = null;
      this.run = null;
      this.phase = this.over ? "over" : this.resting;
      this.goOn();
    }
  }

  /** Gives the job under way back. Resolves when it is given back. */
  async pause(to: "paused" | "hidden" = "paused"): Promise<void> {
    const { run } = this;
    if (!run) return;
    this.phase = "leaving";
    this.resting = to;
    await run.cancel();
  }

  /** The page is seen, or is no longer. */
  seen(visible: boolean): void {
    this.visible = visible;
    if (!visible && this.phase === "working" && !this.goesOn) void this.pause("hidden");
    this.goOn();
  }

  /** A page that paused because it was not seen works again as soon as it is. */
  private goOn(): void {
    if (this.visible && this.phase === "hidden" && this.invitation) void this.work(this.invitation);
  }

  private async look(): Promise<void> {
    const told = (await this.session.query("told", null).catch(() => null)) as Told | null;
    if (told && this.run) this.told = told;
  }
}
