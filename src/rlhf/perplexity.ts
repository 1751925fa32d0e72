/** Perplexity of a language model: on answers, and on running text. */

import type { Dataset } from "../data/dataset.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { CausalLM } from "../nn/models.ts";
import { UserError } from "../runtime/errors.ts";
import type { Sequence } from "./batch.ts";
import { responseLogProbs } from "./measure.ts";
import { evaluateSft } from "./sft.ts";

/** Options of `textPerplexity`. */
export interface PerplexityOptions {
  /** Tokens that the model sees at once. Default: its context, at most 1024 as LMFlow has it. */
  window?: number;
  /** Tokens from the beginning of one window to that of the next. Default 512, at most the window. */
  stride?: number;
}

/**
 * Slides a window over the text and takes each token's log-probability in the first window that predicts it.
 * @returns `text_perplexity`, the exponential of the mean over tokens; and LMFlow's `text_perplexity_by_window`, which takes
 *   the mean over windows of each window's mean, so that a short last window counts as much as a full one
 */
export async function textPerplexity(
  model: CausalLM,
  ids: Uint32Array,
  options: PerplexityOptions = {},
): Promise<Record<"text_perplexity" | "text_perplexity_by_window", number>> {
  const { maxPositions } = model.config;
  const { window = Math.min(1024, maxPositions) } = options;
  const { stride = Math.min(512, window) } = options;
  if (window < 2 || window > maxPositions) {
    throw new UserError(`the window must be of 2 to ${maxPositions} tokens, the model's context, not ${window}`);
  }
  if (stride < 1 || stride > window)
    throw new UserError(`the stride must be 1 to ${window}, the window, not ${stride}`);
  const windows = slidingWindows(ids, window, stride);
  if (windows.length === 0) throw new UserError("perplexity needs a text of at least two tokens");
  const { logProbs } = await responseLogProbs(model, windows);
  const sums = logProbs.map((l) => l.reduce((sum, x) => sum - x, 0));
  const tokens = logProbs.reduce((n, l) => n + l.length, 0);
  const perWindow = sums.reduce((total, sum, i) => total + sum / logProbs[i].length, 0) / sums.length;
  const perToken = sums.reduce((total, sum) => total + sum, 0) / tokens;
  return { text_perplexity: Math.exp(perToken), text_perplexity_by_window: Math.exp(perWindow) };
}

/** The windows that have something to predict; what an earlier one has predicted is given. */
function slidingWindows(ids: Uint32Array, window: number, stride: number): Sequence[] {
  const windows: Sequence[] = [];
  let predicted = 0;
  for (let begin = 0; begin < ids.length && predicted < ids.length; begin += stride) {
    const end = Math.min(begin + window, ids.length);
    const part = { ids: ids.subarray(begin, end), promptLength: Math.max(0, predicted - begin) };
    if (part.ids.length > Math.max(1, part.promptLength)) windows.push(part);
    predicted = end;
  }
  return windows;
}

/**
 * A policy's perplexity on held-out data: `perplexity` on the answers given their prompts (on whole texts where the data has
 * no prompts), and LMFlow's on all of it as one running text (see `textPerplexity`).
 * @param blockSize tokens from one window over the running text to the next
 * @throws UserError where there is nothing to measure it on
 */
export async function perplexities(
  policy: CausalLM,
  tokenizer: Tokenizer,
  dataset: Dataset,
  blockSize: number,
): Promise<Record<string, number>> {
  const { maxPositions } = policy.config;
  const found = await dataset.sequences(tokenizer, { maxLength: maxPositions, conversations: "assistant" });
  const sequences = dataset.isMade ? found.eval : found.train;
  if (sequences.length === 0) throw new UserError(`${dataset.name} has nothing to measure the perplexity on`);
  const text = sequences.map(({ ids }) => tokenizer.decode(ids)).join("\n\n");
  const { eval_perplexity: perplexity } = await evaluateSft(policy, sequences);
  const stride = Math.min(blockSize, maxPositions, 1024);
  return { perplexity, ...(await textPerplexity(policy, Uint32Array.from(tokenizer.encode(text)), { stride })) };
}
