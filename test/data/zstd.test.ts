import { describe, expect, it } from "vitest";
import { decompressor } from "../../src/data/parquet/compression.ts";
import { xxh64 } from "../../src/data/parquet/xxh64.ts";

const TEXT = Array.from({ length: 40 }, (_, i) => `Answer ${(i * 7919) % 101}; `).join("");
/** The text as the program `zstd` writes it: with its size and its sum. */
const FRAME = Uint8Array.from(
  Buffer.from(
    "KLUv/WS0AO0DACIEDRLQpQOgqOjRwH1kklImmWIGRAij+C72xIR0ms0R0TxHpXGOrvqbq0q3p9rTo5AxBAUhAAEnIGBTBYUDbPHdsO+Cm6U0WrvNbKHgZihNxhaefQvebGlsid234M1KyxZY9nWHFrTNlFZ6sd7ozWppY+nbFrTZS/NKaza6TjffpQ==",
    "base64",
  ),
);
const [FLAGS, SIZE] = [4, 5];
/** Without the sum. */
const plain = (frame: Uint8Array): Uint8Array => {
  const cut = frame.slice(0, -4);
  cut[FLAGS] &= ~4;
  return cut;
};
/** Without size and sum, as of a text that was piped: a window's size in the place of the text's. */
const piped = (frame: Uint8Array): Uint8Array =>
  Uint8Array.from([...frame.subarray(0, 4), 0, 0x58, ...plain(frame).subarray(7)]);
const joined = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

async function unpacked(input: Uint8Array, size = TEXT.length): Promise<string> {
  return new TextDecoder().decode((await decompressor(6))(input, size));
}

describe("Zstandard in Parquet", () => {
  it("is read with a sum or without, with a size or without, and in several frames", async () => {
    const skipped = Uint8Array.from([0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7]);
    for (const frame of [FRAME, plain(FRAME), piped(FRAME)]) {
      expect(await unpacked(frame)).toBe(TEXT);
      expect(await unpacked(joined(frame, skipped, FRAME), 2 * TEXT.length)).toBe(TEXT + TEXT);
    }
  });

  it("is refused where the sum is that of another text", async () => {
    for (let i = 1; i <= 4; i++) {
      const frame = FRAME.slice();
      frame[frame.length - i] ^= 1;
      await expect(unpacked(frame)).rejects.toThrow("checksum is wrong");
    }
  });

  it("is refused where its blocks do not fill the size that it says", async () => {
    for (const frame of [plain(FRAME), FRAME]) {
      const longer = frame.slice();
      longer[SIZE] += 3;
      await expect(unpacked(longer, TEXT.length + 3)).rejects.toThrow("whose header says");
    }
  });

  it("is refused where it is cut off, goes on, or needs a dictionary", async () => {
    for (let size = 1; size < FRAME.length; size++) await expect(unpacked(FRAME.subarray(0, size))).rejects.toThrow();
    await expect(unpacked(joined(FRAME, Uint8Array.of(0)))).rejects.toThrow("cut off");
    await expect(unpacked(joined(FRAME, Uint8Array.of(0, 0, 0, 0)))).rejects.toThrow("not zstd");
    const other = joined(FRAME.subarray(0, 5), Uint8Array.of(9), FRAME.subarray(5));
    other[FLAGS] |= 1;
    await expect(unpacked(other)).rejects.toThrow("needs what is not here");
  });

  it("sums as XXH64 does", () => {
    // Of the program xxhsum.
    expect(xxh64(new Uint8Array()).toString(16)).toBe("ef46db3751d8e999");
    expect(xxh64(new TextEncoder().encode("abc")).toString(16)).toBe("44bc2cf5ad770999");
    expect(Number(xxh64(new TextEncoder().encode(TEXT)) & 0xffffffffn)).toBe(0xa5df374e);
  });
});
