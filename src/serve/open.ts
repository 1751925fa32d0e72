/** Models by name, ready to be asked in text. */
import { labelOf } from "../open/hub.ts";
import { ModelOpener, type ModelOptions } from "../open/opener.ts";
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson } from "../runtime/files.ts";
import { join } from "../runtime/paths.ts";
import type { TextModel } from "./model.ts";
import { type TextModelOptions, textModel } from "./text-model.ts";

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
