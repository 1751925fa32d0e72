/** Checksums of a checkpoint's files, so that nothing goes on from a damaged one. */
import { type FileContent, type Files, parseJson } from "../runtime/files.ts";
import { hasher, sha256File } from "../runtime/sha256.ts";

/** The file of a checkpoint that has the SHA-256 of its other files, by name. */
const CHECKSUMS = "checksums.json";

/** The files with their checksums beside them, which are taken while the files are written. */
export function withChecksums(files: Record<string, FileContent>): Record<string, FileContent> {
  const sums: Record<string, string> = {};
  async function* tapped(name: string, content: FileContent): AsyncGenerator<Uint8Array> {
    const hash = await hasher();
    for await (const piece of pieces(content)) {
      hash.add(piece);
      yield piece;
    }
    sums[name] = await hash.end();
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    yield new TextEncoder().encode(`${JSON.stringify(sums, null, 2)}\n`);
  }
  const watched = Object.entries(files).map(([name, content]) => [name, tapped(name, content)]);
  return { ...Object.fromEntries(watched), [CHECKSUMS]: all() }; // files are written in their order
}

async function* pieces(content: FileContent): AsyncGenerator<Uint8Array> {
  if (typeof content === "string") yield new TextEncoder().encode(content);
  else if (content instanceof Uint8Array) yield content;
  else yield* content;
}

/** Takes all content into memory, so that what it comes from may change. */
export async function snapshot(files: Record<string, FileContent>): Promise<Record<string, FileContent>> {
  const taken: Record<string, FileContent> = {};
  for (const [name, content] of Object.entries(files)) {
    const parts: Uint8Array[] = [];
    for await (const piece of pieces(content)) parts.push(piece.slice());
    taken[name] = (async function* () {
      yield* parts;
    })();
  }
  return taken;
}

/** What is wrong with a folder that was written with checksums, or null. One without checksums is taken as it is. */
export async function damageIn(files: Files, folder: string): Promise<string | null> {
  const content = await files.read(`${folder}/${CHECKSUMS}`);
  if (!content) return null;
  let sums: Record<string, string>;
  try {
    sums = parseJson(content, CHECKSUMS);
  } catch {
    return `${folder}/${CHECKSUMS} is damaged`;
  }
  for (const [name, expected] of Object.entries(sums)) {
    const found = await sha256File(files, `${folder}/${name}`);
    if (found === null) return `${folder}/${name} is missing`;
    if (found !== expected) return `${folder}/${name} is damaged: it is not what was written (SHA-256 ${found})`;
  }
  return null;
}
