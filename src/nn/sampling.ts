/** How responses are sampled, as callers say it: names, defaults and checks. */
import { UserError } from "../runtime/errors.ts";
import { MAX_ENDS, type SlotOptions } from "../tensor/ops/slot-options.ts";
import type { DecoderConfig } from "./config.ts";

export interface SamplingParams {
  /** Tokens per response, the end token included. */
  maxNewTokens: number;
  /** Until a response has this many tokens, it cannot end. Default 0. */
  minNewTokens?: number;
  /** 0 is greedy. Default 1. */
  temperature?: number;
  /** Keep the k most probable tokens; 0 keeps all. Default 0. */
  topK?: number;
  /** Keep the smallest set of tokens with this much probability. Default 1. */
  topP?: number;
  /** Keep tokens with at least this share of the most probable one's probability. Default 0. */
  minP?: number;
  /**
   * Divides positive logits and multiplies negative ones of tokens that stand in the prompt or the response (Keskar et
   * al. 2019, as Hugging Face does). Default 1.
   */
  repetitionPenalty?: number;
  /** Taken off the logits of tokens that stand in the response (OpenAI). Default 0. */
  presencePenalty?: number;
  /** Taken off the logits of tokens for each time they stand in the response (OpenAI). Default 0. */
  frequencyPenalty?: number;
  /** Added to the logits of single tokens, before the penalties. */
  logitBias?: ReadonlyMap<number, number>;
  /** Names the random numbers: the same seed gives the same response whatever else is being sampled. */
  seed: number;
  /** Tokens that end a response; by default the model's. */
  eosIds?: readonly number[];
  /** Go on to `maxNewTokens` whatever is sampled. Default false. */
  ignoreEos?: boolean;
}

/** The tokens that end a response. */
function endIdsOf({ eosIds, ignoreEos }: SamplingParams, config: Pick<DecoderConfig, "eosIds">): number[] {
  return ignoreEos ? [] : [...new Set(eosIds ?? config.eosIds)];
}

/** Checked options for one sequence. Throws `UserError` that names the option. */
export function slotOptions(
  params: SamplingParams,
  config: Pick<DecoderConfig, "vocabSize" | "eosIds">,
  stream: number,
): SlotOptions {
  const {
    maxNewTokens,
    minNewTokens = 0,
    temperature = 1,
    topK = 0,
    topP = 1,
    minP = 0,
    repetitionPenalty = 1,
    presencePenalty = 0,
    frequencyPenalty = 0,
    logitBias,
    seed,
  } = params;
  const need = (ok: boolean, name: string, what: string, value: unknown) => {
    if (!ok) throw new UserError(`${name} must be ${what}, not ${String(value)}`);
  };
  const whole = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  need(whole(maxNewTokens, 1), "max_new_tokens", "a whole number of at least 1", maxNewTokens);
  need(whole(minNewTokens, 0), "min_new_tokens", "a whole number of at least 0", minNewTokens);
  need(Number.isFinite(temperature) && temperature >= 0, "temperature", "a number of at least 0", temperature);
  need(whole(topK, 0), "top_k", "a whole number of at least 0", topK);
  need(topP > 0 && topP <= 1, "top_p", "above 0 and at most 1", topP);
  need(minP >= 0 && minP <= 1, "min_p", "from 0 to 1", minP);
  need(Number.isFinite(repetitionPenalty) && repetitionPenalty > 0, "repetition_penalty", "above 0", repetitionPenalty);
  need(Number.isFinite(presencePenalty), "presence_penalty", "a number", presencePenalty);
  need(Number.isFinite(frequencyPenalty), "frequency_penalty", "a number", frequencyPenalty);
  need(whole(seed, 0), "seed", "a whole number from 0 to 2^53 - 1", seed);
  const endIds = endIdsOf(params, config);
  need(endIds.length <= MAX_ENDS, "the number of end tokens", `at most ${MAX_ENDS}`, endIds.length);
  for (const id of [...endIds, ...(logitBias?.keys() ?? [])]) {
    need(whole(id, 0) && id < config.vocabSize, "a token id", `below the vocabulary size ${config.vocabSize}`, id);
  }
  for (const [id, bias] of logitBias ?? []) need(Number.isFinite(bias), `logit_bias of ${id}`, "a number", bias);
  return {
    seed,
    stream,
    temperature,
    topK: topK >= config.vocabSize ? 0 : topK,
    topP,
    minP,
    repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    minNewTokens: Math.min(minNewTokens, maxNewTokens),
    maxNewTokens,
    endIds,
    ...(logitBias && logitBias.size > 0 && { logitBias }),
  };
}
