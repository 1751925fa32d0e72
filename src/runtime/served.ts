/** Files that can only be read, behind the interface that all of the project reads through. */
import { UserError } from "./errors.ts";
import { type Files, namesIn } from "./files.ts";
import { innerPath } from "./inner-path.ts";
import { blobFile, type OpenFile, urlFile } from "./open.ts";

/**
 * The files of a web server: paths are URLs, relative ones to the page. Large files are read in ranges.
 * @param request instead of `fetch`, e.g. with a token
 */
export const servedFiles = (request: typeof fetch = fetch): Files => ({
  ...readOnly((path) => urlFile(path, request)),
  served: true,
});

/**
 * The files below one address of a web server, read only: "config.json" of `urlFiles("models/tiny")` is
 * "models/tiny/config.json". Paths do not lead out of it; a server lists no folders. A server that answers with its start
 * page where it has no file counts as one that has none.
 * @param base an address, relative ones to the page
 * @param request instead of `fetch`, e.g. with a token
 */
export function urlFiles(base: string | URL, request: typeof fetch = fetch): Files {
  const folder = String(base).replace(/\/+$/, "");
  const asked = withoutStartPage(request);
  return readOnly(async (path) => urlFile([folder, ...innerPath(path).map(encodeURIComponent)].join("/"), asked));
}

/** Requests to a server that may answer with its start page where it has no file: that counts as none. */
export const withoutStartPage =
  (request: typeof fetch): typeof fetch =>
  async (input, init) => {
    const response = await request(input, init);
    const isPage = response.status === 200 && response.headers.get("content-type")?.startsWith("text/html");
    if (!isPage || /\.html?$/i.test(String(input))) return response;
    await response.body?.cancel();
    return new Response(null, { status: 404 });
  };

/**
 * Files by their paths inside of one folder, read only.
 * @param open opens one of them
 */
export function filesAt<T>(entries: ReadonlyMap<string, T>, open: (entry: T) => Promise<OpenFile>): Files {
  return {
    ...readOnly(async (path) => {
      const entry = entries.get(innerPath(path).join("/"));
      return entry === undefined ? null : open(entry);
    }),
    async list(path) {
      const folder = innerPath(path);
      if (folder.length > 0) return namesIn(folder.join("/"), entries.keys());
      return [...new Set([...entries.keys()].map((name) => name.split("/")[0]))].sort();
    },
  };
}

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
