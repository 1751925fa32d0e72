import { describe, expect, it } from "vitest";
import { examine } from "../../src/cli/verbs/doctor/examine.ts";
import { packageVersion } from "../../src/runtime/machine.ts";

describe("doctor", () => {
  it("reports the runtime, an adapter with its limits, and gives advice in whole sentences", async () => {
    const report = await examine({ measure: false });
    expect(report.ok).toBe(true);
    expect(report.machine.runtime).toMatch(/^(Node|Deno) \d+\./);
    expect(report.machine.cores).toBeGreaterThan(0);
    expect(report.adapter?.limits.maxBufferSize).toBe(report.adapter?.maxBuffer);
    expect(report.adapter?.features).toContain("core-features-and-limits");
    expect(report.adapters.length).toBeGreaterThan(0);
    for (const advice of report.advice) expect(advice.length).toBeGreaterThan(10);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  it("knows which packages are installed", () => {
    expect(packageVersion("webgpu")).toMatch(/^\d+\.\d+/);
    expect(packageVersion("a-package-nobody-has")).toBeNull();
  });
});
