import { readFile } from "node:fs/promises";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { namesFriend } from "../../../demo/src/lessons/labeller/rules.ts";
import { fromJsonLines } from "../../../demo/src/lib/labels.ts";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "../built-page.ts";

const table = (page: Page) => page.getByRole("group", { name: /^Label pairs of stories/ });
const given = async (page: Page) => Number(await table(page).getAttribute("data-labels"));

/** Labels by keys alone, by the rule that a friend is named, until there are so many. */
async function label(page: Page, count: number) {
  await table(page).focus();
  while ((await given(page)) < count) {
    const left = await page.getByRole("region", { name: "Left story" }).innerText();
    await page.keyboard.press(namesFriend(left) ? "ArrowLeft" : "ArrowRight");
  }
}

/** Of the figure's table the last row: labels, and how often the judge decides as each rule. */
async function judged(page: Page): Promise<Record<string, number>> {
  return page.locator('figure[data-figure="labeller-judge"] table').evaluate((table) => {
    const texts = (row: Element) => [...row.children].map((cell) => cell.textContent ?? "");
    const rows = [...table.querySelectorAll("tr")];
    const last = texts(rows[rows.length - 1]);
    return Object.fromEntries(texts(rows[0]).map((name, i) => [name, Number(last[i])]));
  });
}

describe.skipIf(!hasBrowser)("lesson 4 in the built page", { timeout: 400_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  it("makes a judge of twenty labels by keyboard, which go out as a file and never into a link", async () => {
    const { page, errors } = await built.open(webgpu, "lessons/labeller/#size=S&seed=42");
    await page.getByRole("button", { name: "Train it here", disabled: false }).waitFor({ timeout: 120_000 });
    await table(page).focus();
    await page.keyboard.press(" "); // cannot tell
    expect(await given(page)).toBe(0);
    await label(page, 3);
    await page.keyboard.press("z");
    expect(await given(page)).toBe(2);
    await label(page, 20);
    await expect.poll(() => judged(page), { timeout: 240_000 }).toMatchObject({ labels: 20 });
    expect((await judged(page))["friend is named"]).toBeGreaterThanOrEqual(0.9);
    await expect
      .poll(() => table(page).getByRole("status").innerText())
      .toMatch(/^20 of 20 labels.*decided (\d) as before/);

    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Download labels.jsonl" }).click(),
    ]);
    const labels = fromJsonLines(await readFile(await download.path(), "utf8"));
    expect(labels).toHaveLength(20);
    expect(labels.every(({ chosen, rejected }) => namesFriend(chosen) && !namesFriend(rejected))).toBe(true);

    await page.getByLabel("Compare with a file of labels").setInputFiles(await download.path());
    await page.getByText("On 20 pairs that you both labelled you agree on 20.").waitFor();

    await page.getByRole("radio", { name: "me: my 20 labels" }).check();
    await page.getByRole("button", { name: "Train it here" }).click();
    await page.locator('article[data-phase="running"]').waitFor({ timeout: 60_000 });
    expect(decodeURIComponent(page.url())).toContain('ask={"labeller":"own"}');
    expect(page.url()).not.toContain("friend");
    await page.reload();
    await expect.poll(() => given(page), { timeout: 60_000 }).toBe(20);
    expect(errors).toEqual([]);
  });

  it("makes one in the page itself where there is no WebGPU", async () => {
    const { page, errors } = await built.open([], "lessons/labeller/");
    await page.getByText("Without WebGPU your judge is a linear head").waitFor({ timeout: 120_000 });
    await label(page, 20);
    await expect.poll(() => judged(page), { timeout: 60_000 }).toMatchObject({ labels: 20 });
    expect((await judged(page))["friend is named"]).toBeGreaterThanOrEqual(0.9);
    expect(errors).toEqual([]);
  });
});
