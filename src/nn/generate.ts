/** Sampling from a language model: prefill once per prompt, then decode all samples together through a KV cache. */
import { UserError } from "../runtime/errors.ts";
import { nonFinite } from "./finite.ts";
import type { CausalLM } from "./models.ts";
import { type SamplingParams, slotOptions } from "./sampling.ts";
import { type PromptPart, SlotDecoder, type SlotSequence } from "./slot-decoder.ts";

/** How `generate` samples: `SamplingParams`, and which responses it is to give. */
export interface GenerateOptions extends SamplingParams {
  /** Responses per prompt; they share its prefill. Default 1. */
  samples?: number;
  /**
   * Names each response's random numbers: the same (seed, stream) draws the same noise whatever else is in the batch.
   * One per response, prompt by prompt; by default 0, 1, 2, ...
   */
  streams?: ArrayLike<number>;
  /** Longest prompt and response together: a response ends there, too, after one token at least. Default: no such limit. */
  maxLength?: number;
  /** Responses decoded at once, fewer where their prompts would not fit into one pass. Default 256. */
  batchSize?: number;
  /** Stops it between decode steps: the promise is rejected with the signal's reason, and all buffers are freed. */
  signal?: AbortSignal;
}

/** A response that `generate` gives. */
export interface Completion {
  /** Index of the prompt. */
  prompt: number;
  /** The response's tokens, its end token included. */
  ids: Uint32Array;
  /** It ended by itself, rather than by `maxNewTokens`. */
  ended: boolean;
  /** Log-probability of each token under the untempered, untruncated softmax. */
  logProbs: Float32Array;
}

/** Decode steps between looks at which responses have ended: each look is a round trip to the GPU. */
const STEPS_PER_LOOK = 16;
/** Who may stop it should not wait longer than this for the steps that are under way. */
const LOOK_MS = 500;

/**
 * Samples responses in the order of the prompts, `samples` for each. The model's weights are only read. A batch is closed:
 * it is decoded until its last response has ended, so that the same call gives the same bits.
 * Throws `UserError` when a prompt is empty or leaves no room for a response in the model's context, and when the model's
 * logits are not finite.
 */
export async function generate(
  model: CausalLM,
  prompts: readonly Uint32Array[],
  options: GenerateOptions,
): Promise<Completion[]> {
  const { samples = 1, batchSize = 256, streams, maxLength = Number.POSITIVE_INFINITY, signal } = options;
  const { maxPositions } = model.config;
  const limit = ({ length }: Uint32Array) => Math.min(options.maxNewTokens, Math.max(1, maxLength - length));
  prompts.forEach((p, i) => {
    if (p.length === 0) throw new UserError(`prompt ${i} is empty: a model needs at least one token to go on from`);
    if (p.length + limit(p) > maxPositions) {
      throw new UserError(
        `prompt ${i} has ${p.length} tokens; with ${limit(p)} new ones it exceeds the context of ` +
          `${maxPositions}: shorten the prompt or the response`,
      );
    }
  });
  const perBatch = Math.max(1, Math.floor(batchSize / samples));
  const completions: Completion[] = [];
  for (let first = 0, last = 0; first < prompts.length; first = last) {
    let tokens = 0;
    do tokens += prompts[last++].length;
    while (last < Math.min(prompts.length, first + perBatch) && tokens + prompts[last].length <= model.tokensPerPass);
    const sequences = prompts.slice(first, last).flatMap((ids, i) => {
      const prompt = ids.subarray(); // sequences share a prefill by identity, and each prompt has its own
      const own = { ...options, maxNewTokens: limit(ids) };
      return Array.from({ length: samples }, (_, k) => {
        const response = (first + i) * samples + k;
        return { prompt, options: slotOptions(own, model.config, streams ? streams[response] : response), top: 0 };
      });
    });
    for (const [i, done] of (await decodeBatch(model, sequences, signal)).entries()) {
      completions.push({ ...done, prompt: first + Math.floor(i / samples) });
    }
  }
  return completions;
}

/** Decodes sequences together until all have ended. */
async function decodeBatch(
  model: CausalLM,
  sequences: readonly SlotSequence[],
  signal?: AbortSignal,
): Promise<Omit<Completion, "prompt">[]> {
  signal?.throwIfAborted();
  const { endIds } = sequences[0].options;
  const most = (of: (sequence: SlotSequence) => number) => sequences.reduce((n, s) => Math.max(n, of(s)), 0);
  const maxNewTokens = most(({ options }) => options.maxNewTokens);
  const capacity = most(({ prompt, options }) => prompt.length + options.maxNewTokens);
  const found = sequences.map(() => ({
    ids: new Uint32Array(maxNewTokens),
    logProbs: new Float32Array(maxNewTokens),
    length: 0,
    done: false,
  }));
  const decoder = new SlotDecoder(model, sequences.length, capacity, STEPS_PER_LOOK);
  try {
    let prompts = promptsOf(sequences);
    let perLook = signal ? 1 : STEPS_PER_LOOK;
    for (let drawn = 0; drawn < maxNewTokens && found.some(({ done }) => !done); prompts = []) {
      const prefill = prompts.length > 0 ? 1 : 0;
      const steps = Math.min(perLook, maxNewTokens - drawn - prefill);
      const began = performance.now();
      const turn = await decoder.turn([], prompts, steps, sequences.length);
      signal?.throwIfAborted();
      if (signal)
        perLook = Math.max(
          1,
          Math.min(STEPS_PER_LOOK, 2 * perLook, Math.floor((LOOK_MS * steps) / (performance.now() - began))),
        );
      drawn += prefill + steps;
      for (const step of prefill ? [turn.first[0].step, ...turn.steps] : turn.steps) {
        found.forEach((response, row) => {
          if (response.done) return;
          response.ids[response.length] = step.tokens[row];
          response.logProbs[response.length++] = step.rawLogProbs[row];
          response.done = step.done[row];
        });
      }
    }
  } finally {
    decoder.free();
  }
  for (const { logProbs } of found) {
    const broken = nonFinite(model, logProbs);
    if (broken) throw broken;
  }
  return found.map(({ ids, logProbs, length }) => ({
    ids: ids.slice(0, length),
    logProbs: logProbs.slice(0, length),
    ended: endIds.includes(ids[length - 1]),
  }));
}

/** Each prompt whole, with the sequences that begin with it: one after the other, each in the slot of its number. */
function promptsOf(sequences: readonly SlotSequence[]): PromptPart[] {
  const parts: (PromptPart & { joining: { slot: number; sequence: SlotSequence }[] })[] = [];
  sequences.forEach((sequence, slot) => {
    const { prompt } = sequence;
    if (parts.at(-1)?.prompt !== prompt) parts.push({ prompt, from: 0, to: prompt.length, slot, joining: [] });
    parts.at(-1)?.joining.push({ slot, sequence });
  });
  return parts;
}
