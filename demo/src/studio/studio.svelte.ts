/** The studio's state, and what a visitor may do: one job at a time in the worker. */
import {
  createSession,
  type Run,
  type RunState,
  type SavedRun,
  type Session,
  type SessionDevice,
} from "webrlhf/worker";
import type { Answering } from "./answering.svelte.ts";
import type { Labelling } from "./labelling.svelte.ts";
import type { Asked, DataFile, DataSummary, Kept, Look, Opened, PairInput, Thought, TrainInput } from "./protocol.ts";
import type { StudioEvent } from "./train.ts";

/** What the worker is doing. */
export type Job = "open" | "chat" | "pair" | "train";

export class Studio {
  device: SessionDevice | null = $state.raw(null);
  /** Why nothing can be computed here. */
  lacking = $state("");
  job: Job | null = $state(null);
  /** How far the job's longer work is; "what" in the library's words. */
  progress: { what: string; done: number; total: number } | null = $state.raw(null);
  /** What went wrong, by the part of the page that it belongs to. */
  failure: Partial<Record<Job | "look" | "data" | "out", string>> = $state({});
  notice = $state("");
  opened: Opened | null = $state.raw(null);
  data: { file: DataFile; summary: DataSummary } | null = $state.raw(null);
  shelf: Kept[] = $state.raw([]);
  /** The adapter that answers beside its base. */
  adapter: Kept | null = $state.raw(null);
  unfinished: SavedRun[] = $state.raw([]);
  training: readonly StudioEvent[] = $state.raw([]);
  trainState: RunState | null = $state(null);
  /** Bytes on the GPU that the worker holds. */
  held = $state(0);
  private trainRun: Run<StudioEvent> | null = null;
  private run: Run<unknown> | null = null;
  private session: Session;
  private worker: Worker | null = null;
  private picked: readonly (readonly [string, File])[] = [];

  constructor() {
    const hire = () => {
      this.worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
      this.give(this.worker);
      return this.worker;
    };
    this.session = createSession(hire, { autosave: { folder: "webrlhf-studio-runs" } });
  }

  async start(): Promise<void> {
    if (!("gpu" in navigator)) {
      this.lacking = isSecureContext
        ? "This browser has no WebGPU."
        : "The page came over an insecure connection, where browsers hide WebGPU.";
      return;
    }
    try {
      this.device = await this.session.device();
      await this.refresh();
      const saved = await this.session.unfinished();
      for (const { id, program } of saved) if (program !== "train") void this.session.forget(id).catch(() => {});
      this.unfinished = saved.filter(({ program, held }) => program === "train" && !held);
    } catch (error) {
      if (this.device) this.notice = (error as Error).message;
      else this.lacking = (error as Error).message;
    }
  }

  close(): void {
    void this.session.close();
  }

  /** Files for the worker, also for one that comes later. */
  pick(files: readonly (readonly [string, File])[]): void {
    this.picked = files;
    if (this.worker) this.give(this.worker);
  }

  private give(worker: Worker): void {
    worker.postMessage({ type: "picked", files: this.picked });
  }

  look(asked: Asked, train: Thought, signal: AbortSignal): Promise<Look> {
    return this.session.query("look", { ...asked, train }, { signal }) as Promise<Look>;
  }

  async open(asked: Asked): Promise<void> {
    this.opened = null;
    this.adapter = null;
    await this.work<Opened>("open", "open", asked, (event) => {
      this.opened = event;
    });
  }

  /** Asks the worker's models; `answering` takes what they say. */
  ask(input: unknown, answering: Answering): Promise<void> {
    return this.work("chat", "chat", input, (event) => answering.hear(event as never));
  }

  /** Draws two answers onto the table. */
  pair(input: PairInput, labelling: Labelling): Promise<void> {
    return this.work("pair", "pair", input, (event) => labelling.hear(event as never));
  }

  async readData(file: DataFile): Promise<void> {
    delete this.failure.data;
    this.data = null;
    try {
      this.data = { file, summary: (await this.session.query("data", file)) as DataSummary };
    } catch (error) {
      this.failure.data = (error as Error).message;
    }
  }

  async train(input: TrainInput): Promise<void> {
    this.training = [];
    await this.follow(this.session.run({ program: "train", input }) as Run<StudioEvent>);
  }

  async goOn({ id }: SavedRun): Promise<void> {
    this.unfinished = this.unfinished.filter((one) => one.id !== id);
    this.training = [];
    await this.follow(this.session.goOn(id) as Run<StudioEvent>);
  }

  async forget({ id }: SavedRun): Promise<void> {
    this.unfinished = this.unfinished.filter((one) => one.id !== id);
    await this.session.forget(id).catch(() => {});
  }

  pause(): void {
    if (this.trainState === "paused" || this.trainState === "pausing") this.trainRun?.resume();
    else this.trainRun?.pause();
  }

  /** Ends what is under way; resolves when its memory is free. */
  async cancel(): Promise<void> {
    await this.run?.cancel();
  }

  async refresh(): Promise<void> {
    this.shelf = (await this.session.query("shelf", null)) as Kept[];
  }

  async drop(name: string): Promise<void> {
    if (this.adapter?.name === name) this.adapter = null;
    await this.session.query("drop", name);
    await this.refresh();
  }

  /** Gives the model's memory back. */
  async unload(): Promise<void> {
    this.opened = null;
    await this.session.query("free", null);
    await this.measure();
  }

  private async measure(): Promise<void> {
    this.held = (await this.session.query("held", null).catch(() => 0)) as number;
  }

  zip(name: string, base: string, readme: string): Promise<Blob> {
    return this.session.query("zip", { name, base, readme }) as Promise<Blob>;
  }

  private async follow(run: Run<StudioEvent>): Promise<void> {
    this.trainRun = run;
    await this.drive("train", run, async (event) => {
      this.training = [...this.training, event];
      if (event.type !== "kept") return;
      await this.refresh();
      if (event.kept.method !== "reward") this.adapter = event.kept;
    });
  }

  private work<E>(job: Job, program: string, input: unknown, hear: (event: E) => void): Promise<void> {
    return this.drive(job, this.session.run({ program, input }) as Run<E>, hear);
  }

  private async drive<E>(job: Job, run: Run<E>, hear: (event: E) => void | Promise<void>): Promise<void> {
    this.run = run as Run<unknown>;
    this.job = job;
    this.notice = "";
    delete this.failure[job];
    const leave = run.subscribe(() => {
      this.progress = run.progress;
      if (job === "train") this.trainState = run.state;
      this.notice = run.notices.at(-1)?.message ?? "";
    });
    try {
      for await (const { event } of run) await hear(event);
    } catch (error) {
      if (run.state !== "cancelled") this.failure[job] = (error as Error).message;
    } finally {
      leave();
      if (job === "train") this.trainState = run.state;
      this.progress = null;
      this.job = null;
      this.run = null;
      await this.measure();
    }
  }
}
