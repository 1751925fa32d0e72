/** What a pair-preference model's folder has besides a language model's files: how its questions are written. */
import type { Tokenizer } from "../../data/tokenizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { type Files, parseJson } from "../../runtime/files.ts";
import { PairWriter, pairTemplates } from "./template.ts";

/** Its presence says that a folder holds a pair-preference model. */
const FILE = "pair_preference.json";

/** The file to write beside the model. */
export const pairFiles = (writer: PairWriter): Record<string, string> => ({
  [FILE]: `${JSON.stringify({ template: writer.template, bos: writer.keepBos }, null, 2)}\n`,
});

/** RLHFlow's published model says in none of its files what it is: it is known by its name, on the hub or as a folder. */
const isPublished = (name: string): boolean => /(^|[/\\])pair-preference-model-LLaMA3-8B(@[^@/\\]+)?\/*$/i.test(name);

/**
 * Whether a folder holds a pair-preference model.
 * @param name how the model was named; default: its path
 */
export const isPairModel = async (files: Files, path: string, name = path): Promise<boolean> =>
  (await files.read(`${path}/${FILE}`)) !== null || isPublished(name);

/**
 * How the folder's model is asked, or null where it is no pair-preference model. Throws `UserError` for a damaged file.
 * @param name how the model was named; default: its path
 */
export async function readPairWriter(
  files: Files,
  path: string,
  tokenizer: () => Promise<Tokenizer>,
  name = path,
): Promise<PairWriter | null> {
  const file = `${path}/${FILE}`;
  const bytes = await files.read(file);
  if (!bytes) return isPublished(name) ? new PairWriter(await tokenizer(), "chat") : null;
  const { template, bos } = parseJson<{ template?: unknown; bos?: unknown }>(bytes, file);
  const known = pairTemplates.find((name) => name === template);
  if (known === undefined || typeof bos !== "boolean") {
    throw new UserError(`${file}: "template" must be one of ${pairTemplates.join(", ")}, and "bos" true or false`);
  }
  return new PairWriter(await tokenizer(), known, bos);
}
