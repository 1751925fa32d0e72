/** A request to the engine and the stream of what it gives. */
import type { TopTokens } from "../tensor/ops/top-tokens.ts";
import type { SamplingParams } from "./sampling.ts";
import type { SlotSequence } from "./slot-decoder.ts";

/** A prompt to respond to, and how. */
export interface GenerationRequest {
  /** The prompt's tokens. */
  ids: Uint32Array;
  params: SamplingParams;
  /** Responses; they share the prompt's prefill where they start together. Default 1. */
  samples?: number;
  /** Names each sample's random numbers beside the seed. Default 0, 1, 2, ... */
  streams?: ArrayLike<number>;
  /** How many of the most probable tokens to report at each step. Default 0. */
  top?: number;
  signal?: AbortSignal;
}

/** Some more tokens of one sample. */
export interface Piece {
  sample: number;
  ids: number[];
  /** Under the softmax of the model's logits, before any option changes them. */
  logProbs: number[];
  /** The most probable tokens at each place, if the request asked. */
  top: TopTokens[] | null;
  /** "stop": the last id is an end token; "length": maxNewTokens is reached; null: more will come. */
  finish: "stop" | "length" | null;
}

/** The engine's record of one sample. */
export interface EngineSample {
  readonly generation: Generation;
  readonly sample: number;
  readonly sequence: SlotSequence;
  /** Tokens handed out, and tokens whose steps were enqueued. */
  sent: number;
  enqueued: number;
}

/** Pieces of a request's samples, as they come. Ends when all samples have finished or were stopped. */
export class Generation implements AsyncIterable<Piece> {
  private pieces: Piece[] = [];
  /** Samples that take no more tokens. */
  private readonly over = new Set<number>();
  private readonly samples: number;
  private readonly wake: () => void;
  private readonly signal: AbortSignal | undefined;
  private readonly onAbort: () => void;
  private failure: unknown = null;
  private notify: (() => void) | null = null;

  /** @internal */
  constructor({ samples = 1, signal }: GenerationRequest, wake: () => void) {
    this.samples = samples;
    this.wake = wake;
    this.signal = signal;
    this.onAbort = () => this.fail(signal?.reason ?? new Error("aborted"));
    if (signal?.aborted) this.onAbort();
    else signal?.addEventListener("abort", this.onAbort, { once: true });
  }

  /** Ends one sample early: its slot goes to the next in the queue, and what was not taken of it yet is dropped. */
  stop(sample: number): void {
    this.over.add(sample);
    this.pieces = this.pieces.filter((piece) => piece.sample !== sample);
    this.changed();
  }

  /** Ends all samples. */
  cancel(): void {
    for (let s = 0; s < this.samples; s++) this.over.add(s);
    this.pieces = [];
    this.changed();
  }

  /**
   * The sample takes no more tokens.
   * @internal
   */
  gone(sample: number): boolean {
    return this.over.has(sample);
  }

  /** @internal */
  push(piece: Piece): void {
    if (this.over.has(piece.sample)) return;
    if (piece.finish) this.over.add(piece.sample);
    this.pieces.push(piece);
    this.changed();
  }

  /**
   * Ends the request with an error for its reader.
   * @internal
   */
  fail(error: unknown): void {
    if (this.over.size === this.samples) return;
    this.failure ??= error;
    this.cancel();
  }

  private changed(): void {
    if (this.over.size === this.samples) this.signal?.removeEventListener("abort", this.onAbort);
    this.notify?.();
    this.notify = null;
    this.wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    try {
      for (;;) {
        const piece = this.pieces.shift();
        if (piece) yield piece;
        else if (this.failure) throw this.failure;
        else if (this.over.size === this.samples) return;
        else {
          await new Promise<void>((resolve) => {
            this.notify = resolve;
          });
        }
      }
    } finally {
      this.cancel();
    }
  }
}
