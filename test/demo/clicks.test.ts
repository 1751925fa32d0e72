/** The built page under a visitor who clicks at random. */
import fs from "node:fs/promises";
import fc from "fast-check";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";

const tiny =
  "playground/#algorithm=ppo&kl_coef=0.1&learning_rate=0.0012&rollout_batch_size=4&max_steps=1&reward_pairs=32&seed=7";

const button = (page: Page, at: number) => page.locator(".machine > .buttons button").nth(at);

/** Resets, starts a run with the tiny knobs and waits for its end; what the page then lets one download. */
async function wholeRun(page: Page): Promise<string> {
  await button(page, 2).click();
  await page.evaluate((hash) => {
    location.hash = hash;
  }, tiny);
  await page.waitForFunction(() => document.querySelector<HTMLInputElement>("#knob-seed")?.value === "7");
  await button(page, 0).click();
  await page.locator("[data-phase=done]").waitFor({ timeout: 120_000 });
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download run" }).click(),
  ]);
  expect(download.suggestedFilename()).toBe("webrlhf-ppo-seed7.jsonl");
  return fs.readFile(await download.path(), "utf8");
}

const clicks: Record<string, (page: Page) => Promise<unknown>> = {
  go: (page) => button(page, 0).click(),
  step: (page) => button(page, 1).click(),
  reset: (page) => button(page, 2).click(),
  exhibit: (page) => page.locator(".exhibits a").last().click(),
  small: async (page) => {
    const small = page.getByRole("button", { name: "Use small values" });
    if (await small.isVisible()) await small.click();
  },
  knob: async (page) => {
    await page.getByLabel("Seed").fill("8");
    await page.getByLabel("Seed").press("Tab");
  },
  wait: (page) => page.waitForTimeout(400),
};

describe.skipIf(!hasBrowser)("the built page under random clicks", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 180_000);
  afterAll(() => built?.close());

  it("shows no error, and in the end the numbers of an undisturbed run", async () => {
    const { page, errors } = await built.open(webgpu, tiny);
    await page.getByRole("button", { name: "Start", disabled: false }).waitFor({ timeout: 120_000 });
    const undisturbed = await wholeRun(page);
    expect(undisturbed.trimEnd().split("\n")).toHaveLength(1 + 4 + 1 + 1 + 1 + 1);

    const kind = fc.constantFrom("go", "go", "step", "reset", "exhibit", "small", "knob", "wait", "wait");
    const [path] = fc.sample(fc.array(kind, { minLength: 30, maxLength: 30, size: "max" }), { seed: 3, numRuns: 1 });
    for (const name of path) {
      await clicks[name](page);
      expect(await page.getByRole("alert").isVisible(), name).toBe(false);
    }
    expect(await wholeRun(page)).toBe(undisturbed);
    expect(await page.getByRole("alert").isVisible()).toBe(false);
    expect(errors).toEqual([]);
  });
});
