/** Adapters that were trained here: kept in the origin's private file system, and given out as zip files. */
import { type FileContent, type Files, memoryFiles, UserError, zipFiles } from "webrlhf";
import { shelfFiles } from "./places.ts";
import type { Kept } from "./protocol.ts";

/** What is said of an adapter, beside it. */
const RECORD = "studio.json";

/** What of a run's folder belongs to its adapter. */
const PARTS = [
  "adapter_config.json",
  "adapter_model.safetensors",
  "score_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "run.json",
  "metrics.jsonl",
];

/** Takes a run's adapter to the shelf. Its configuration names the base as others find it. */
export async function keep(from: Files, folder: string, kept: Kept, data: Uint8Array): Promise<void> {
  const content: Record<string, FileContent> = {};
  for (const name of PARTS) {
    const bytes = await from.read(`${folder}/${name}`);
    if (bytes) content[name] = name === "adapter_config.json" ? withBase(bytes, kept.base) : bytes;
  }
  if (!content["adapter_model.safetensors"]) throw new UserError("the run left no adapter");
  content[kept.dataName] = data;
  content[RECORD] = JSON.stringify(kept);
  await (await shelfFiles()).writeFolder(kept.name, content);
}

function withBase(config: Uint8Array, base: string): string {
  const read = JSON.parse(new TextDecoder().decode(config)) as Record<string, unknown>;
  return `${JSON.stringify({ ...read, base_model_name_or_path: base }, null, 2)}\n`;
}

/** What is on the shelf, the newest first. */
export async function shelved(): Promise<Kept[]> {
  const files = await shelfFiles();
  const found: Kept[] = [];
  for (const name of await files.list("")) {
    const record = await files.read(`${name}/${RECORD}`).catch(() => null);
    try {
      if (record) found.push({ ...(JSON.parse(new TextDecoder().decode(record)) as Kept), name });
    } catch {
      // what a lost tab left half written is nothing to show
    }
  }
  return found.sort((a, b) => b.made - a.made);
}

export async function drop(name: string): Promise<void> {
  await (await shelfFiles()).remove(name);
}

/**
 * An adapter as PEFT reads it, with its tokenizer, the data that it learned, and how to go on with it.
 * @param base of the base model, as the other machine finds it
 */
export async function zipped(name: string, base: string, readme: string, signal: AbortSignal): Promise<Blob> {
  const files = await shelfFiles();
  const names = (await files.list(name)).filter((file) => file !== RECORD);
  if (names.length === 0) throw new UserError(`${name} is not on the shelf any more: it was deleted in another tab`);
  const content: Record<string, FileContent> = { "README.md": readme };
  for (const file of names) {
    const bytes = (await files.read(`${name}/${file}`)) as Uint8Array;
    content[file] = file === "adapter_config.json" ? withBase(bytes, base) : bytes;
  }
  const whole = memoryFiles();
  await whole.writeFolder(name, content);
  return zipFiles(whole, [name], { signal });
}
