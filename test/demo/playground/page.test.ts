/** The playground on the built site. */

import fc from "fast-check";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { addressOf } from "../../../demo/src/lib/lesson/address.ts";
import type { Knobs } from "../../../demo/src/playground/knobs.ts";
import { addressOfKnobs, lesson } from "../../../demo/src/playground/lesson.ts";
import { presets } from "../../../demo/src/playground/presets.ts";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "../built-page.ts";
import { everyLook, faults } from "../looks.ts";

const hashOf = (asked: Partial<Knobs>) =>
  addressOf(addressOfKnobs({ ...lesson.input("S", 7), pairs: 32, responses: 8, ...asked }));
const tiny = hashOf({ steps: 2 });

const article = (page: Page) => page.locator("article.lesson");
const phase = (page: Page) => article(page).getAttribute("data-phase");
const go = (page: Page) => page.locator(".runbar button.primary");
const ended = { timeout: 240_000, interval: 200 };

/** Texts of charts that reach beyond the drawing. */
const cut = () =>
  [...document.querySelectorAll("figure svg")].flatMap((svg) => {
    const { left, right } = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")]
      .filter((text) => text.getBoundingClientRect().left < left || text.getBoundingClientRect().right > right + 1)
      .map((text) => text.textContent);
  });

/** What can be pressed and is smaller than a finger needs. */
const small = () =>
  [...document.querySelectorAll("main :is(a, button, summary, input, select)")]
    .filter((one) => one.getClientRects().length > 0)
    .filter((one) => one.getBoundingClientRect().height < 24 || one.getBoundingClientRect().width < 24)
    .map((one) => one.outerHTML);

/** What the page shows of a run that is over. */
async function numbersOf(page: Page): Promise<string> {
  await page.evaluate(() => {
    for (const details of document.querySelectorAll("figure details")) (details as HTMLDetailsElement).open = true;
  });
  const tables = await page.locator("figure table").allInnerTexts();
  const verdict = await page.locator("[data-verdict]").innerText();
  return [...tables, verdict, await page.locator("table.samples").innerText()].join("\n");
}

/** Drops what is there and trains the tiny run to its end. */
async function wholeRun(page: Page): Promise<string> {
  const drop = page.getByRole("button", { name: "Drop this run" });
  if (await drop.isEnabled()) await drop.click();
  await page.evaluate((hash) => {
    location.hash = "";
    location.hash = hash;
  }, tiny);
  await expect.poll(() => page.getByLabel("Judge's pairs").inputValue()).toBe("32");
  await expect.poll(() => page.getByLabel("Steps", { exact: true }).inputValue()).toBe("2");
  await page.getByLabel("Recorded runs").selectOption({ index: 0 }); // it stands pale behind the run, and beside it in the table
  await go(page).click();
  await expect.poll(() => phase(page), ended).toBe("done");
  return numbersOf(page);
}

const clicks: Record<string, (page: Page) => Promise<unknown>> = {
  go: (page) => go(page).click(),
  step: async (page) => {
    const step = page.getByRole("button", { name: "One step" });
    if (await step.isEnabled()) await step.click();
  },
  drop: async (page) => {
    const drop = page.getByRole("button", { name: "Drop this run" });
    if (await drop.isEnabled()) await drop.click();
  },
  exhibit: (page) => page.locator(".exhibits a").nth(3).click(),
  method: (page) => page.getByRole("radio", { name: "GRPO" }).check(),
  knob: async (page) => {
    await page.getByLabel("Temperature").fill("0.9");
    await page.getByLabel("Temperature").press("Tab");
  },
  wait: (page) => page.waitForTimeout(400),
};

describe.skipIf(!hasBrowser)("the playground's page", { timeout: 600_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  it("shows the undisturbed numbers after random clicks", async () => {
    const { page, errors } = await built.open(webgpu, `playground/${tiny}`);
    await go(page).and(page.locator(":enabled")).waitFor({ timeout: 120_000 });
    await page.setViewportSize({ width: 390, height: 844 });
    const undisturbed = await wholeRun(page);
    expect(undisturbed).toMatch(/on 128 held-out prompts after step 2: (the stories got truly|it cannot be told)/);
    expect(new URL(page.url()).hash).toBe(tiny);

    // What a knob says is for the next run; the figures, the address and its copy are of this one.
    await page.getByLabel("Temperature").fill("0.5");
    await page.getByLabel("Temperature").press("Tab");
    await page.getByText("The next run will have these values.").waitFor();
    expect(await numbersOf(page)).toBe(undisturbed);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await page.getByRole("button", { name: "Copy link to this run" }).click();
    await page.getByText("Copied.").waitFor();
    expect(new URL(await page.evaluate(() => navigator.clipboard.readText())).hash).toBe(tiny);
    expect(new URL(page.url()).hash).toBe(tiny);

    const kind = fc.constantFrom("go", "go", "step", "drop", "exhibit", "method", "knob", "wait", "wait");
    const [path] = fc.sample(fc.array(kind, { minLength: 24, maxLength: 24, size: "max" }), { seed: 3, numRuns: 1 });
    for (const name of path) {
      await clicks[name](page);
      expect(await page.getByRole("alert").count(), name).toBe(0);
    }
    expect(await wholeRun(page)).toBe(undisturbed);

    expect(errors).toEqual([]);
  });

  it("answers its questions with recorded runs where there is no WebGPU, also on a narrow screen", async () => {
    const { page, errors } = await built.open([], "playground/");
    await page.getByText("This browser cannot train here.").waitFor({ timeout: 120_000 });
    expect(await page.getByRole("button", { name: "Train it here" }).count()).toBe(0);
    for (const width of [320, 390, 1280]) {
      await page.setViewportSize({ width, height: 844 });
      await expect.poll(() => page.evaluate(cut)).toEqual([]);
      expect(await page.evaluate(small)).toEqual([]);
    }
    expect(await faults(page, everyLook)).toEqual([]);
    const seen = new Set<string>();
    for (const { name, question } of presets) {
      await page.locator(".exhibits a", { hasText: name.en }).click();
      const focused = page.locator(":focus");
      await focused.getByText(question.en).waitFor();
      await expect.poll(() => focused.evaluate((node) => Math.abs(node.getBoundingClientRect().top) < 20)).toBe(true);
      seen.add((await page.locator("article figure table").first().textContent()) ?? "");
    }
    expect(seen.size).toBe(presets.length);
    expect(await page.locator("[data-table=versus] tbody tr").count()).toBe(10);
    expect(errors).toEqual([]);
  });
});
