import { describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { profileLines, runSuite } from "../../bench/suite.ts";
import { profileStep, runtimeFigures } from "../../bench/training.ts";

describe("bench on a device", () => {
  it("checks and times a case, and records what it ran on", async () => {
    const lines: string[] = [];
    const report = await runSuite({ only: "matmul 256x", quick: true, print: (line) => lines.push(line) });
    expect(report.adapter).not.toBe("");
    expect(report.cases.map(({ name }) => name)).toEqual(["matmul 256x256x256 NN"]);
    const [ours] = report.cases[0].arms;
    expect(ours.failed).toBeUndefined();
    expect(ours.median).toBeGreaterThan(0);
    expect(lines).toHaveLength(1);
  });

  it("says where a training step spends the GPU's time", async ({ skip }) => {
    const { timestamps } = await openDevice();
    if (!timestamps) skip("no timestamps");
    const times = await profileStep(2);
    const names = times.map(({ kernel }) => kernel);
    for (const part of [/^matmul/, /^attention_fwd/, /^attention_d/, /^rmsnorm/, /^logprobs_fwd/, /^adamw/])
      expect(
        names.some((name) => part.test(name)),
        `${part} in ${names}`,
      ).toBe(true);
    for (const { dispatches, milliseconds } of times) {
      expect(dispatches % 2).toBe(0); // two equal steps
      expect(milliseconds).toBeGreaterThanOrEqual(0);
    }
    const [head, first] = profileLines(times);
    expect(head).toMatch(/^kernel +dispatches +ms +share$/);
    expect(first).toMatch(new RegExp(`^${names[0]} .* %$`));
  });

  it("finds training in a steady state: cached bind groups, no new buffers, flat memory", {
    timeout: 180_000,
  }, async () => {
    await openDevice();
    const figures = await runtimeFigures(8);
    expect(figures.bindGroupHitRate).toBeGreaterThanOrEqual(0.99);
    expect(figures.buffersCreatedAfterStep3).toBe(0);
    expect(figures.poolBytesAtEnd).toBe(figures.poolBytesAtStep3);
  });
});
