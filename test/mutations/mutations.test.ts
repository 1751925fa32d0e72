// A share of the damaged files that scripts/mutate-files.mjs sets against the reference readers: what those made of them
// is kept in expected.json (node scripts/mutate-files.mjs --expect 120).
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { KINDS } from "./read.ts";

/** Of each file the beginning of the SHA-256 of its content, or nothing where the reference refuses it. */
const file = readFileSync(new URL("./expected.json", import.meta.url), "utf8");
const expected = Object.fromEntries(
  Object.entries(JSON.parse(file) as Record<string, string>).map(([kind, list]) => [kind, list.split(",")]),
);

describe.each(Object.keys(expected))("damaged files: %s", (kind) => {
  it("are refused in words, or read as the reference reads them", async () => {
    let same = 0;
    for (const [i, theirs] of expected[kind].entries()) {
      const read = async () => KINDS[kind].read(KINDS[kind].make(i));
      const ours = await read().catch((error) => {
        if (!isUserError(error)) throw new Error(`case ${i}: ${error}`, { cause: error });
      });
      if (ours === undefined || theirs === "") continue;
      expect(createHash("sha256").update(ours).digest("hex").slice(0, 10), `case ${i}`).toBe(theirs);
      same++;
    }
    expect(same).toBeGreaterThan(expected[kind].length / 10);
  }, 60_000);
});
