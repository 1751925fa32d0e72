/** A request to the engine and the stream of what it gives. */

import type { TopTokens } from "../tensor/ops/top-tokens.ts";
import type { PromptLogProbs } from "./prompt-logprobs.ts";
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
  /** How probable the prompt's own tokens are is asked for, with so many of the most probable ones; see `scores`. */
  score?: number;
  /** Requests of one owner share its turns; by default each has its own. */
  owner?: object;
  /** Owners of one client share its turns. Default: all are one client's. */
  client?: string;
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
  /** `SCORES` for the scores of the prompt. */
  readonly sample: number;
  sequence: SlotSequence;
  /** Tokens handed out. */
  readonly drawn: number[];
  /** It takes no more. */
  full: boolean;
  /** Tokens whose steps were enqueued. */
  enqueued: number;
  /** Of them, when it took its slot. */
  joinedAt: number;
}

/** The number of what stands in the queue for a prompt's scores. */
export const SCORES = -1;

/** Pieces of a request's samples, as they come. Ends when all samples have finished or were stopped. */
export class Generation implements AsyncIterable<Piece> {
  private pieces: Piece[] = [];
  /** Samples that take no more tokens. */
  private readonly over = new Set<number>();
  /** @internal */
  readonly ids: Uint32Array;
  /** @internal */
  readonly owner: object;
  /** @internal */
  readonly client: string;
  private readonly samples: number;
  private readonly parts: PromptLogProbs[] = [];
  private scored: boolean;
  private readonly wake: () => void;
  private readonly signal: AbortSignal | undefined;
  private readonly onAbort: () => void;
  private failure: unknown = null;
  private notify: (() => void) | null = null;

  /** @internal */
  constructor({ ids, samples = 1, score, owner, client = "", signal }: GenerationRequest, wake: () => void) {
    this.ids = ids;
    this.owner = owner ?? this;
    this.client = client;
    this.samples = samples;
    this.scored = score === undefined;
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

  /** Ends all samples, and the scores. */
  cancel(): void {
    for (let s = 0; s < this.samples; s++) this.over.add(s);
    this.scored = true;
    this.pieces = [];
    this.changed();
  }

  /**
   * The sample takes no more tokens.
   * @internal
   */
  gone(sample: number): boolean {
    return sample === SCORES ? this.scored : this.over.has(sample);
  }

  /**
   * Some more of the prompt's scores, in their order; some may come again.
   * @internal
   */
  score({ logProbs, top }: PromptLogProbs, from: number, last: boolean): void {
    if (this.scored) return;
    const known = this.parts.reduce((sum, part) => sum + part.logProbs.length, 0) - from;
    this.parts.push({ logProbs: logProbs.subarray(known), top: top.slice(known) });
    this.scored = last;
    this.changed();
  }

  /** How probable the prompt's tokens are; before the loop over the pieces, for a request that asks. */
  async scores(): Promise<PromptLogProbs> {
    while (!this.scored) await this.more();
    if (this.failure) throw this.failure;
    const { parts } = this;
    const logProbs = new Float32Array(parts.reduce((sum, part) => sum + part.logProbs.length, 0));
    let at = 0;
    for (const part of parts) {
      logProbs.set(part.logProbs, at);
      at += part.logProbs.length;
    }
    return { logProbs, top: parts.flatMap((part) => part.top) };
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
    if (this.ended) return;
    this.failure ??= error;
    this.cancel();
  }

  private get ended(): boolean {
    return this.over.size === this.samples && this.scored;
  }

  private more(): Promise<void> {
    return new Promise((resolve) => {
      this.notify = resolve;
    });
  }

  private changed(): void {
    if (this.ended) this.signal?.removeEventListener("abort", this.onAbort);
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
        else await this.more();
      }
    } finally {
      this.cancel();
    }
  }
}
