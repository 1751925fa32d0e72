/** Tokenizers by name, with the chat template that belongs to them. */
import { builtinTemplate } from "../data/builtin-templates.ts";
import { ChatTemplate, specialTokens, templateInConfig } from "../data/chat-template.ts";
import { WORLD } from "../data/made.ts";
import { Tokenizer } from "../data/tokenizer.ts";
import { worldTokenizer } from "../data/world.ts";
import { isGguf } from "../io/model-files.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson, readNeeded } from "../runtime/files.ts";
import { basename, dirname, join } from "../runtime/paths.ts";
import { type HubChoice, locateModel } from "./hub.ts";
import { filesOf, type Surroundings } from "./surroundings.ts";

/** Options of a tokenizer. */
export interface TokenizerOptions extends HubChoice, Surroundings {
  /** A Jinja file, or a registered name such as builtin:safe-rlhf, instead of the tokenizer's own chat template. */
  chatTemplatePath?: string | null | undefined;
}

/**
 * Opens a tokenizer with its chat template.
 * @param name a model's folder, a tokenizer.json, a .gguf file, `org/name` on the hub, or builtin:world
 * @throws UserError naming the file that is missing or damaged
 */
export async function openTokenizer(name: string, options: TokenizerOptions = {}): Promise<Tokenizer> {
  const at = name === WORLD ? null : await locateModel(name, "tokenizer", options);
  const tokenizer = at ? await readTokenizer(at.files, at.path) : ownWorldTokenizer();
  await takeTemplate(await filesOf(options), tokenizer, options.chatTemplatePath);
  return tokenizer;
}

/** The world's tokenizer, apart from the one that all others share: it may be given a template. */
function ownWorldTokenizer(): Tokenizer {
  const { json, configJson } = worldTokenizer();
  return Tokenizer.fromJson(json, configJson, WORLD);
}

/** The tokenizer at a path: of a folder, its tokenizer.json or a .gguf file. */
export async function readTokenizer(files: Files, path: string): Promise<Tokenizer> {
  if (isGguf(path)) {
    // Loaded now, so that pages without such files need not have its reader.
    const { json, config } = await (await import("../io/gguf-model.ts")).openGgufTokenizer(files, path);
    return withTemplate(Tokenizer.fromJson(json, config, path), null, path);
  }
  const file = basename(path) === "tokenizer.json" ? path : join(path, "tokenizer.json");
  const bytes = await files.read(file);
  if (!bytes && (await files.list(dirname(file))).length === 0) {
    throw new UserError(
      `${dirname(file)}: there is no such folder, or it is empty; a model is a folder, a .gguf file, or org/name ` +
        "in the Hugging Face cache or on the hub",
    );
  }
  if (!bytes && (await files.read(join(dirname(file), "vocab.json")))) {
    const save = `AutoTokenizer.from_pretrained("${dirname(file)}").save_pretrained("${dirname(file)}")`;
    throw new UserError(
      `${file} is missing: the folder has a tokenizer in the older form of vocab.json and merges.txt. Make one of it with ` +
        `Python: from transformers import AutoTokenizer; ${save}`,
    );
  }
  const json = parseJson(bytes ?? (await readNeeded(files, file, "a model's folder holds its tokenizer")), file);
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

/** Gives the tokenizer another chat template than its own, where one is named: a file, or a registered template. */
export async function takeTemplate(files: Files, tokenizer: Tokenizer, path: string | null | undefined): Promise<void> {
  if (!path) return;
  const source = builtinTemplate(path) ?? (await templateFile(files, path));
  tokenizer.chatTemplate = await ChatTemplate.compile(source, path, specialTokens(tokenizer.configJson));
}

async function templateFile(files: Files, path: string): Promise<string> {
  const bytes = await readNeeded(files, path, "chat_template_path names a file with a Jinja template");
  return new TextDecoder().decode(bytes);
}

/** The tokenizer's files, which go beside every saved model. */
export const tokenizerFiles = (tokenizer: Tokenizer): Record<string, string> => ({
  "tokenizer.json": `${JSON.stringify(tokenizer.json)}\n`,
  "tokenizer_config.json": `${JSON.stringify(tokenizer.configJson, null, 2)}\n`,
  ...(tokenizer.chatTemplate &&
    tokenizer.chatTemplate.source !== tokenizer.configJson.chat_template && {
      "chat_template.jinja": tokenizer.chatTemplate.source,
    }),
});
