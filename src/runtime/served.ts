/** Files that can only be read, behind the interface that all of the project reads through. */
import { UserError } from "./errors.ts";
import { type Files, namesIn } from "./files.ts";
import { blobFile, type OpenFile, urlFile } from "./open.ts";

/**
 * The files of a web server: paths are URLs, relative ones to the page. Large files are read in ranges.
 * @param request instead of `fetch`, e.g. with a token
 */
export const servedFiles = (request: typeof fetch = fetch): Files => readOnly((path) => urlFile(path, request));

/** Blobs by path, e.g. the files that somebody picked in a page. */
export function blobFiles(blobs: Readonly<Record<string, Blob>>): Files {
  const open = async (path: string) => (Object.hasOwn(blobs, path) ? blobFile(blobs[path]) : null);
  return { ...readOnly(open), list: async (path) => namesIn(path, Object.keys(blobs)) };
}

/** What can be opened by path, as files. Without `list`, folders look empty. */
export function readOnly(open: (path: string) => Promise<OpenFile | null>): Files {
  const refuse = async (path: string): Promise<never> => {
    throw new UserError(`cannot write ${path}: these files can only be read`);
  };
  return {
    open,
    async read(path) {
      const file = await open(path);
      if (!file) return null;
      try {
        return await file.read(0, file.size);
      } finally {
        await file.close();
      }
    },
    list: async () => [],
    writeFile: refuse,
    writeFiles: refuse,
    writeFolder: refuse,
    append: refuse,
    remove: refuse,
  };
}
