/** The first half of a RAFT iteration: responses are sampled, cleaned, scored and ranked. */

import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import { randomInt, streamId } from "../../runtime/rng.ts";
import { responseLogProbs } from "../measure.ts";
import { PromptOrder } from "../prompts.ts";
import { type RewardFunction, rewardsOf } from "../rewards.ts";
import { type Prompt, type Response, type Sampler, sampleResponses } from "../sampler.ts";
import type { CleanText, DiscardSample } from "./hooks.ts";
import type { RaftOptions } from "./options.ts";
import { bestOfAll, bestOfEach, klAdjusted, shareOf } from "./rank.ts";

export interface CollectInputs {
  model: CausalLM;
  /** Gives each response its reward: a model's (`modelReward`), a server's (`httpReward`), or any function. */
  reward: RewardFunction;
  tokenizer: Tokenizer;
  prompts: readonly Prompt[];
  /**
   * Draws the responses instead of the model: a server, for instance (see `remoteSampler`). It must have the weights that
   * the model has at the beginning of the iteration, which `options.iteration` counts.
   */
  sampler?: Sampler;
  /** The true reward, where there is one: reported, never trained on. */
  gold?: (response: Response) => number;
  /** The model the run started from, to report the KL to it and to rank by it (`klBeta`). */
  reference?: CausalLM;
  clean?: CleanText;
  /** Sees whole responses, as they are after cleaning. */
  discard?: DiscardSample | ((response: Response) => boolean);
}

/** An iteration's responses, and which of them are learned. */
export interface Collected {
  /** As they were drawn, cut to their drawn limits. */
  sampled: Response[];
  /** The same after cleaning. */
  responses: Response[];
  rewards: number[];
  truth: number[] | null;
  allowed: boolean[];
  kept: number[];
}

/** Responses per prompt and prompts per iteration. Rounded: 1 / share in floating point may just miss a whole number. */
export function sizes({ collectionStrategy, topRewardPercentage, raftBatchSize }: RaftOptions) {
  return collectionStrategy === "local"
    ? { samples: Math.round(1 / topRewardPercentage), promptsPerStep: raftBatchSize }
    : { samples: 1, promptsPerStep: Math.round(raftBatchSize / topRewardPercentage) };
}

/** Samples, cleans, scores and ranks. */
export async function collect(inputs: CollectInputs, options: RaftOptions, step: number): Promise<Collected> {
  const { model, tokenizer, prompts, clean, discard, gold } = inputs;
  const { samples, promptsPerStep } = sizes(options);
  const draw: Sampler = inputs.sampler ?? ((...request) => sampleResponses(model, tokenizer, ...request));
  const position = step * promptsPerStep;
  const count = options.reusePrompts ? promptsPerStep : Math.min(promptsPerStep, prompts.length - position);
  const chosen = new PromptOrder(prompts.length, options.seed).take(position, count);
  const drawn = await draw(
    chosen.map((i) => prompts[i]),
    chosen,
    {
      maxNewTokens: options.responseLength,
      minNewTokens: options.minResponseLength,
      samples,
      temperature: options.temperature,
      topK: options.topK,
      topP: options.topP,
      seed: options.seed,
      iteration: step,
    },
  );
  const sampled = drawn.map((r) => limited(r, limitOf(options, step, r.prompt), tokenizer));
  const responses = clean ? sampled.map((r) => cleaned(r, clean, inputs)) : sampled;
  const rewards = await rewardsOf(inputs.reward, responses);
  const allowed = responses.map((r) => !discard?.(r));
  const scores = options.klBeta === 0 ? rewards : await rankByKl(inputs, responses, rewards, options.klBeta);
  const kept =
    options.collectionStrategy === "local"
      ? bestOfEach(scores, allowed, samples)
      : bestOfAll(scores, allowed, shareOf(responses.length, options.topRewardPercentage));
  return { sampled, responses, rewards, truth: gold ? responses.map(gold) : null, allowed, kept };
}

const LIMITS = streamId("raft/limits");

/** The longest that responses to the iteration's prompt number `prompt` may be, in tokens. */
function limitOf(options: RaftOptions, step: number, prompt: number): number {
  const { outputMinLength: shortest, responseLength, minResponseLength, seed } = options;
  if (shortest === null || shortest >= responseLength) return responseLength;
  const shared = options.collectionStrategy === "local" ? 1 : options.inferenceBatchSize;
  const drawn = shortest + randomInt(responseLength - shortest, seed, step, Math.floor(prompt / shared), LIMITS);
  return Math.max(drawn, minResponseLength);
}

/** The response as it would have been with a lower limit: its tokens do not know of the limit. */
function limited(response: Response, limit: number, tokenizer: Tokenizer): Response {
  const { ids, promptLength } = response;
  if (ids.length - promptLength <= limit) return response;
  const shorter = ids.slice(0, promptLength + limit);
  const text = tokenizer.decode(shorter.subarray(promptLength), { continued: true });
  return { ...response, ids: shorter, text, ended: false };
}

/** The response with its text rewritten and tokenised anew; untouched texts keep their sampled ids. */
function cleaned(response: Response, clean: CleanText, { tokenizer, model }: CollectInputs): Response {
  const text = clean(response.text);
  if (text === response.text) return response;
  const { eosIds } = model.config;
  const last = response.ids[response.ids.length - 1];
  const end = response.ended ? (eosIds.includes(last) ? [last] : eosIds.slice(0, 1)) : [];
  const ids = [
    ...response.ids.subarray(0, response.promptLength),
    ...tokenizer.encode(text, { continued: true }),
    ...end,
  ];
  return { ...response, text, ids: Uint32Array.from(ids) };
}

/** Rewards less beta times the log-ratio to the reference. Responses that cleaning left empty have a ratio of 1. */
async function rankByKl(
  inputs: CollectInputs,
  responses: readonly Response[],
  rewards: readonly number[],
  beta: number,
) {
  const full = responses.map((_, i) => i).filter((i) => responses[i].ids.length > responses[i].promptLength);
  const some = full.map((i) => responses[i]);
  const own = await responseLogProbs(inputs.model, some);
  const other = await responseLogProbs(inputs.reference as CausalLM, some);
  const adjusted = klAdjusted(
    full.map((i) => rewards[i]),
    own.logProbs,
    other.logProbs,
    beta,
  );
  const scores = [...rewards];
  full.forEach((i, k) => {
    scores[i] = adjusted[k];
  });
  return scores;
}
