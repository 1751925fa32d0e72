/** What was trained as a folder that this and other programs open. */
import type { Tokenizer } from "../data/tokenizer.ts";
import type { Model } from "../nn/models.ts";
import type { SaveOptions } from "../nn/pretrained.ts";
import * as nn from "../nn/trained.ts";
import type { FileContent } from "../runtime/files.ts";
import { tokenizerFiles } from "./tokenizer.ts";

/**
 * The files of a model's folder, or of its adapter's, with the tokenizer beside it: transformers, peft and `openModel` open them.
 * Write them with `Files.writeFolder`, or hand them to `zipStream`. The weights are read from the GPU while they are written, so
 * write them before training goes on, and once.
 * @param tokenizer null leaves it out
 * @param options of a whole model; adapters are always stored as float32
 */
export const trainedFiles = async (
  model: Model,
  tokenizer: Tokenizer | null,
  options: SaveOptions = {},
): Promise<Record<string, FileContent>> => ({
  ...(await nn.trainedFiles(model, options)),
  ...(tokenizer && tokenizerFiles(tokenizer)),
});
