/** Every page of the built site as it is found: axe, and sideways scroll. */
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";
import { everyLook, faults, type Look } from "./looks.ts";
import { ready } from "./visitor.ts";

const looks: readonly Look[] = everyLook.filter(({ width, colours }) =>
  colours === "forced" ? width === 390 : width > 320,
);
/** Where a language says all that another one says, in the same places. */
const few: readonly Look[] = [{ width: 1280, colours: "dark" }];
const rooms = ["", "playground/", "studio/", "teach/", "replay/", "worker/", "docs/", "docs/worker/", "404.html"];

describe.skipIf(!hasBrowser)("every page of the site", { timeout: 400_000 }, () => {
  let built: BuiltPage;
  let page: Page;
  let slugs: string[];
  beforeAll(async () => {
    built = await builtPage();
    ({ page } = await built.open(webgpu, ""));
    const links = await page
      .locator('a[href*="lessons/"]')
      .evaluateAll((all) => all.map((a) => (a as HTMLAnchorElement).href));
    slugs = [...new Set(links.flatMap((href) => /lessons\/([\w-]+)\/$/.exec(href)?.[1] ?? []))];
  }, 300_000);
  afterAll(() => built?.close());

  async function look(place: string, as: readonly Look[]): Promise<string[]> {
    await page.goto(built.address + place, { waitUntil: "networkidle" });
    if (place.includes("lessons/")) await ready(page);
    return (await faults(page, as)).map((fault) => `${place || "home"}: ${fault}`);
  }

  it("has no broken rule of WCAG 2.2 AA, and no sideways scroll, in light and dark and forced colours", async () => {
    const found: string[] = [];
    for (const room of rooms) found.push(...(await look(room, looks)));
    for (const slug of slugs) found.push(...(await look(`lessons/${slug}/`, looks)));
    expect(found).toEqual([]);
    expect(slugs).toHaveLength(9);
  });

  it("has none in Chinese", async () => {
    const found: string[] = [];
    for (const room of rooms.slice(0, 6)) found.push(...(await look(`zh/${room}`, few)));
    for (const slug of slugs) found.push(...(await look(`zh/lessons/${slug}/`, few)));
    expect(found).toEqual([]);
  });
});
