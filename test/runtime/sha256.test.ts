import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, it } from "vitest";
import { PlainSha256 } from "../../src/runtime/plain-sha256.ts";

const whole = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

it("hashes what comes in pieces as a whole, in every length", async () => {
  for (let length = 0; length < 200; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + length) & 255);
    const hash = new PlainSha256();
    hash.add(bytes);
    expect(await hash.end(), `${length} bytes`).toBe(whole(bytes));
  }
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), async (pieces) => {
      const hash = new PlainSha256();
      for (const piece of pieces) hash.add(piece);
      expect(await hash.end()).toBe(whole(Buffer.concat(pieces)));
    }),
  );
  const text = new PlainSha256();
  text.add("ä猫");
  expect(await text.end()).toBe(whole(Buffer.from("ä猫")));
});
