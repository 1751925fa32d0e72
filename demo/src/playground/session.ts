/**
 * What the page holds between clicks and replies, without the page: one visitor, one worker, one run at a time. The page
 * draws it; a test can click it.
 */
import { sameKnobs } from "./knobs.ts";
import type { Command, Knobs, Order, Report } from "./protocol.ts";
import { applyReply, emptyView, type View } from "./view.ts";

/** A worker, as far as the session needs one. */
export interface Port {
  postMessage(order: Order): void;
  terminate(): void;
}

/** Starts a worker, which opens a device and says so. `broken` is told where the worker itself fails. */
export type Hire = (hear: (report: Report) => void, broken: (why: string) => void) => Port;

export class Session {
  /** What is known of the run. */
  view: View = emptyView();
  /** What went wrong, in words; empty where nothing did. */
  failure = "";
  /** Why this browser cannot train; empty where it can, as far as is known. */
  lacking = "";
  /** The run waits because the tab is hidden. */
  pausedByHiding = false;
  /** What the inputs say. */
  private draft: Knobs;
  /** What the run was started with. */
  private started: Knobs;
  /** The present run's number: see `Order`. */
  private run = 0;
  private port: Port | null = null;
  /** The worker has a device. */
  private met = false;
  private readonly hire: Hire;
  private readonly changed: () => void;

  /** @param changed called after the worker has said something */
  constructor(knobs: Knobs, hire: Hire, changed: () => void) {
    this.draft = knobs;
    this.started = knobs;
    this.hire = hire;
    this.changed = changed;
  }

  /** The knobs of the run; where there is none, those that a start will take. A link to the page names them. */
  get knobs(): Knobs {
    return this.idle ? this.draft : this.started;
  }

  /** What the inputs say. */
  get inputs(): Knobs {
    return this.draft;
  }

  get idle(): boolean {
    return this.view.phase === "idle";
  }

  /** The inputs say something else than the run was started with. */
  get stale(): boolean {
    return !sameKnobs(this.draft, this.knobs);
  }

  /** There is a device to train on. */
  get ready(): boolean {
    return this.met;
  }

  /** The run is over, one way or the other, or was never begun. */
  private get over(): boolean {
    const { phase } = this.view;
    return phase === "idle" || phase === "done" || phase === "broken";
  }

  /** Starts a worker in the place of the one before. */
  connect(): void {
    this.dismiss();
    const port = this.hire(
      (report) => this.port === port && this.hear(report),
      (why) => this.port === port && this.fail(`The training program broke off: ${why}`),
    );
    this.port = port;
  }

  /** The first button: starts, pauses or resumes, by phase. */
  go(): void {
    this.pausedByHiding = false;
    if (this.over) this.begin("run");
    else this.tell({ type: this.view.phase === "running" ? "pause" : "resume" });
  }

  step(): void {
    this.pausedByHiding = false;
    if (this.over) this.begin("step");
    else this.tell({ type: "step" });
  }

  reset(): void {
    this.clear();
    this.tell({ type: "reset" });
  }

  turn(knobs: Knobs): void {
    this.draft = knobs;
  }

  /** A hidden tab does not train: nobody watches, and the machine may be on battery. */
  hide(hidden: boolean): void {
    if (hidden && this.view.phase === "running") {
      this.pausedByHiding = true;
      this.tell({ type: "pause" });
    } else if (!hidden && this.pausedByHiding) {
      this.pausedByHiding = false;
      this.tell({ type: "resume" });
    }
  }

  /** Gives up training here. */
  forgo(reason: string): void {
    this.dismiss();
    this.lacking = reason;
    if (!this.over) this.clear();
    this.changed();
  }

  private begin(mode: "run" | "step"): void {
    this.clear();
    this.started = this.draft;
    this.view.phase = "running";
    this.tell({ type: "start", knobs: this.started, mode });
  }

  /** Forgets the run; what the worker still says of it is not heard. */
  private clear(): void {
    this.run++;
    this.failure = "";
    this.pausedByHiding = false;
    this.view = emptyView(this.view.device);
  }

  private tell(command: Command): void {
    this.port?.postMessage({ run: this.run, command });
  }

  private hear({ run, reply }: Report): void {
    const ofRun = reply.type !== "ready" && !(reply.type === "error" && reply.about === "webgpu");
    if (ofRun && run !== this.run) return;
    if (reply.type === "error") {
      if (reply.about === "webgpu") this.forgo(reply.message);
      else this.fail(`The run broke off: ${reply.message}`);
      return;
    }
    if (reply.type === "ready") this.met = true;
    if (reply.type === "renewed") this.failure = reply.message;
    else applyReply(this.view, reply);
    this.changed();
  }

  private fail(message: string): void {
    this.failure = message;
    this.pausedByHiding = false;
    this.view.phase = this.idle ? "idle" : "broken";
    // A device that failed is of no further use; but a worker that never came will not come the next time either.
    if (this.met) this.connect();
    else this.dismiss();
    this.changed();
  }

  private dismiss(): void {
    this.met = false;
    this.port?.terminate();
    this.port = null;
  }
}
