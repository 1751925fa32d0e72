/** How probable a given text is to a model, token by token. */
import { empty, noGrad, scope, type Tensor, tensor } from "../tensor/core.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { type TopTokens, topAt, topOfRows } from "../tensor/ops/top-tokens.ts";
import { packing } from "../tensor/packing.ts";
import { nonFinite } from "./finite.ts";
import type { CausalLM } from "./models.ts";

/** Logits of this many bytes are looked at together. */
const LOGITS_BYTES = 32 << 20;

/** How probable a text's tokens are to a model. */
export interface PromptLogProbs {
  /** Of tokens 1, 2, ... given those before; the first token has none. */
  logProbs: Float32Array;
  /** The most probable tokens at the same places; empty unless asked for. */
  top: TopTokens[];
}

/** `PromptLogProbs` on the GPU. */
export interface PendingScores {
  logProbs: Tensor | null;
  tops: Tensor | null;
  top: number;
}

/** Log-probabilities of a sequence's own tokens, and the `top` most probable ones at each place. */
export async function promptLogProbs(model: CausalLM, ids: Uint32Array, top = 0): Promise<PromptLogProbs> {
  const scores = scope(() =>
    noGrad(() => {
      const hidden = model.decoder.forward({ gpu: tensor(ids), host: ids }, { packing: packing([ids.length]) });
      return scoreRows(model, hidden, 0, ids.subarray(1), top);
    }),
  );
  const [found] = await readScores([scores], model.config.vocabSize);
  const broken = nonFinite(model, found.logProbs);
  if (broken) throw broken;
  return found;
}

/**
 * Enqueues the scores of tokens that follow consecutive rows of hidden states; call within a scope.
 * @param first the row that predicts the first of them
 */
export function scoreRows(
  model: CausalLM,
  hidden: Tensor,
  first: number,
  targets: Uint32Array,
  top: number,
): PendingScores {
  const count = targets.length;
  if (count === 0) return { logProbs: null, tops: null, top };
  const rowsFrom = (from: number, size: number) =>
    gatherRows(hidden, tensor(Uint32Array.from({ length: size }, (_, i) => first + from + i)));
  const { logProbs } = model.headLogProbs(rowsFrom(0, count), tensor(targets));
  if (top === 0) return { logProbs, tops: null, top };
  const block = Math.min(count, Math.max(1, Math.floor(LOGITS_BYTES / (4 * model.config.vocabSize))));
  const tops = empty([Math.ceil(count / block) * block * top * 2], "u32", "top log-probabilities");
  for (let at = 0; at < count; at += block) {
    scope(() => topOfRows(model.logits(rowsFrom(at, Math.min(block, count - at))), tops, top, at / block, block));
  }
  return { logProbs, tops, top };
}

/** Reads scores, and frees what they were in. */
export async function readScores(scores: readonly PendingScores[], vocab: number): Promise<PromptLogProbs[]> {
  return Promise.all(
    scores.map(async ({ logProbs, tops, top }) => {
      if (!logProbs) return { logProbs: new Float32Array(), top: [] };
      try {
        const [own, words] = await Promise.all([logProbs.read(), tops?.readIds()]);
        return { logProbs: own, top: words ? Array.from(own, (_, row) => topAt(words, row * top, top, vocab)) : [] };
      } finally {
        logProbs.free("readScores");
        tops?.free("readScores");
      }
    }),
  );
}
