/** A sequence that grows a token at a time, with its keys and values kept, to look at what may come next. */
import { UserError } from "../runtime/errors.ts";
import { noGrad, scope, type Tensor, tensor } from "../tensor/core.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { packing } from "../tensor/packing.ts";
import { KvCache } from "./cache.ts";
import type { Sequences } from "./decoder.ts";
import { nonFinite } from "./finite.ts";
import type { CausalLM } from "./models.ts";
import { type ChoiceParams, type NextToken, NextTokens } from "./next-tokens.ts";

/** Tokens that run between looks at the signal. */
const STRETCH = 256;

/** How a prefix is opened. */
export interface PrefixOptions {
  /**
   * Tokens that it may come to have; keys and values of so many are kept. Default: 256 more than it begins with, within the
   * model's context.
   */
  capacity?: number;
  /** When it fires, what is running is given up: `openPrefix` frees what it holds and throws the reason. */
  signal?: AbortSignal;
}

/**
 * Runs a prefix through a model, whose weights are only read, and keeps what it needs to go on from it. Weights that are
 * trained meanwhile make what is kept a mixture: open it anew then.
 * @throws UserError for a prefix without tokens or too long for the model's context, and where logits are not finite
 */
export async function openPrefix(
  model: CausalLM,
  ids: ArrayLike<number>,
  options: PrefixOptions = {},
): Promise<LivePrefix> {
  const { maxPositions } = model.config;
  const { capacity = Math.min(maxPositions, ids.length + 256), signal } = options;
  if (ids.length === 0) throw new UserError("the prefix is empty: a model needs at least one token to go on from");
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > maxPositions) {
    throw new UserError(
      `capacity must be a whole number of at most ${maxPositions}, the model's context, not ${capacity}`,
    );
  }
  const live = new LivePrefix(model, capacity, ids.length);
  try {
    await live.push(ids, { signal });
    return live;
  } catch (error) {
    live.free();
    throw error;
  }
}

/** A sequence that grows token by token, and what may follow it; `openPrefix` opens one. */
export class LivePrefix {
  /** Tokens that it may have. */
  readonly capacity: number;
  readonly #model: CausalLM;
  readonly #cache: KvCache;
  readonly #given: number;
  #ids: number[] = [];
  #logits = new Float32Array();
  /** What was asked for last; one thing is done after the other. */
  #work: Promise<void> = Promise.resolve();
  #freed = false;

  /**
   * @param given tokens of the prompt: penalties on what was drawn do not count them
   * @internal
   */
  constructor(model: CausalLM, capacity: number, given: number) {
    this.#model = model;
    this.capacity = capacity;
    this.#given = given;
    this.#cache = new KvCache(model, 1, capacity);
  }

  /** Its tokens so far. */
  get ids(): Uint32Array {
    return Uint32Array.from(this.#ids);
  }

  /** What may come next, under sampling parameters; by default as the model says. Throws `UserError` that names the parameter. */
  next(params: ChoiceParams = {}): NextTokens {
    this.#check();
    const prompt = this.#ids.slice(0, this.#given);
    return new NextTokens(this.#logits, params, {
      config: this.#model.config,
      prompt,
      drawn: this.#ids.slice(this.#given),
    });
  }

  /** The k tokens that are likeliest to come next: `next(params).top(k)`. */
  top(k: number, params: ChoiceParams = {}): NextToken[] {
    return this.next(params).top(k);
  }

  /**
   * Goes on by a token, or by several. Where it fails or is given up, the sequence is what it was.
   * @throws UserError for a token that the model does not have, and beyond the capacity
   */
  push(ids: number | ArrayLike<number>, { signal }: Pick<PrefixOptions, "signal"> = {}): Promise<void> {
    const more = typeof ids === "number" ? [ids] : Array.from(ids);
    return this.#then(async () => {
      const { vocabSize } = this.#model.config;
      const unknown = more.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
      if (unknown !== undefined) throw new UserError(`${unknown} is no token of this model, which has ${vocabSize}`);
      const whole = [...this.#ids, ...more];
      if (whole.length > this.capacity) {
        throw new UserError(
          `a prefix of ${whole.length} tokens is longer than its capacity ${this.capacity}: open it with a larger one`,
        );
      }
      if (more.length > 0) await this.#run(whole, this.#ids.length, signal);
    });
  }

  /** Drops the last n tokens. One must stay. */
  rewind(n = 1): Promise<void> {
    return this.#then(async () => {
      const left = this.#ids.length - n;
      if (!Number.isInteger(n) || n < 0 || left < 1) {
        throw new UserError(`of ${this.#ids.length} tokens ${n} cannot be dropped: at least one must stay`);
      }
      // The last token says what comes next, and is run once more to say it.
      if (n > 0) await this.#run(this.#ids.slice(0, left), left - 1);
    });
  }

  /** Gives back the memory on the GPU; the prefix is of no more use. */
  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    void this.#work.then(() => this.#cache.free());
  }

  #check(): void {
    if (this.#freed) throw new Error("this prefix was freed");
  }

  #then(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(() => {
      this.#check();
      return work();
    });
    this.#work = done.catch(() => {});
    return done;
  }

  /** Runs tokens from one on, whose keys and values then follow those before it. */
  async #run(ids: number[], from: number, signal?: AbortSignal): Promise<void> {
    let logits = new Float32Array();
    for (let at = from; at < ids.length; at += STRETCH) {
      signal?.throwIfAborted();
      const end = Math.min(ids.length, at + STRETCH);
      const last = scope(() => noGrad(() => this.#stretch(ids, at, end)));
      logits = (await last.read()) as Float32Array<ArrayBuffer>;
      last.free("a live prefix");
    }
    signal?.throwIfAborted();
    const broken = nonFinite(this.#model, logits, "logits");
    if (broken) throw broken;
    this.#ids = ids;
    this.#logits = logits;
  }

  /** Enqueues tokens from .. end - 1; gives the logits of what follows the last one. */
  #stretch(ids: readonly number[], from: number, end: number): Tensor {
    const host = Uint32Array.from(ids.slice(from, end));
    const positions = Uint32Array.from(host, (_, i) => from + i);
    const slots = tensor(new Uint32Array(host.length));
    const { decoder } = this.#model;
    const cache = this.#cache;
    const at: Sequences =
      from === 0
        ? { packing: packing([host.length]), cache, slots }
        : { cache, slots, positions: tensor(positions), lengths: tensor(positions.map((p) => p + 1)), shared: true };
    const hidden = decoder.forward({ gpu: tensor(host) }, at);
    return this.#model.logits(gatherRows(hidden, tensor(Uint32Array.of(host.length - 1))));
  }
}
