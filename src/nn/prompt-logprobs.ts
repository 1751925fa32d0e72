/** How probable a given text is to a model, token by token. */
import { noGrad, scope, tensor } from "../tensor/core.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { type TopTokens, topLogProbs } from "../tensor/ops/top-tokens.ts";
import { packing } from "../tensor/packing.ts";
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

/** Log-probabilities of a sequence's own tokens, and the `top` most probable ones at each place. */
export async function promptLogProbs(model: CausalLM, ids: Uint32Array, top = 0): Promise<PromptLogProbs> {
  const count = ids.length - 1;
  if (count < 1) return { logProbs: new Float32Array(), top: [] };
  const batch = () => ({ ids: { gpu: tensor(ids), host: ids }, packing: packing([ids.length]) });
  const own = scope(() =>
    noGrad(() => {
      const { ids: rows, packing } = batch();
      const predicting = Uint32Array.from({ length: count }, (_, i) => i);
      return model.logProbs(rows, packing, predicting, ids.slice(1)).logProbs;
    }),
  );
  const logProbs = await own.read();
  own.free("promptLogProbs");
  if (top === 0) return { logProbs, top: [] };

  const hidden = scope(() => noGrad(() => model.decoder.forward(batch().ids, { packing: batch().packing })));
  const found: TopTokens[] = [];
  const rows = Math.max(1, Math.floor(LOGITS_BYTES / (4 * model.config.vocabSize)));
  try {
    for (let first = 0; first < count; first += rows) {
      const part = Uint32Array.from({ length: Math.min(rows, count - first) }, (_, i) => first + i);
      const logits = scope(() => noGrad(() => model.logits(gatherRows(hidden, tensor(part)))));
      try {
        found.push(...(await topLogProbs(logits, top)));
      } finally {
        logits.free("promptLogProbs");
      }
    }
  } finally {
    hidden.free("promptLogProbs");
  }
  return { logProbs, top: found };
}
