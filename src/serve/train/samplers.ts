/** Saved weights that are open to be sampled from: a few at once, and those that nobody uses make room. */
import { deviceFailure } from "../../open/surviving.ts";
import type { OpenModel } from "../adapters.ts";
import type { TextModel } from "../model.ts";
import type { Context } from "./context.ts";

interface Open {
  opened: Promise<OpenModel>;
  users: number;
  usedAt: number;
}

export class Samplers {
  private readonly context: Pick<Context, "models" | "source" | "log">;
  private readonly open = new Map<string, Open>();
  private generation = 0;
  private readonly waiting: (() => void)[] = [];
  private readonly closing = new Set<Promise<void>>();

  constructor(context: Pick<Context, "models" | "source" | "log">) {
    this.context = context;
  }

  /**
   * Works with a model that is open as long as it takes; once more where its device failed, on a new one.
   * @param folder of saved weights; null is the model that is served
   */
  async use<R>(folder: string | null, signal: AbortSignal, work: (model: TextModel) => Promise<R>): Promise<R> {
    const { models, log } = this.context;
    const { generation } = models;
    try {
      return await this.once(folder, signal, work);
    } catch (error) {
      if (!deviceFailure(error) || signal.aborted) throw error;
      await models.revive(error, generation, log);
      return this.once(folder, signal, work);
    }
  }

  /** Closes what is open. */
  async close(): Promise<void> {
    for (const folder of [...this.open.keys()]) this.remove(folder);
    await Promise.all(this.closing);
  }

  private async once<R>(
    folder: string | null,
    signal: AbortSignal,
    work: (model: TextModel) => Promise<R>,
  ): Promise<R> {
    const { models } = this.context;
    if (folder === null) return work(models.base);
    if (this.generation !== models.generation) {
      this.generation = models.generation;
      for (const one of [...this.open.keys()]) this.remove(one);
    }
    const one = await this.take(folder, signal);
    try {
      const { model } = await one.opened;
      return await work(model);
    } finally {
      one.users -= 1;
      one.usedAt = performance.now();
      for (const wake of this.waiting.splice(0)) wake();
    }
  }

  private async take(folder: string, signal: AbortSignal): Promise<Open> {
    for (;;) {
      signal.throwIfAborted();
      const there = this.open.get(folder);
      if (there) {
        there.users += 1;
        return there;
      }
      if (this.makeRoom()) break;
      await new Promise<void>((resolve) => {
        this.waiting.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    const opened = this.context.source.open(folder, "sampler");
    const one: Open = { opened, users: 1, usedAt: performance.now() };
    this.open.set(folder, one);
    opened.catch(() => {
      if (this.open.get(folder) === one) this.open.delete(folder);
    });
    return one;
  }

  private makeRoom(): boolean {
    if (this.open.size < this.context.source.maxSamplers) return true;
    const unused = [...this.open].filter(([, { users }]) => users === 0).sort(([, a], [, b]) => a.usedAt - b.usedAt);
    if (unused.length === 0) return false;
    this.remove(unused[0][0]);
    return true;
  }

  private remove(folder: string): void {
    const one = this.open.get(folder);
    if (!one) return;
    this.open.delete(folder);
    const done = one.opened
      .then(({ close }) => close())
      .catch(() => {}) // nobody is left who could be told
      .finally(() => this.closing.delete(done));
    this.closing.add(done);
  }
}
