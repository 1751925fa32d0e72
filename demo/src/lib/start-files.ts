/** The shipped language model, fetched as static files of the site, once. */
import { memoryFiles, UserError } from "webrlhf";
import config from "../../../models/world-sft/config.json?url";
import weights from "../../../models/world-sft/model.safetensors?url";
import tokenizer from "../../../models/world-sft/tokenizer.json?url";
import tokenizerConfig from "../../../models/world-sft/tokenizer_config.json?url";
import type { Start } from "./lesson/types.ts";

const urls: Record<string, string> = {
  "config.json": config,
  "model.safetensors": weights,
  "tokenizer.json": tokenizer,
  "tokenizer_config.json": tokenizerConfig,
};

let fetched: Promise<Start> | null = null;

/** @throws UserError naming the file that did not load; the next call tries again */
export function fetchStart(): Promise<Start> {
  fetched ??= load().catch((error) => {
    fetched = null;
    throw error;
  });
  return fetched;
}

async function load(): Promise<Start> {
  const files = memoryFiles();
  const folder = "world-sft";
  await Promise.all(
    Object.entries(urls).map(async ([name, url]) => {
      const response = await fetch(url).catch(() => null);
      if (!response?.ok) {
        throw new UserError(
          `The page's file ${name} did not load (${response?.status ?? "no connection"}). Try again.`,
        );
      }
      await files.writeFile(`${folder}/${name}`, new Uint8Array(await response.arrayBuffer()));
    }),
  );
  return { files, folder };
}
