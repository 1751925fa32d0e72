export interface TarFile {
  name: string;
  mode: number;
  data: Uint8Array;
}

const BLOCK = 512;

/** The regular files of an uncompressed ustar archive (names up to 100 characters plus prefix), in order. */
export function* untar(archive: Uint8Array): Generator<TarFile> {
  const text = new TextDecoder();
  const field = (at: number, length: number) => {
    const bytes = archive.subarray(at, at + length);
    const end = bytes.indexOf(0);
    return text.decode(end < 0 ? bytes : bytes.subarray(0, end)).trim();
  };
  for (let at = 0; at + BLOCK <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(field(at + 124, 12), 8);
    const type = archive[at + 156]; // "0" or NUL: a regular file
    const prefix = field(at + 257, 5) === "ustar" ? field(at + 345, 155) : "";
    const start = at + BLOCK;
    if (!Number.isFinite(size) || start + size > archive.length) throw new Error(`tar: bad entry at byte ${at}`);
    if (type === 0x30 || type === 0) {
      const name = field(at, 100);
      yield {
        name: prefix ? `${prefix}/${name}` : name,
        mode: Number.parseInt(field(at + 100, 8), 8),
        data: archive.subarray(start, start + size),
      };
    }
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
}
