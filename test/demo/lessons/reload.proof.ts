/** A lesson's run survives a reload of its page. */
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "../built-page.ts";

const lesson = `lessons/sft/#${new URLSearchParams({ size: "S", seed: "7", ask: JSON.stringify({ steps: 40 }) })}`;

const phase = (page: Page) => page.locator("article.lesson").getAttribute("data-phase");
const points = async (page: Page) => Number(await page.locator("[data-figure=sft-loss]").getAttribute("data-points"));
const numbers = (page: Page) => page.locator("[data-check]").allInnerTexts();
const start = (page: Page) => page.getByRole("button", { name: "Train it here", disabled: false });
const ended = { timeout: 240_000, interval: 250 };

describe.skipIf(!hasBrowser)("a lesson's page", { timeout: 500_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  it("offers a run that a reload broke off, and ends it with the same numbers", async () => {
    const { page, errors } = await built.open(webgpu, lesson);
    await start(page).click({ timeout: 120_000 });
    await expect.poll(() => phase(page), ended).toBe("done");
    const undisturbed = await numbers(page);
    expect(undisturbed.join()).toMatch(/holds/);

    await page.getByRole("button", { name: "Drop this run" }).click();
    await start(page).click();
    await expect.poll(() => points(page), ended).toBeGreaterThan(8);
    expect(await points(page)).toBeLessThan(40);
    await page.reload();
    await page.getByRole("button", { name: "Go on with it" }).click({ timeout: 120_000 });
    await expect.poll(() => points(page), ended).toBeGreaterThan(8); // told again at once
    await expect.poll(() => phase(page), ended).toBe("done");
    expect(await points(page)).toBe(40);
    expect(await numbers(page)).toEqual(undisturbed);
    expect(await page.locator("[role=alert]").count()).toBe(0);
    expect(errors).toEqual([]);
  });
});
