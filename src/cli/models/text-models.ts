/** Opens models that are asked in text, and turns sampling options into what the engine takes. */
import { join } from "node:path";
import type { SamplingParams } from "../../nn/sampling.ts";
import { UserError } from "../../runtime/errors.ts";
import { type Files, parseJson } from "../../runtime/files.ts";
import type { TextModel } from "../../serve/model.ts";
import { type TextModelOptions, textModel } from "../../serve/text-model.ts";
import type { Values } from "../option.ts";
import type { chatOptions } from "../options/sampling.ts";
import { labelAt } from "./hub.ts";
import { openPolicy, takeTemplate } from "./models.ts";
import { type WeightChoice, weightFormat } from "./weight-options.ts";

/** The part of the options that says how to sample. */
export type SamplingChoice = Pick<
  Values<typeof chatOptions>,
  | "max_new_tokens"
  | "min_new_tokens"
  | "temperature"
  | "do_sample"
  | "top_k"
  | "top_p"
  | "min_p"
  | "repetition_penalty"
  | "presence_penalty"
  | "frequency_penalty"
  | "logit_bias"
  | "eos_token_id"
  | "ignore_eos"
  | "seed"
>;

export function samplingParams(o: SamplingChoice): SamplingParams {
  return {
    maxNewTokens: o.max_new_tokens,
    minNewTokens: o.min_new_tokens,
    temperature: o.do_sample ? o.temperature : 0,
    topK: o.top_k,
    topP: o.top_p,
    minP: o.min_p,
    repetitionPenalty: o.repetition_penalty,
    presencePenalty: o.presence_penalty,
    frequencyPenalty: o.frequency_penalty,
    ...(o.logit_bias !== null && { logitBias: biasMap(o.logit_bias, "logit_bias") }),
    ...eosIdsOf(o),
    ignoreEos: o.ignore_eos,
    seed: o.seed,
  };
}

/** The tokens that end a response, where the options name them. */
export const eosIdsOf = ({ eos_token_id: ids }: Pick<SamplingChoice, "eos_token_id">): { eosIds?: number[] } =>
  ids === null ? {} : { eosIds: ids.map((id) => tokenId(id, "eos_token_id")) };

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

export interface TextModelChoice extends WeightChoice {
  model_name_or_path: string | null;
  base_model_name_or_path?: string | null;
  chat_template_path?: string | null;
}

/** What a model's folder says on generation, in its generation_config.json. */
async function generationConfig(files: Files, path: string): Promise<Record<string, unknown>> {
  const file = join(path, "generation_config.json");
  const bytes = await files.read(file).catch(() => null);
  return bytes ? parseJson(bytes, file) : {};
}

/** A model to ask in text. The caller calls `close` in the end. */
export async function openTextModel(
  files: Files,
  choice: TextModelChoice,
  options: (context: number) => Partial<TextModelOptions>,
): Promise<{ model: TextModel; close(): Promise<void> }> {
  const path = choice.model_name_or_path!;
  const { model, tokenizer } = await openPolicy(
    files,
    path,
    null,
    choice.base_model_name_or_path ?? null,
    weightFormat(choice),
  );
  try {
    await takeTemplate(files, tokenizer, choice.chat_template_path);
    const text = textModel(model, tokenizer, {
      name: labelAt(path),
      generationConfig: await generationConfig(files, path),
      ...options(model.config.maxPositions),
    });
    const close = async () => {
      await text.engine.close();
      model.destroy();
    };
    return { model: text, close };
  } catch (error) {
    model.destroy();
    throw error;
  }
}

/** More is seldom needed, and each slot's cache takes this many tokens. */
const LONGEST = 4096;

/** The cache's length: what was asked for, or what the model can see. */
export function contextLength(context: number, asked: number | null): number {
  if (asked !== null && asked > context) {
    throw new UserError(`max_model_len ${asked} is more than the model's context of ${context} tokens`);
  }
  return asked ?? Math.min(LONGEST, context);
}
