/** The models that a server has: the one it was started with, and adapters on it that come and go. */
import { Adapters } from "./adapters.ts";
import { badField } from "./errors.ts";
import type { TextModel } from "./model.ts";
import { unknownModel } from "./request.ts";

export class ServedModels {
  readonly base: TextModel;
  readonly adapters: Adapters;

  constructor(base: TextModel, adapters = new Adapters(base)) {
    this.base = base;
    this.adapters = adapters;
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
