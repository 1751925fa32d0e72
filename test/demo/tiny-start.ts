/** A tiny language model for the page's runs to start from, where no page is. */
import { memoryFiles, openDevice } from "webrlhf";
import { CausalLM, modelFiles } from "webrlhf/nn";
import type { Start } from "../../demo/src/lib/lesson/types.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";

export async function tinyStart(): Promise<Start> {
  await openDevice();
  const model = new CausalLM(tinyConfig(), "start").initialize(1);
  const files = memoryFiles();
  const text = { "tokenizer.json": JSON.stringify(tokenizer.json) };
  const config = { "tokenizer_config.json": JSON.stringify(tokenizer.configJson) };
  await files.writeFolder("start", { ...(await modelFiles(model)), ...text, ...config });
  model.destroy();
  return { files, folder: "start" };
}
