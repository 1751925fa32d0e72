/** What is wrong with how a page looks: broken rules of axe, and sideways scroll. */
import path from "node:path";
import type { Page } from "playwright";

const axe = path.resolve(import.meta.dirname, "../../node_modules/axe-core/axe.min.js");
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

export interface Look {
  width: number;
  colours: "light" | "dark" | "forced";
}

export const everyLook: readonly Look[] = [320, 390, 1280].flatMap((width) =>
  (["light", "dark", "forced"] as const).map((colours) => ({ width, colours })),
);

type Axe = { run(root: Document, options: object): Promise<{ violations: { id: string; nodes: Node[] }[] }> };
type Node = { target: unknown[]; failureSummary?: string };

/** What axe finds on the page as it is: the names of broken rules with the places. */
export async function violations(page: Page): Promise<string[]> {
  if (!(await page.evaluate(() => "axe" in window))) await page.addScriptTag({ path: axe });
  return page.evaluate(async (tags) => {
    const { violations } = await (window as unknown as { axe: Axe }).axe.run(document, { runOnly: tags });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
  }, tags);
}

async function tooWide(page: Page): Promise<string[]> {
  const [width, wide] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
  return wide > width ? [`${width} px: scrolls sideways by ${wide - width} px`] : [];
}

/** What is broken in these looks, and whether the narrowest screen scrolls sideways; the page is left as it was found. */
export async function faults(page: Page, looks: readonly Look[]): Promise<string[]> {
  const before = page.viewportSize();
  const found: string[] = [];
  // What is folded away is looked at, too.
  await page.evaluate(() => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
  for (const { width, colours } of looks) {
    await page.setViewportSize({ width, height: width < 1000 ? 844 : 900 });
    const forcedColors = colours === "forced" ? "active" : "none";
    await page.emulateMedia({ colorScheme: colours === "dark" ? "dark" : "light", forcedColors });
    found.push(...(await tooWide(page)));
    for (const violation of await violations(page)) found.push(`${width} px, ${colours}: ${violation}`);
  }
  await page.emulateMedia({ colorScheme: "light", forcedColors: "none" });
  await page.setViewportSize({ width: 320, height: 844 });
  found.push(...(await tooWide(page)));
  if (before) await page.setViewportSize(before);
  return found;
}
