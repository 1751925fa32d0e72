/** The models that a server has: the one it was started with, and adapters on it that come and go. */
import { deviceFailure } from "../open/surviving.ts";
import { Adapters } from "./adapters.ts";
import { badField } from "./errors.ts";
import type { Revive, TextModel } from "./model.ts";
import { unknownModel } from "./request.ts";

/** A model that somebody else has opened cannot be opened anew. */
const failed: Revive = (error) => Promise.reject(error);

export class ServedModels {
  readonly base: TextModel;
  readonly adapters: Adapters;

  /** Counts the devices that the models were on. */
  generation = 0;
  private reviving: Promise<void> | null = null;
  private readonly again: Revive;

  /** @param revive opens the base on a new device */
  constructor(base: TextModel, adapters = new Adapters(base), revive: Revive = failed) {
    this.base = base;
    this.adapters = adapters;
    this.again = revive;
  }

  /**
   * Resolves when the models are on a device that works; throws an error again that came of no failure of the device.
   * @param generation when the request began that met the error: another one may have met it before
   * @param log hears what happened
   */
  revive(error: unknown, generation: number, log: (line: string) => void): Promise<void> {
    if (!deviceFailure(error)) return Promise.reject(error);
    if (this.reviving) return this.reviving;
    if (generation !== this.generation) return Promise.resolve();
    this.reviving = this.renew(error, log).finally(() => {
      this.reviving = null;
    });
    return this.reviving;
  }

  private async renew(error: unknown, log: (line: string) => void): Promise<void> {
    try {
      const what = await this.again(error);
      await this.adapters.revive();
      this.generation += 1;
      log(`${what}; ${this.base.name} is on a new device`);
    } catch (problem) {
      log(`${(error as Error).message}, and there is no going on yet: ${(problem as Error).message}`);
      throw problem;
    }
  }

  get all(): readonly TextModel[] {
    return [this.base, ...this.adapters.models];
  }

  /** The model that a request body names; the base without a name. It stays until it is released. */
  use(body: unknown): { model: TextModel; release(): void } {
    const named = typeof body === "object" && body !== null && Object.hasOwn(body, "model");
    const name = (named ? (body as { model: unknown }).model : null) ?? this.base.name;
    if (typeof name !== "string") throw badField("model", "model must be a string");
    if (name === this.base.name) return { model: this.base, release: () => {} };
    const found = this.adapters.use(name);
    if (found) return found;
    throw unknownModel(
      name,
      this.all.map((model) => model.name),
    );
  }
}
