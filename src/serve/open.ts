/** Models by name, ready to be asked in text. */
import type { Tokenizer } from "../data/tokenizer.ts";
import type { Adapter } from "../nn/lora.ts";
import type { LoraOptions } from "../nn/lora-options.ts";
import { adaptableModules } from "../nn/lora-targets.ts";
import { CausalLM } from "../nn/models.ts";
import { openAdapter, readAdapterFolder } from "../nn/peft.ts";
import { labelOf } from "../open/hub.ts";
import { ModelOpener, type ModelOptions } from "../open/opener.ts";
import { filesOf } from "../open/surroundings.ts";
import { Patience } from "../open/surviving.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson } from "../runtime/files.ts";
import { join } from "../runtime/paths.ts";
import type { OpenModel } from "./adapters.ts";
import type { TextModel } from "./model.ts";
import { type TextModelOptions, textModel } from "./text-model.ts";

/** What a model's folder says on generation, in its generation_config.json. */
async function generationConfig(files: Files, path: string): Promise<Record<string, unknown>> {
  const file = join(path, "generation_config.json");
  const bytes = await files.read(file).catch(() => null);
  return bytes ? parseJson(bytes, file) : {};
}

/** A model to ask in text, on which adapters can be opened. The caller calls `close` in the end. */
export interface OpenTextModel extends OpenModel {
  /**
   * Opens a new device and the model on it, where an error came of a failure of the old device; the model's engine is then
   * another one, and adapters are to be opened again. Throws any other error again.
   * @returns what happened, for people
   */
  revive(error: unknown): Promise<string>;
  /** Opens an adapter's folder beside the model, under a name. Throws `UserError` where the model is an adapter itself. */
  openAdapter(folder: string, name: string): Promise<OpenModel>;
  /**
   * A fresh adapter on the model, to be trained; the caller destroys it. Throws `UserError` where the model is an adapter itself.
   * @param label names it in memory errors
   */
  adapt(lora: LoraOptions, seed: number, label: string): CausalLM;
  /** Names of the linear layers that an adapter can adapt. */
  modules(): readonly string[];
  /** "llama". */
  readonly family: string;
}

type Choice = [name: string, choice: ModelOptions, options: (context: number) => Partial<TextModelOptions>];

/** Opens a model to ask in text. It outlives its device: see `revive`. */
export async function openTextModel(...choice: Choice): Promise<OpenTextModel> {
  let open = await openOnDevice(...choice);
  const patience = new Patience();
  const model: TextModel = {
    ...open.model,
    get engine() {
      return open.model.engine;
    },
  };
  const revive = async (error: unknown): Promise<string> => {
    patience.forget();
    const what = await patience.renew(error, () => {});
    const old = open;
    open = await openOnDevice(...choice);
    await old.close().catch(() => {}); // its memory went with its device
    return what;
  };
  return {
    model,
    revive,
    close: () => open.close(),
    openAdapter: (...asked) => open.openAdapter(...asked),
    adapt: (...asked) => open.adapt(...asked),
    modules: () => open.modules(),
    family: open.family,
  };
}

async function openOnDevice(...[name, choice, options]: Choice): Promise<Omit<OpenTextModel, "revive">> {
  const opener = new ModelOpener(choice);
  try {
    const tokenizer = await opener.tokenizer(name);
    await opener.refuseJudge(name);
    const model = await opener.sampler(name);
    opener.refuseUnusedBase();
    tokenizer.checkFits(model.config.vocabSize);
    const { files, path } = await opener.locate(name);
    const all = {
      name: labelOf({ name }),
      generationConfig: await generationConfig(files, path),
      ...options(model.config.maxPositions),
    };
    const text = textModel(model, tokenizer, all);
    const close = async () => {
      await text.engine.close();
      opener.destroy();
    };
    const openAdapterHere = async (folder: string, as: string): Promise<OpenModel> => {
      if (model.adapter) throw new UserError(`${name} is an adapter: serve its base to load others beside it`);
      return openOn(model, tokenizer, await filesOf(choice), folder, { ...all, name: as });
    };
    const adapt = (lora: LoraOptions, seed: number, label: string): CausalLM => {
      if (model.adapter) throw new UserError(`${name} is an adapter: serve its base to train others on it`);
      const adapted = new CausalLM({ base: model, lora }, label).initialize(seed);
      (adapted.adapter as Adapter).basePath = name;
      return adapted;
    };
    const { family } = model.config;
    return { model: text, close, openAdapter: openAdapterHere, adapt, modules: () => adaptableModules(model), family };
  } catch (error) {
    opener.destroy();
    throw error;
  }
}

/** Opens the adapter of a folder on a model that is open already. */
async function openOn(
  base: CausalLM,
  tokenizer: Tokenizer,
  files: Files,
  folder: string,
  options: TextModelOptions,
): Promise<OpenModel> {
  const found = await readAdapterFolder(files, folder);
  if (!found) throw new UserError(`${folder} holds no adapter`);
  const adapted = await openAdapter(files, found, base, "lm", { label: options.name });
  try {
    const model = textModel(adapted, tokenizer, options);
    const close = async () => {
      await model.engine.close();
      adapted.destroy();
    };
    return { model, close };
  } catch (error) {
    adapted.destroy();
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
