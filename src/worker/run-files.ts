/** The files of one run: what it reads from outside, what it writes in memory. */
import { type Files, memoryFiles } from "../runtime/files.ts";
import { overlayFiles } from "../runtime/overlay.ts";

/** The folder of a run's own files. */
export const FOLDER = "run";

const isOwn = (path: string): boolean => {
  const plain = path.replace(/^(\.\/)+/, "");
  return plain === FOLDER || plain.startsWith(`${FOLDER}/`);
};

/** A run's own files, and all of them at one moment. */
export interface RunFiles {
  readonly files: Files;
  /** What was written, by path. The bytes of a file are never changed, only replaced. */
  contents(): Map<string, Uint8Array>;
}

/** @param before what the run wrote before */
export function runFiles(base: Files, before: ReadonlyMap<string, Uint8Array> = new Map()): RunFiles {
  const store = new Map(before);
  // Nothing of the base is seen in the run's folder: a server may answer for any path.
  const readable: Files = {
    ...base,
    read: async (path) => (isOwn(path) ? null : base.read(path)),
    open: async (path) => (isOwn(path) ? null : base.open(path)),
    list: async (path) => (isOwn(path) ? [] : base.list(path)),
  };
  return { files: overlayFiles(readable, memoryFiles(store)), contents: () => new Map(store) };
}
