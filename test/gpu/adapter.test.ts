import { describe, expect, it } from "vitest";
import { requestAdapter } from "../../src/gpu/adapter.ts";

describe("requestAdapter", () => {
  it("finds an adapter and says in one line which", async () => {
    const { adapter, note } = await requestAdapter();
    expect(adapter.limits.maxComputeInvocationsPerWorkgroup).toBeGreaterThanOrEqual(256);
    expect(note).toMatch(/\S/);
    expect(note).not.toContain("\n");
  });
});
