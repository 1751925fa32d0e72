/** Zip files out: runs, models and adapters as one download. */
import { UserError } from "./errors.ts";
import type { FileContent, Files } from "./files.ts";
import { innerPath } from "./inner-path.ts";
import { streamOf } from "./open.ts";
import { join } from "./paths.ts";

/** How files are packed. */
export interface ZipOptions {
  /** Stops it; the promise or stream is rejected with its reason. */
  readonly signal?: AbortSignal;
  /** Told after each piece how many bytes were packed. */
  readonly progress?: (done: number) => void;
}

/**
 * Files and folders as one zip file, for a download: `zipFiles(files, ["run/model"])`. Their names in it are their paths.
 * @throws UserError where one of the names is not there
 */
export async function zipFiles(files: Files, names: readonly string[], options: ZipOptions = {}): Promise<Blob> {
  const { readable, written } = pack(await contentsOf(files, names), options);
  const response = new Response(readable, { headers: { "content-type": "application/zip" } });
  const blob = response.blob().catch(() => new Blob()); // a browser says here only that it failed
  await written;
  return blob;
}

/**
 * The contents of files and folders by their paths, each read when it is its turn.
 * @throws UserError where one of the names is not there
 */
export async function contentsOf(files: Files, names: readonly string[]): Promise<Record<string, FileContent>> {
  const contents: Record<string, FileContent> = {};
  const add = async (path: string): Promise<boolean> => {
    const inside = await files.list(path);
    if (inside.length > 0) {
      for (const name of inside) if (!name.includes(".partial-")) await add(join(path, name));
      return true;
    }
    const file = await files.open(path).catch(() => null); // an empty folder
    await file?.close();
    if (file) contents[innerPath(path).join("/")] = sized(file.size, () => piecesOf(files, path));
    return file !== null;
  };
  for (const name of names) if (!(await add(name))) throw new UserError(`${name} is missing: there is nothing to pack`);
  return contents;
}

const sized = (size: number, begin: () => AsyncIterator<Uint8Array>): AsyncIterable<Uint8Array> & { size: number } => ({
  size,
  [Symbol.asyncIterator]: begin,
});

async function* piecesOf(files: Files, path: string): AsyncGenerator<Uint8Array> {
  const file = await files.open(path);
  if (!file) throw new UserError(`${path} is missing: it was deleted meanwhile`);
  yield* streamOf(file) as unknown as AsyncIterable<Uint8Array>;
}

/**
 * A zip file of these contents by name, made while it is read, e.g. into a file that somebody chose: nothing is held in memory.
 * Weights are stored as they are, because they do not get smaller; all else is compressed. The names are those of `writeFolder`
 * and paths inside of one folder.
 */
export function zipStream(
  contents: Readonly<Record<string, FileContent>>,
  options: ZipOptions = {},
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const { readable, written } = pack(contents, options);
  written.catch(() => {}); // whoever reads hears of it
  return readable;
}

function pack(contents: Readonly<Record<string, FileContent>>, { signal, progress }: ZipOptions) {
  const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  let done = 0;
  const counted = (content: Exclude<FileContent, string>) =>
    streamFrom(content).pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(piece, controller) {
          done += piece.length;
          controller.enqueue(piece);
          progress?.(done);
        },
      }),
    );
  const write = async () => {
    const { ZipWriter } = await import("@zip.js/zip.js/lib/zip-core-custom.js");
    const writer = new ZipWriter(writable, { keepOrder: true, signal, extendedTimestamp: false });
    for (const [name, content] of Object.entries(contents)) {
      signal?.throwIfAborted();
      const path = innerPath(name).join("/");
      const level = /\.(safetensors|gguf|bin|zip|gz)$/.test(path) ? 0 : 6;
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      // Of unknown size it would be written with 64-bit sizes, which not all programs read.
      const uncompressedSize = bytes instanceof Uint8Array ? bytes.length : (bytes as { size?: number }).size;
      await writer.add(path, counted(bytes), { level, uncompressedSize });
    }
    await writer.close();
  };
  const written = write().catch(async (error) => {
    const reason = signal?.aborted ? signal.reason : error;
    await writable.abort(reason).catch(() => {});
    throw reason;
  });
  return { readable, written };
}

function streamFrom(content: Exclude<FileContent, string>): ReadableStream<Uint8Array> {
  const pieces = content instanceof Uint8Array ? [content].values() : content[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      for (;;) {
        const { done, value } = await pieces.next();
        if (done) return controller.close();
        if (value.length > 0) return controller.enqueue(value);
      }
    },
    async cancel() {
      await pieces.return?.();
    },
  });
}
