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

/** Saved weights, and when they were saved: others may come to lie in the same folder. */
export interface SavedWeights {
  folder: string;
  created: number;
}

const keyOf = ({ folder, created }: SavedWeights): string => `${created} ${folder}`;

export class Samplers {
  private readonly context: Pick<Context, "models" | "source" | "log">;
  /** By `keyOf`. */
  private readonly open = new Map<string, Open>();
  private generation = 0;
  private readonly waiting: (() => void)[] = [];
  private readonly closing = new Set<Promise<void>>();

  constructor(context: Pick<Context, "models" | "source" | "log">) {
    this.context = context;
  }

  /**
   * Works with a model that is open as long as it takes; once more where its device failed, on a new one.
   * @param weights null is the model that is served
   */
  async use<R>(weights: SavedWeights | null, signal: AbortSignal, work: (model: TextModel) => Promise<R>): Promise<R> {
    const { models, log } = this.context;
    const { generation } = models;
    try {
      return await this.once(weights, signal, work);
    } catch (error) {
      if (!deviceFailure(error) || signal.aborted) throw error;
      await models.revive(error, generation, log);
      return this.once(weights, signal, work);
    }
  }

  /** Closes what is open. */
  async close(): Promise<void> {
    for (const key of [...this.open.keys()]) this.remove(key);
    await Promise.all(this.closing);
  }

  private async once<R>(
    weights: SavedWeights | null,
    signal: AbortSignal,
    work: (model: TextModel) => Promise<R>,
  ): Promise<R> {
    const { models } = this.context;
    if (weights === null) return work(models.base);
    if (this.generation !== models.generation) {
      this.generation = models.generation;
      for (const key of [...this.open.keys()]) this.remove(key);
    }
    const one = await this.take(weights, signal);
    try {
      const { model } = await one.opened;
      return await work(model);
    } finally {
      one.users -= 1;
      one.usedAt = performance.now();
      for (const wake of this.waiting.splice(0)) wake();
    }
  }

  private async take(weights: SavedWeights, signal: AbortSignal): Promise<Open> {
    const key = keyOf(weights);
    for (;;) {
      signal.throwIfAborted();
      const there = this.open.get(key);
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
    const opened = this.context.source.open(weights.folder, "sampler");
    const one: Open = { opened, users: 1, usedAt: performance.now() };
    this.open.set(key, one);
    opened.catch(() => {
      if (this.open.get(key) === one) this.open.delete(key);
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

  private remove(key: string): void {
    const one = this.open.get(key);
    if (!one) return;
    this.open.delete(key);
    const done = one.opened
      .then(({ close }) => close())
      .catch(() => {}) // nobody is left who could be told
      .finally(() => this.closing.delete(done));
    this.closing.add(done);
  }
}
