/** Text out of bytes that must be UTF-8. */

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws Error for bytes that are no UTF-8 */
export function utf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new Error("text that is not UTF-8");
  }
}
