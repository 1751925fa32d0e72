/** A reward model with another tokenizer than the policy's: responses are written out and read anew. */

import type { Tokenizer } from "../../data/tokenizer.ts";
import type { ScoreModel } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import { type ModelRewardOptions, type RewardFunction, residentsOf, takeNormalization } from "../rewards.ts";
import type { Response } from "../sampler.ts";
import { scoreSequences } from "../scores.ts";

/** How a reward model with another tokenizer reads responses. */
export interface ForeignRewardOptions extends ModelRewardOptions {
  /**
   * Which responses end with the reward model's end token. "as-generated": those that ended by themselves, so that a response
   * that was cut off is judged as such (default). "always": all, as PaddleNLP and safe-rlhf do, which lets a response that
   * was cut off pass for a finished one.
   */
  end?: "as-generated" | "always";
}

/** Both turn every text into the same ids, and ids into the same text; texts may begin and end in other ways. */
export function sameIds(a: Tokenizer, b: Tokenizer): boolean {
  const meaning = ({ json }: Tokenizer) => {
    const {
      truncation: _,
      padding: __,
      version: ___,
      post_processor: ____,
      ...rest
    } = { ...json } as Record<string, unknown>;
    return JSON.stringify(rest);
  };
  return a === b || meaning(a) === meaning(b);
}

/** Both turn every text into the same ids, and ids into the same text. */
export function sameTokenizer(a: Tokenizer, b: Tokenizer): boolean {
  const around = ({ json, prefixIds, eosId }: Tokenizer) =>
    JSON.stringify([(json as { post_processor?: unknown }).post_processor, prefixIds, eosId]);
  return a === b || (sameIds(a, b) && around(a) === around(b));
}

/**
 * Scores of a model that reads the text of prompt and response, without special tokens, by its own tokenizer.
 * Throws `UserError` where a text is longer than the model's context, or an end token is needed and the tokenizer has none.
 * @param policyTokenizer what the responses' ids are of
 */
export function foreignReward(
  model: ScoreModel,
  tokenizer: Tokenizer,
  policyTokenizer: Tokenizer,
  options: ForeignRewardOptions = {},
): RewardFunction {
  const { end = "as-generated" } = options;
  const { eosId } = tokenizer;
  const { maxPositions } = model.config;
  tokenizer.checkFits(model.config.vocabSize);
  takeNormalization(model, options);
  if (eosId === undefined) throw new UserError("the reward model's tokenizer has no end token (eos_token)");
  const read = ({ ids, ended }: Response) => {
    const text = [...tokenizer.prefixIds, ...tokenizer.encode(policyTokenizer.decode(ids))];
    const own = Uint32Array.from(ended || end === "always" ? [...text, eosId] : text);
    if (own.length > maxPositions) {
      throw new UserError(
        `a prompt with its response has ${own.length} tokens by the reward model's tokenizer, more than its context of ` +
          `${maxPositions}: shorten the response (response_length) or leave out long prompts`,
      );
    }
    if (own.length === 0) throw new UserError("a prompt and response without any text cannot be scored");
    return { ids: own, promptLength: 0 };
  };
  const score: RewardFunction = async (responses) => scoreSequences(model, responses.map(read));
  score.residents = residentsOf(model);
  score.models = [model];
  return score;
}
