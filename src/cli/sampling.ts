/** Turns settings of sampling into what the engine takes. */

import type { SamplingParams } from "../nn/sampling.ts";
import { samplingParams as shared } from "../rlhf/settings.ts";
import { UserError } from "../runtime/errors.ts";
import type { chatSettings } from "./generation-settings.ts";

/** The part of the settings that says how to sample. */
export type SamplingChoice = Pick<
  ReturnType<typeof chatSettings>,
  | "maxNewTokens"
  | "minNewTokens"
  | keyof Parameters<typeof shared>[0]
  | "doSample"
  | "presencePenalty"
  | "frequencyPenalty"
  | "logitBias"
  | "eosTokenId"
  | "ignoreEos"
  | "seed"
>;

/** How responses are sampled, as the engine takes it. */
export function samplingParams(o: SamplingChoice): SamplingParams {
  return {
    maxNewTokens: o.maxNewTokens,
    minNewTokens: o.minNewTokens,
    ...shared(o),
    ...(!o.doSample && { temperature: 0 }),
    presencePenalty: o.presencePenalty,
    frequencyPenalty: o.frequencyPenalty,
    ...(o.logitBias !== null && { logitBias: biasMap(o.logitBias, "logit_bias") }),
    ...(o.eosTokenId !== null && { eosIds: o.eosTokenId.map((id) => tokenId(id, "eos_token_id")) }),
    ignoreEos: o.ignoreEos,
    seed: o.seed,
  };
}

/** A map from ids to numbers, as JSON text or an object. */
export function biasMap(value: unknown, where: string): Map<number, number> {
  let parsed = value;
  if (typeof value === "string") {
    try {
      parsed = JSON.parse(value);
    } catch {}
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new UserError(`${where} must be JSON like {"50256": -100}, not ${JSON.stringify(value)}`);
  }
  return new Map(
    Object.entries(parsed).map(([id, bias]) => {
      if (typeof bias !== "number") throw new UserError(`${where}: the bias of token ${id} must be a number`);
      return [tokenId(id, where), bias];
    }),
  );
}

function tokenId(value: unknown, where: string): number {
  const id = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (Number.isSafeInteger(id) && Number(id) >= 0) return Number(id);
  throw new UserError(`${where}: ${JSON.stringify(value)} is no token id`);
}

/** One text, or a JSON list of them. */
export function stopStrings(value: unknown, where = "stop_strings"): string[] {
  if (value === null || value === undefined) return [];
  let list = value;
  if (typeof value === "string") {
    list = [value];
    if (value.startsWith("[")) {
      try {
        list = JSON.parse(value);
      } catch {} // a stop string may begin with a bracket
    }
  }
  if (Array.isArray(list) && list.every((s) => typeof s === "string" && s !== "")) return list as string[];
  throw new UserError(`${where} must be a text or a list of texts, not ${JSON.stringify(value)}`);
}
