/** Where the studio's worker reads: files that were picked, downloads from the hub, adapters that were trained here. */
import {
  blobFiles,
  browserStore,
  type Files,
  type HubStore,
  memoryFiles,
  opfsFiles,
  overlayFiles,
  UserError,
} from "webrlhf";

/** Files that were picked in the page, by their paths below "picked". */
let picked: Record<string, Blob> = {};

export function pick(files: readonly (readonly [path: string, file: Blob])[]): void {
  picked = Object.fromEntries(files.map(([path, file]) => [`picked/${path}`, file]));
}

let store: Promise<HubStore & { files: Files }> | null = null;

/** Downloads of this origin; a browser that keeps no files says so at every try. */
export function hubStore(): Promise<HubStore & { files: Files }> {
  store ??= browserStore().catch((error) => {
    store = null;
    throw error;
  });
  return store;
}

let shelf: Promise<Files> | null = null;

/** What was trained here, kept from visit to visit; where the browser keeps nothing, as long as the page stands. */
export function shelfFiles(): Promise<Files> {
  // What cannot be kept is held in memory above what could.
  shelf ??= opfsFiles("webrlhf-studio").then(
    (kept) => persistent(kept, memoryFiles()),
    () => memoryFiles(),
  );
  return shelf;
}

/** Writes below where there is room, else in memory above it. */
function persistent(below: Files, above: Files): Files {
  const both = overlayFiles(below, above);
  return {
    ...both,
    async writeFolder(path, files) {
      try {
        await below.writeFolder(path, files);
      } catch {
        await both.writeFolder(path, files);
      }
    },
    async remove(path) {
      await above.remove(path);
      await below.remove(path);
    },
  };
}

type Readable = Pick<Files, "read" | "open" | "list">;

/** Every place by the first part of its paths. */
const places: Record<string, () => Promise<Readable>> = {
  picked: async () => blobFiles(picked),
  hub: async () => below("hub", (await hubStore()).files),
  trained: async () => below("trained", await shelfFiles()),
};

function below(name: string, files: Files): Readable {
  const inner = (path: string) => path.slice(name.length + 1);
  return {
    read: (path) => files.read(inner(path)),
    open: (path) => files.open(inner(path)),
    list: (path) => files.list(inner(path)),
  };
}

const plain = (path: string): string => path.replace(/^(\.?\/)+/, "").replace(/\/+$/, "");

async function at<T>(path: string, read: (files: Readable, path: string) => Promise<T>, none: T): Promise<T> {
  const place = plain(path);
  const name = place.split("/")[0];
  return Object.hasOwn(places, name) ? read(await places[name](), place) : none;
}

const refuse = async (path: string): Promise<never> => {
  throw new UserError(`cannot write ${path}: the studio's models and adapters can only be read`);
};

/** All places together, read only: runs write above them. */
export const studioFiles: Files = {
  read: (path) => at(path, (files, place) => files.read(place), null),
  open: (path) => at(path, (files, place) => files.open(place), null),
  list: (path) => at(path, (files, place) => files.list(place), []),
  writeFile: refuse,
  writeFiles: refuse,
  writeFolder: refuse,
  append: refuse,
  remove: refuse,
};
