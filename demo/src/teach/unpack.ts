/** Texts in a zip file; apart, because most pages never open one. */
import { unzipFiles } from "webrlhf";

/** Files of a saved run, and their bytes unpacked: with its models and checkpoints. */
const LIMITS = { maxFiles: 10_000, maxBytes: 2 ** 31, maxCompressed: 2 ** 28 };

/**
 * The texts whose paths are `wanted`, none longer than `most` bytes.
 * @throws UserError where the zip file is none, or is damaged
 */
export async function unpackTexts(
  blob: Blob,
  wanted: (path: string) => boolean,
  most: number,
): Promise<{ path: string; text: string }[]> {
  const files = await unzipFiles(blob, LIMITS);
  const texts: { path: string; text: string }[] = [];
  const visit = async (folder: string): Promise<void> => {
    for (const name of await files.list(folder)) {
      const path = folder ? `${folder}/${name}` : name;
      if (!wanted(path)) {
        // A file has nothing in it to list.
        await visit(path);
        continue;
      }
      const file = await files.open(path);
      const size = file?.size ?? 0;
      await file?.close();
      if (size > most) throw new Error(`${path} > ${most / 1_000_000} MB`);
      const bytes = await files.read(path);
      if (bytes) texts.push({ path, text: new TextDecoder().decode(bytes) });
    }
  };
  await visit("");
  return texts;
}
