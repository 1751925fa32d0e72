/** Checksums of file formats. */

const tableOf = (polynomial: number): Uint32Array =>
  Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let i = 0; i < 8; i++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1;
    return value;
  });

const checksum = (table: Uint32Array, bytes: Uint8Array): number => {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = (sum >>> 8) ^ table[(sum ^ byte) & 255];
  return (sum ^ 0xffffffff) >>> 0;
};

const TABLE = tableOf(0xedb88320);
const CASTAGNOLI = tableOf(0x82f63b78);

/** The CRC-32 of some bytes, without a sign: that of gzip, zip and Parquet's pages. */
export const crc32 = (bytes: Uint8Array): number => checksum(TABLE, bytes);

/** The CRC-32C (Castagnoli) of some bytes, without a sign: that of TensorBoard's event files. */
export const crc32c = (bytes: Uint8Array): number => checksum(CASTAGNOLI, bytes);
