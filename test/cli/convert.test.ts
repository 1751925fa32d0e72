import { describe, expect, it } from "vitest";
import { parseSize } from "../../src/cli/verbs/convert.ts";

describe("a size", () => {
  it.each([
    ["500MB", 5e8],
    ["5 GB", 5e9],
    ["2GiB", 2 ** 31],
    ["1.5kb", 1500],
    ["1000000", 1e6],
  ])("%s", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(["", "0", "five", "5 parsecs", "-5MB", "0.1B", "1e9"])("is not %s", (text) => {
    expect(() => parseSize(text)).toThrow(/max_shard_size must be a size such as 500MB or 5GB/);
  });
});
