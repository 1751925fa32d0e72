/** Forward passes without gradients over many sequences, which may still be coming. */
import type { Model } from "../nn/models.ts";
import { noGrad, scope, type Tensor } from "../tensor/core.ts";
import { partBeginnings, type Sequence } from "./batch.ts";
import { InTurn } from "./in-turn.ts";

/** What a pass computes of a part of the sequences, and what is made of its numbers; `first` is the part's first sequence. */
export interface PassOf<R> {
  compute(part: readonly Sequence[], first: number): Tensor;
  receive(values: Float32Array<ArrayBuffer>, part: readonly Sequence[], first: number): R;
}

/**
 * Passes over sequences that come one after another: each as soon as its part, one of `scoringParts`, is whole. Which sequences
 * are in a part does not depend on when they come. A pass is enqueued while the one before it is read, so that the GPU does not wait
 * for the host: see `InTurn`.
 */
export class Passes<R> {
  readonly #pass: PassOf<R>;
  readonly #begins: (sequence: Sequence) => boolean;
  readonly #found = new InTurn<R>();
  #open: Sequence[] = [];
  #closed = 0;

  constructor(model: Pick<Model, "tokensPerPass">, pass: PassOf<R>) {
    this.#pass = pass;
    this.#begins = partBeginnings(model);
  }

  /** Takes the next sequences. */
  add(sequences: readonly Sequence[]): void {
    for (const sequence of sequences) {
      if (this.#begins(sequence)) this.#close();
      this.#open.push(sequence);
    }
  }

  /** What was found, part by part; nothing comes any more. Throws what the first pass that failed threw. */
  end(): Promise<R[]> {
    this.#close();
    return this.#found.end();
  }

  #close(): void {
    if (this.#open.length === 0) return;
    const [part, first] = [this.#open, this.#closed];
    this.#open = [];
    this.#closed += part.length;
    this.#found.add(() => this.#run(part, first));
  }

  async #run(part: readonly Sequence[], first: number): Promise<R> {
    const values = scope(() => noGrad(() => this.#pass.compute(part, first)));
    try {
      return this.#pass.receive(await values.read(), part, first);
    } finally {
      values.free("scoring");
    }
  }
}

/** Passes over sequences that are there: what was found, part by part. */
export function inPasses<R>(
  model: Pick<Model, "tokensPerPass">,
  sequences: readonly Sequence[],
  pass: PassOf<R>,
): Promise<R[]> {
  const passes = new Passes(model, pass);
  passes.add(sequences);
  return passes.end();
}
