/** What opening things needs of the program around it, and what it takes where the program says nothing. */
import type { HubStore } from "../io/hub-store.ts";
import { diskFiles, type Files } from "../runtime/files.ts";
import { hasDisk } from "../runtime/open.ts";
import { servedFiles } from "../runtime/served.ts";

/** How a program takes part in opening models and data; each has a default, and options records carry them along. */
export interface Surroundings {
  /** Where paths are read. Default: the disk (Node, Deno); in a page paths are URLs, relative ones to the page. */
  files?: Files;
  /** Hears what is worth knowing, a line at a time. Default: nobody. */
  say?: (line: string) => void;
  /** Hears how far a file from the hub has come, in bytes. Default: nobody. */
  progress?: (file: string, received: number, total: number) => void;
  /** Hears how much of a model is on its way to the GPU, in bytes of its file. Default: nobody. */
  loading?: (model: string, done: number, total: number) => void;
  /** Stops downloads and the loading of models: they reject with its reason, and nothing stays on the GPU. */
  signal?: AbortSignal;
  /** How the hub is reached. Default: as the variables HF_* of the environment say. */
  hub?: HubAccess;
}

/** How the hub is reached, and where its files are kept. */
export interface HubAccess {
  /** Default: Hugging Face's cache on disk, or the page's private files. `files` read what it keeps. */
  store?: HubStore & { files?: Files };
  /** Default https://huggingface.co. */
  endpoint?: string;
  /** Default: the runtime's. */
  fetch?: typeof fetch;
  token?: string | null;
}

/** Where paths are read: what the program says, or what the runtime has. */
export const filesOf = async ({ files }: Surroundings): Promise<Files> =>
  files ?? (hasDisk ? diskFiles() : servedFiles());

/** Whether the program reads paths as a page's URLs, which cannot be listed. */
export const readsUrls = ({ files }: Surroundings): boolean => (files ? files.served === true : !hasDisk);
