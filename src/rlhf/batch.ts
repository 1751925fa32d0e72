/** From token sequences to packed batches. */
import type { Ids } from "../nn/layers.ts";
import type { Model } from "../nn/models.ts";
import { tensor } from "../tensor/core.ts";
import { type Packing, packing } from "../tensor/packing.ts";

/** A sequence to learn from or to score: its first `promptLength` tokens are given, the rest is the response. */
export interface Sequence {
  ids: Uint32Array;
  promptLength: number;
  /** Where given, only the response's tokens with a 1 here are predicted (one entry per token of the sequence). */
  learned?: Uint8Array;
  /** How many of its last tokens are padding, which no other token sees; default 0. */
  pads?: number;
}

/** How many of a sequence's tokens are predicted. */
export function predictedTokens({ ids, promptLength, learned }: Sequence): number {
  const first = Math.max(1, promptLength);
  if (!learned) return Math.max(0, ids.length - first);
  return learned.subarray(first, ids.length).reduce((sum, one) => sum + one, 0);
}

/** Sequences on the GPU, one after another. */
export interface Batch {
  ids: Ids;
  packing: Packing;
  /** Row of each sequence's first token. */
  starts: number[];
}

/** Lays sequences one after another and uploads them. */
export function pack(sequences: readonly Sequence[]): Batch {
  const lengths = sequences.map((s) => s.ids.length);
  const host = new Uint32Array(lengths.reduce((a, b) => a + b, 0));
  const starts: number[] = [];
  let at = 0;
  for (const { ids } of sequences) {
    starts.push(at);
    host.set(ids, at);
    at += ids.length;
  }
  const pads = sequences.map((s) => s.pads ?? 0);
  return { ids: { gpu: tensor(host), host }, packing: packing(lengths, undefined, undefined, pads), starts };
}

/** For every response token of a batch: the row that predicts it, and its id. */
export interface Predictions {
  rows: Uint32Array;
  targets: Uint32Array;
  /** Predicted tokens per sequence. */
  lengths: number[];
}

/** The first token of a sequence has no row before it, so a promptless sequence predicts from its second token on. */
export function predictions(sequences: readonly Sequence[], starts: readonly number[]): Predictions {
  const lengths = sequences.map(predictedTokens);
  const total = lengths.reduce((a, b) => a + b, 0);
  const rows = new Uint32Array(total);
  const targets = new Uint32Array(total);
  let at = 0;
  sequences.forEach(({ ids, promptLength, learned }, i) => {
    for (let t = Math.max(1, promptLength); t < ids.length; t++) {
      if (learned?.[t] === 0) continue;
      rows[at] = starts[i] + t - 1;
      targets[at] = ids[t];
      at += 1;
    }
  });
  return { rows, targets, lengths };
}

/** The row of each sequence's last token, where a reward model is read. */
export const endRows = (sequences: readonly Sequence[], starts: readonly number[]): Uint32Array =>
  Uint32Array.from(sequences, ({ ids, pads = 0 }, i) => starts[i] + ids.length - pads - 1);

/** Cuts a flat array into consecutive pieces. */
export function split(flat: Float32Array, lengths: readonly number[]): Float32Array[] {
  let at = 0;
  return lengths.map((n) => {
    at += n;
    return flat.subarray(at - n, at);
  });
}

/** Tokens of one forward pass without gradients; more bring no speed. */
const SCORING_TOKENS = 8192;

/**
 * Splits a list into forward passes without gradients, of as many sequences as pay and as the device can bind a layer's
 * activations of; at least one each.
 */
export function scoringParts(
  sequences: readonly Sequence[],
  model: Pick<Model, "tokensPerPass">,
): [first: number, last: number][] {
  const begins = partBeginnings(model);
  const firsts = sequences.flatMap((sequence, i) => (begins(sequence) ? [i] : []));
  return firsts.map((first, part) => [first, firsts[part + 1] ?? sequences.length]);
}

/** Says of sequences that come one after another which of them begin a part of `scoringParts`: the first one does. */
export function partBeginnings({ tokensPerPass }: Pick<Model, "tokensPerPass">): (sequence: Sequence) => boolean {
  const most = Math.min(SCORING_TOKENS, tokensPerPass);
  let total = Number.POSITIVE_INFINITY;
  return ({ ids }) => {
    const begins = total + ids.length > most;
    total = ids.length + (begins ? 0 : total);
    return begins;
  };
}
