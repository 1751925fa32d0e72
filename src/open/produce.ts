/** Work that trains nothing, with its record. */
import { adapterName, deviceRequests } from "../gpu/device.ts";
import { type RunFacts, type RunRecord, readRecord, recordBeside, recordOf, writeRecord } from "../rlhf/record.ts";
import { changesBetween } from "../rlhf/record-changes.ts";
import { admitFresh } from "../rlhf/run-folder.ts";
import type { Files } from "../runtime/files.ts";
import { type About, factsOf, refuseInputs } from "./facts.ts";
import { exists } from "./hub.ts";
import { filesOf } from "./surroundings.ts";

/** Where the results of some work go: a folder, or a single file. */
export type Product = { readonly folder: string } | { readonly file: string };

/**
 * Does work, and keeps its record in the folder that it writes, which nobody else has meanwhile, or beside the file.
 * @throws UserError where the folder holds something else, and where a place to write is one that is read
 */
export async function produce<R>(product: Product, about: About, work: () => Promise<R>): Promise<R> {
  await refuseInputs(about, "folder" in product ? product.folder : product.file);
  const files: Files = await filesOf(about.around ?? {});
  const facts = await factsOf(about);
  if ("file" in product) return keeping(files, product, about, facts, work);
  const release = await files.claim?.(product.folder);
  try {
    await admit(files, product.folder, about, facts);
    return await keeping(files, product, about, facts, work);
  } finally {
    await release?.();
  }
}

/** The same work may be done again, and what was broken off; all else must be told to overwrite. */
async function admit(files: Files, path: string, about: About, facts: RunFacts): Promise<void> {
  const overwrite = (about.values as { overwriteOutputDir?: boolean }).overwriteOutputDir ?? false;
  const before = await readRecord(files, recordOf(path));
  const same = before?.verb === facts.verb && changesBetween(before, facts).refused.length === 0;
  if (same && !overwrite) return;
  for (const text of await admitFresh({ files, path, before, facts }, overwrite)) about.around?.say?.(text);
}

async function keeping<R>(
  files: Files,
  product: Product,
  about: About,
  facts: RunFacts,
  work: () => Promise<R>,
): Promise<R> {
  const place = "folder" in product ? recordOf(product.folder) : recordBeside(product.file);
  const earlier = deviceRequests();
  const keep = async (state: RunRecord["state"]) => {
    // What was loaded from the hub only now has its bytes now, and so has the adapter its name.
    const later = state !== "running" && facts.inputs.some(({ sha256 }) => sha256 === null);
    const told = later ? await factsOf(about) : facts;
    const adapter = deviceRequests() > earlier ? adapterName() : null; // one that computed for others before does not count
    await writeRecord(files, place, { ...told, adapter, state, steps: null });
  };
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
    await (left ? keep(state) : files.remove(place)).catch(() => {});
    throw error;
  }
}

/** Whether there is anything of a product besides its record. */
async function isThere(files: Files, product: Product): Promise<boolean> {
  if ("file" in product) return exists(files, product.file);
  const record = recordOf(product.folder).slice(product.folder.length + 1);
  return (await files.list(product.folder)).some((name) => name !== record && !name.startsWith("."));
}
