/** Bytes made smaller and larger again by DEFLATE (RFC 1951), in every runtime. */
import { joinedBytes } from "./joined-bytes.ts";
import { hasDisk } from "./open.ts";

/** Deflates bytes. Where the runtime lets one choose, runs alone are looked for: numbers' bytes repeat in no other way. */
export async function deflated(bytes: Uint8Array): Promise<Uint8Array> {
  if (!hasDisk) return throughStream(bytes, new CompressionStream("deflate-raw"), Number.POSITIVE_INFINITY);
  const { constants, deflateRaw } = await import("node:zlib");
  return new Promise((resolve, reject) => {
    deflateRaw(bytes, { strategy: constants.Z_RLE }, (error, found) => (error ? reject(error) : resolve(found)));
  });
}

/**
 * Inflates what makes so many bytes, and never more of them.
 * @throws Error for what makes others
 */
export async function inflated(bytes: Uint8Array, length: number): Promise<Uint8Array> {
  if (!hasDisk) return exactly(await throughStream(bytes, new DecompressionStream("deflate-raw"), length), length);
  const { inflateRaw } = await import("node:zlib");
  const found = await new Promise<Uint8Array>((resolve, reject) => {
    inflateRaw(bytes, { maxOutputLength: Math.max(1, length) }, (error, found) =>
      error ? reject(error) : resolve(found),
    );
  });
  return exactly(found, length);
}

function exactly(found: Uint8Array, length: number): Uint8Array {
  if (found.length !== length) throw new Error(`${found.length} bytes and not ${length}`);
  return found;
}

/** What comes out of a stream, in one piece. Throws where that is more than `most`. */
export async function throughStream(
  bytes: Uint8Array,
  through: CompressionStream | DecompressionStream,
  most: number,
): Promise<Uint8Array> {
  const reader = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(through).getReader();
  const pieces: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new Error(`more than ${most} bytes`);
    }
    pieces.push(value);
  }
  return joinedBytes(pieces);
}
