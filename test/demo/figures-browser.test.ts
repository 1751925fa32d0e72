/** Figures in a browser: the judge's space in 3-D, and one figure at a time on a narrow screen. */
import type { Locator, Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";

const LESSON = "lessons/reward-model/";

describe.skipIf(!hasBrowser)("figures of a lesson", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 600_000);
  afterAll(() => built?.close());

  const space = (page: Page) => page.locator('figure[data-figure="reward-space"]');

  /** How many colours a picture of an element has, and the share of its commonest one. */
  async function colours(page: Page, element: Locator): Promise<{ count: number; most: number; picture: string }> {
    const picture = (await element.screenshot()).toString("base64");
    const told = await page.evaluate(async (base64) => {
      const image = new Image();
      image.src = `data:image/png;base64,${base64}`;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height);
      const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, image.width, image.height);
      const counts = new Map<number, number>();
      for (let i = 0; i < data.length; i += 4) {
        const colour = (data[i] >> 4) * 256 + (data[i + 1] >> 4) * 16 + (data[i + 2] >> 4);
        counts.set(colour, (counts.get(colour) ?? 0) + 1);
      }
      return { count: counts.size, most: Math.max(...counts.values()) / (data.length / 4) };
    }, picture);
    return { ...told, picture };
  }

  it("draws the judge's space, turned by keys, and nothing moves by itself", async () => {
    const { page, errors } = await built.open(webgpu, LESSON);
    await page.emulateMedia({ reducedMotion: "reduce" });
    await page.setViewportSize({ width: 1280, height: 900 });
    const figure = space(page);
    await figure.getByRole("button", { name: "Turn it in 3-D" }).click();
    const view = figure.getByRole("application");
    await view.scrollIntoViewIfNeeded();
    await expect.poll(async () => (await colours(page, view)).count, { timeout: 60_000 }).toBeGreaterThan(4);
    const first = await colours(page, view);
    expect(first.most).toBeLessThan(0.995); // points on a ground, not an empty canvas
    await page.waitForTimeout(700);
    expect((await colours(page, view)).picture).toBe(first.picture);
    await view.focus();
    const turned = Number(await view.getAttribute("data-turn"));
    for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
    expect(Number(await view.getAttribute("data-turn"))).toBeGreaterThan(turned);
    await expect.poll(async () => (await colours(page, view)).picture === first.picture).toBe(false);
    await page.keyboard.press("Home");
    await expect.poll(async () => (await colours(page, view)).picture === first.picture).toBe(true);
    await figure.getByRole("button", { name: "Show it flat" }).press("Enter");
    expect(await figure.getAttribute("data-view")).toBe("2d");
    expect(await figure.locator("svg").isVisible()).toBe(true);
    expect(errors).toEqual([]);
  });

  it("shows the same points flat where there is no GPU", async () => {
    const { page, errors } = await built.open([], LESSON);
    await page.setViewportSize({ width: 1280, height: 900 });
    const figure = space(page);
    await figure.getByRole("button", { name: "Turn it in 3-D" }).click();
    await figure.getByText("There is no WebGPU here to draw this with.").waitFor();
    expect(await figure.getAttribute("data-view")).toBe("2d");
    expect(await figure.locator("svg").isVisible()).toBe(true);
    await figure.getByText("The points as a table").click();
    const rows = await figure.locator("tbody tr").count();
    expect(rows).toBe(Number(await figure.getAttribute("data-points")));
    expect(rows).toBeGreaterThan(50);
    expect(errors).toEqual([]);
  });

  it("come one at a time on a phone, chosen by keys, and all on paper", async () => {
    const { page, errors } = await built.open([], LESSON);
    await page.setViewportSize({ width: 390, height: 844 });
    const visible = () =>
      page
        .locator("article figure[data-figure]")
        .evaluateAll((all) =>
          all.flatMap((figure) => (figure.checkVisibility() ? [(figure as HTMLElement).dataset.figure] : [])),
        );
    const all = await page.locator("article figure[data-figure]").count();
    expect(all).toBeGreaterThan(2);
    expect(await visible()).toEqual(["reward-accuracy"]);
    const choice = page.getByRole("combobox", { name: "Figure", exact: true });
    expect(await choice.count()).toBe(1);
    await choice.focus();
    await page.keyboard.press("ArrowDown");
    expect(await visible()).toEqual(["reward-reliability"]);
    // The focus went along, and the way back is the same key.
    await page.keyboard.press("ArrowUp");
    expect(await visible()).toEqual(["reward-accuracy"]);
    await page.keyboard.press("End");
    expect(await visible()).toEqual(["reward-space"]);
    expect((await choice.boundingBox())?.height).toBeGreaterThanOrEqual(24);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    await page.emulateMedia({ media: "print" });
    expect(await visible()).toHaveLength(all);
    await page.emulateMedia({ media: "screen" });
    await page.setViewportSize({ width: 1280, height: 900 });
    expect(await visible()).toHaveLength(all);
    expect(await choice.count()).toBe(0);
    expect(errors).toEqual([]);
  });

  it("are all there without JavaScript", async () => {
    const { browser } = await built.open([], "about:blank");
    const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 390, height: 844 } });
    const page = await context.newPage();
    await page.goto(built.address + LESSON);
    const figures = page.locator("article figure[data-figure]");
    expect(await figures.count()).toBeGreaterThan(2);
    for (const figure of await figures.all()) expect(await figure.isVisible()).toBe(true);
  });
});
