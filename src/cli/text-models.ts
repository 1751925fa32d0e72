/** Opens models that are asked in text, and turns settings into what the engine takes. */

import type { SamplingParams } from "../nn/sampling.ts";
import { labelOf, ModelOpener, type ModelOptions } from "../open/index.ts";
import { samplingParams as shared } from "../rlhf/settings.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson } from "../runtime/files.ts";
import { join } from "../runtime/paths.ts";
import type { TextModel } from "../serve/model.ts";
import { type TextModelOptions, textModel } from "../serve/text-model.ts";
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

/** What a model's folder says on generation, in its generation_config.json. */
async function generationConfig(files: Files, path: string): Promise<Record<string, unknown>> {
  const file = join(path, "generation_config.json");
  const bytes = await files.read(file).catch(() => null);
  return bytes ? parseJson(bytes, file) : {};
}

/** A model to ask in text. The caller calls `close` in the end. */
export async function openTextModel(
  name: string,
  choice: ModelOptions,
  options: (context: number) => Partial<TextModelOptions>,
): Promise<{ model: TextModel; close(): Promise<void> }> {
  const opener = new ModelOpener(choice);
  try {
    const tokenizer = await opener.tokenizer(name);
    const model = await opener.sampler(name);
    tokenizer.checkFits(model.config.vocabSize);
    const { files, path } = await opener.locate(name);
    const text = textModel(model, tokenizer, {
      name: labelOf({ name }),
      generationConfig: await generationConfig(files, path),
      ...options(model.config.maxPositions),
    });
    const close = async () => {
      await text.engine.close();
      opener.destroy();
    };
    return { model: text, close };
  } catch (error) {
    opener.destroy();
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
