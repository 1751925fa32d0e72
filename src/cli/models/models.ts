/** Opens what options name: tokenizers, policies, reward models. */
import { basename, dirname, join } from "node:path";
import { builtinTemplate } from "../../data/builtin-templates.ts";
import { ChatTemplate, specialTokens, templateInConfig } from "../../data/chat-template.ts";
import { Tokenizer } from "../../data/tokenizer.ts";
import { goldReward, worldTokenizer } from "../../data/world.ts";
import { openGgufTokenizer } from "../../io/gguf-model.ts";
import { isGguf } from "../../io/model-files.ts";
import type { CausalLM, Model } from "../../nn/models.ts";
import { type AdapterFolder, openAdapter, readAdapterFolder } from "../../nn/peft.ts";
import { loadCausalLM } from "../../nn/pretrained.ts";
import type { Response } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import { type Files, parseJson, readNeeded } from "../../runtime/files.ts";
import type { WeightFormat } from "../../tensor/quantize.ts";
import { labelAt, locate } from "./hub.ts";

/** The data, tokenizer and reward that need no file. */
export const WORLD = "builtin:world";

/**
 * @param path a folder, its tokenizer.json, a .gguf file, or builtin:world
 * @param templatePath a chat template instead of its own
 */
export async function openTokenizer(
  files: Files,
  path: string,
  templatePath: string | null = null,
): Promise<Tokenizer> {
  const tokenizer = await readTokenizer(files, path);
  await takeTemplate(files, tokenizer, templatePath);
  return tokenizer;
}

async function readTokenizer(files: Files, path: string): Promise<Tokenizer> {
  if (path === WORLD) return worldTokenizer();
  if (isGguf(path)) {
    const { json, config } = await openGgufTokenizer(files, path);
    return withTemplate(Tokenizer.fromJson(json, config, path), null, path);
  }
  const file = basename(path) === "tokenizer.json" ? path : join(path, "tokenizer.json");
  if ((await files.list(dirname(file))).length === 0) {
    throw new UserError(
      `${dirname(file)}: there is no such folder, or it is empty; a model is a folder, a .gguf file, or org/name ` +
        "in the Hugging Face cache or on the hub",
    );
  }
  const json = parseJson(await readNeeded(files, file, "a model's folder holds its tokenizer"), file);
  const configFile = join(dirname(file), "tokenizer_config.json");
  const config = await files.read(configFile);
  const tokenizer = Tokenizer.fromJson(json, config ? parseJson(config, configFile) : {}, file);
  const templateFile = join(dirname(file), "chat_template.jinja");
  const template = await files.read(templateFile);
  return withTemplate(tokenizer, template && new TextDecoder().decode(template), template ? templateFile : configFile);
}

/** Gives the tokenizer the template of its own file, or else the one in its configuration. */
async function withTemplate(tokenizer: Tokenizer, own: string | null, file: string): Promise<Tokenizer> {
  const source = own ?? templateInConfig(tokenizer.configJson, file);
  if (source !== null)
    tokenizer.chatTemplate = await ChatTemplate.load(source, file, specialTokens(tokenizer.configJson));
  return tokenizer;
}

/** Gives the tokenizer another chat template than its own, where the options name one. */
export async function takeTemplate(files: Files, tokenizer: Tokenizer, path: string | null | undefined): Promise<void> {
  if (!path) return;
  const source = builtinTemplate(path) ?? (await templateFile(files, path));
  tokenizer.chatTemplate = await ChatTemplate.compile(source, path, specialTokens(tokenizer.configJson));
}

async function templateFile(files: Files, path: string): Promise<string> {
  const bytes = await readNeeded(files, path, "chat_template_path names a file with a Jinja template");
  return new TextDecoder().decode(bytes);
}

/** The files that go beside every saved model. */
export const tokenizerFiles = (tokenizer: Tokenizer): Record<string, string> => ({
  "tokenizer.json": `${JSON.stringify(tokenizer.json)}\n`,
  "tokenizer_config.json": `${JSON.stringify(tokenizer.configJson, null, 2)}\n`,
  ...(tokenizer.chatTemplate &&
    tokenizer.chatTemplate.source !== tokenizer.configJson.chat_template && {
      "chat_template.jinja": tokenizer.chatTemplate.source,
    }),
});

/**
 * A language model to sample from, with its tokenizer, which is checked against the model's vocabulary. An adapter's
 * folder gives its base with the adapter merged into it, which costs nothing per token; in formats other than float32 the
 * adapter stays beside its base, because its update would be rounded away.
 */
export async function openPolicy(
  files: Files,
  path: string,
  tokenizerPath: string | null = null,
  basePath: string | null = null,
  format: WeightFormat = "float32",
): Promise<{ model: CausalLM; tokenizer: Tokenizer }> {
  const adapter = await readAdapterFolder(files, path);
  const start = adapter ? basePathOf(adapter, basePath) : path;
  const own = !adapter || (await files.read(join(path, "tokenizer.json"))) !== null;
  const tokenizer = await openTokenizer(files, tokenizerPath ?? (own ? path : start));
  let model = await loadCausalLM(files, start, labelAt(path), format);
  if (adapter) {
    const base = model;
    model = (await openAdapter(files, adapter, base, "lm", { label: labelAt(path) })).withBase(base);
    if (format === "float32") model.adapter?.merge();
  }
  tokenizer.checkFits(model.config.vocabSize);
  return { model, tokenizer };
}

/** Where an adapter's base is: where the options say, or where its folder says. */
export function basePathOf({ basePath, folder }: AdapterFolder, chosen: string | null = null): string {
  const path = chosen ?? basePath;
  if (path) return locate(path);
  throw new UserError(
    `${folder}/adapter_config.json does not say which model the adapter belongs to: pass --base_model_name_or_path`,
  );
}

/** The true reward, where the dataset has one. */
export const goldOf = (dataset: string): ((response: Response) => number) | undefined =>
  dataset === WORLD ? worldGold : undefined;

/** The true reward of the built-in world. */
export const worldGold = ({ promptText, text }: Response) => goldReward(promptText, text);

/** The longest sequence to train on, in tokens: what was asked for, or all that the model can see. */
export function contextOf(model: Model, maxLength: number | null): number {
  const { maxPositions } = model.config;
  if (maxLength === null || maxLength <= maxPositions) return maxLength ?? maxPositions;
  throw new UserError(`max_length ${maxLength} is more than the model's context of ${maxPositions} tokens`);
}

/** Gives the models' memory back, whatever happened. */
export async function withModels<R>(
  models: readonly ({ destroy(): void } | null)[],
  work: () => Promise<R>,
): Promise<R> {
  try {
    return await work();
  } finally {
    for (const model of models) model?.destroy();
  }
}
