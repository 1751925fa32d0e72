/** DEFLATE in Node and, as pages do it, by streams: the same bytes, and never more than were asked for. */
import { describe, expect, it } from "vitest";
import { deflated, inflated, throughStream } from "../../src/runtime/deflate.ts";

const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i % 97 === 0 ? i : 0));
const byStream = (given: Uint8Array, most = Number.POSITIVE_INFINITY) =>
  throughStream(given, new DecompressionStream("deflate-raw"), most);

describe("deflated bytes", () => {
  it("are smaller, and the same again", async () => {
    for (const given of [bytes, new Uint8Array(0), bytes.subarray(3, 1000)]) {
      const small = await deflated(given);
      expect(Buffer.from(await inflated(small, given.length)).equals(given)).toBe(true);
      expect(Buffer.from(await byStream(small)).equals(given)).toBe(true);
      const streamed = await throughStream(given, new CompressionStream("deflate-raw"), Number.POSITIVE_INFINITY);
      expect(Buffer.from(await inflated(streamed, given.length)).equals(given)).toBe(true);
    }
    expect((await deflated(bytes)).length).toBeLessThan(10_000);
  });

  it("are refused where they make more or fewer than was said, before there are many of them", async () => {
    const bomb = await deflated(new Uint8Array(20 << 20));
    await expect(inflated(bomb, 1000)).rejects.toThrow(/larger than 1000 bytes/);
    await expect(byStream(bomb, 1000)).rejects.toThrow(/more than 1000 bytes/);
    await expect(inflated(await deflated(bytes), bytes.length + 1)).rejects.toThrow(/100000 bytes and not 100001/);
    await expect(inflated(crypto.getRandomValues(new Uint8Array(1000)), 1000)).rejects.toThrow();
  });
});
