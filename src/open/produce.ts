/** Work that trains nothing, with its record. */
import { type RunRecord, readRecord, recordBeside, recordOf, writeRecord } from "../rlhf/record.ts";
import type { Files } from "../runtime/files.ts";
import { type About, factsOf } from "./facts.ts";
import { exists } from "./hub.ts";
import { filesOf } from "./surroundings.ts";

/** Where the results of some work go: a folder, or a single file. */
export type Product = { readonly folder: string } | { readonly file: string };

/** Does work, and keeps its record in the folder that it writes, or beside the file. */
export async function produce<R>(product: Product, about: About, work: () => Promise<R>): Promise<R> {
  const files: Files = await filesOf(about.around ?? {});
  const place = "folder" in product ? recordOf(product.folder) : recordBeside(product.file);
  const keep = async (state: RunRecord["state"]) =>
    writeRecord(files, place, { ...(await factsOf(about)), state, steps: null });
  const before = await readRecord(files, place);
  await keep("running");
  try {
    const result = await work();
    await keep("finished");
    return result;
  } catch (error) {
    const state = about.around?.signal?.aborted ? "stopped" : "failed";
    const left = before !== null || (await isThere(files, product));
    // The first error is the one to tell.
    await (left ? keep(state) : forget(files, product, place)).catch(() => {});
    throw error;
  }
}

/** Whether there is anything of a product besides its record. */
async function isThere(files: Files, product: Product): Promise<boolean> {
  if ("file" in product) return exists(files, product.file);
  const record = recordOf(product.folder).slice(product.folder.length + 1);
  return (await files.list(product.folder)).some((name) => name !== record);
}

/** Work that failed at once leaves nothing behind. */
async function forget(files: Files, product: Product, place: string): Promise<void> {
  await files.remove(place);
  if ("folder" in product) await files.remove(product.folder);
}
