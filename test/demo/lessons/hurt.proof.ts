/** A lesson's run in browsers that lack something or lose it: it ends in the undisturbed numbers, or the page says why not. */
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, type Opened, webgpu } from "../built-page.ts";
import { endWorker, inWorkers, killGpu, leastDevice, limitStorage, noPrivateFiles } from "../hurt.ts";
import { alertsOf, checksOf, lessonAddress, mainButton, numbersOf, over, phaseOf, predict, ready } from "../visitor.ts";

const STEPS = 10;
const lesson = lessonAddress("sft", 7, { steps: STEPS });
const points = async (page: Page) => Number(await page.locator("[data-figure=sft-loss]").getAttribute("data-points"));
const patient = { timeout: 120_000, interval: 100 };
/** The run is in the middle of its training. */
async function middle(page: Page): Promise<void> {
  await expect.poll(() => points(page), patient).toBeGreaterThan(2);
  expect(await points(page)).toBeLessThan(STEPS);
}

describe.skipIf(!hasBrowser)("a lesson's run", { timeout: 400_000 }, () => {
  let built: BuiltPage;
  let undisturbed: string[];

  /** Opens a page, hurt before it has loaded anything. */
  async function opened(place: string, hurt?: (page: Page) => Promise<unknown>, flags = webgpu): Promise<Opened> {
    const found = await built.open(flags, "about:blank");
    await hurt?.(found.page);
    await found.page.goto(built.address + place, { waitUntil: "networkidle" });
    return found;
  }
  async function start(page: Page): Promise<void> {
    await ready(page);
    await mainButton(page).click();
  }
  /** Waits for the end, which is to be that of a run that nobody disturbed. */
  async function endsWell({ page, errors, browser }: Opened): Promise<void> {
    await over(page);
    expect(await alertsOf(page)).toEqual([]);
    expect(await phaseOf(page)).toBe("done");
    expect(await points(page)).toBe(STEPS);
    expect(await numbersOf(page)).toEqual(undisturbed);
    expect(errors).toEqual([]);
    await browser.close();
  }

  beforeAll(async () => {
    built = await builtPage();
    const { page, browser } = await opened(lesson);
    await start(page);
    await over(page);
    undisturbed = await numbersOf(page);
    await browser.close();
    expect(undisturbed.join()).toMatch(/rises passed/);
  }, 400_000);
  afterAll(() => built?.close());

  it("goes on when the device is lost, and when the worker ends", async () => {
    const visit = await opened(lesson);
    const { page, browser } = visit;
    await start(page);
    await middle(page);
    await killGpu(browser);
    await page.locator("[data-notice=renewed]").waitFor({ timeout: 60_000 });
    expect(await points(page)).toBeLessThan(STEPS);
    await endWorker(page);
    await page.locator("[data-notice=rehired]").waitFor({ timeout: 60_000 });
    await endsWell(visit);
  });

  it("goes on where nothing can be kept, and says so in the page's language", async () => {
    const visit = await opened(lessonAddress("sft", 7, { steps: STEPS }, "zh/"), (page) =>
      inWorkers(page, noPrivateFiles),
    );
    await start(visit.page);
    const notice = visit.page.locator("[data-notice=unsaved]");
    await notice.waitFor({ timeout: 60_000 });
    expect(await notice.innerText()).toContain("这次运行不会被保存");
    await endsWell(visit);
  });

  it("goes on where the storage is full", async () => {
    const visit = await opened(lesson, (page) => limitStorage(page, built.address, 1));
    await start(visit.page);
    const notice = visit.page.locator("[data-notice=unsaved]");
    await notice.waitFor({ timeout: 60_000 });
    expect(await notice.innerText()).toMatch(
      /Nothing of this run will survive a reload: .*gives this page no more room/,
    );
    await endsWell(visit);
  });

  it("learns as well on a device that can no more than every WebGPU can", async () => {
    const visit = await opened(lesson, (page) => inWorkers(page, leastDevice));
    const { page } = visit;
    await start(page);
    await over(page);
    expect(await alertsOf(page)).toEqual([]);
    expect(await points(page)).toBe(STEPS);
    expect((await checksOf(page)).map(({ id, state }) => `${id} ${state}`)).toEqual(
      undisturbed.filter((line) => /^\w+ (passed|failed|open)$/.test(line)),
    );
    expect(visit.errors).toEqual([]);
    await visit.browser.close();
  });

  it("is held by one tab, and taken over by another one when that is closed", async () => {
    const { browser, errors } = await built.open(webgpu, "about:blank");
    const context = await browser.newContext();
    const [first, second] = [await context.newPage(), await context.newPage()];
    await first.goto(built.address + lesson, { waitUntil: "networkidle" });
    await start(first);
    await middle(first);
    await mainButton(first).click(); // paused, and so saved
    await expect.poll(() => phaseOf(first), patient).toBe("paused");
    await second.goto(built.address + lesson, { waitUntil: "networkidle" });
    const offer = second.locator("[data-unfinished]");
    await offer.waitFor({ timeout: 120_000 });
    expect(await offer.innerText()).toMatch(/is open in another tab/);
    expect(await offer.getByRole("button").count()).toBe(0);
    await first.close();
    await offer.getByRole("button", { name: "Go on with it" }).click({ timeout: 30_000 });
    await endsWell({ browser, errors, page: second });
  });

  it("goes on while its visitor is in another lesson, which says what holds the worker and can end it", async () => {
    const visit = await opened(lessonAddress("sft", 7, { steps: 500 }));
    const { page } = visit;
    await start(page);
    await expect.poll(() => points(page), patient).toBeGreaterThan(2);
    const walkTo = async (name: RegExp, heading: string) => {
      await page.locator("nav.beside a").filter({ hasText: name }).click();
      await page.getByRole("heading", { level: 1, name: heading }).waitFor();
    };
    await walkTo(/Sampling/, "Sampling");
    await start(page);
    const held = page.locator("[data-holder=sft]");
    await held.waitFor();
    expect(await held.innerText()).toContain("the lesson “Supervised fine-tuning”");
    await page.getByRole("button", { name: "Drop this run" }).click();
    await held.waitFor({ state: "detached" });
    await walkTo(/Supervised/, "Supervised fine-tuning");
    await expect.poll(() => phaseOf(page), patient).toMatch(/running|done/); // it is shown again
    await expect.poll(() => points(page), patient).toBeGreaterThan(2);
    await walkTo(/Sampling/, "Sampling");
    await start(page);
    await held.getByRole("button", { name: "End that run" }).click();
    await page.locator('article[data-phase="running"]').waitFor({ timeout: 60_000 });
    await held.waitFor({ state: "detached" });
    await expect
      .poll(async () => Number(await page.locator("[data-figure=sampling-truth]").getAttribute("data-points")), patient)
      .toBeGreaterThan(0);
    expect(visit.errors).toEqual([]);
    await visit.browser.close();
  });

  it("is never said to be done where the model did not load", async () => {
    const { page, browser } = await opened(lesson, (page) =>
      page.route(/model[^/]*\.safetensors$/, (route) => route.abort()),
    );
    await start(page);
    await over(page);
    expect(await phaseOf(page)).toBe("broken");
    expect((await alertsOf(page)).join()).toMatch(/model\.safetensors did not load/);
    expect((await checksOf(page)).map(({ state }) => state)).toEqual(["open", "open"]);
    await browser.close();
  });
});

describe.skipIf(!hasBrowser)("without WebGPU every lesson", { timeout: 400_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  it.each(["mouse", "keyboard"] as const)("can be predicted, scrubbed and compared by %s", async (way) => {
    const { page, errors, browser } = await built.open([], "");
    const links = await page
      .locator('a[href*="lessons/"]')
      .evaluateAll((all) => all.map((a) => a.getAttribute("href")));
    const slugs = [...new Set(links.flatMap((href) => /lessons\/([\w-]+)\/$/.exec(href ?? "")?.[1] ?? []))];
    expect(slugs).toHaveLength(9);
    for (const slug of slugs) {
      await page.goto(`${built.address}lessons/${slug}/`, { waitUntil: "networkidle" });
      await page.getByText("This browser cannot train here.").waitFor({ timeout: 60_000 });
      const states = async () => (await checksOf(page)).map(({ state }) => state);
      expect(await states(), slug).not.toContain("open");
      expect(await predict(page, way), slug).toBeGreaterThan(0);
      const scrub = page.getByLabel("Show the run up to");
      await scrub.focus();
      await page.keyboard.press("Home");
      await expect.poll(states).toContain("open"); // nothing is told yet
      await page.keyboard.press("End");
      await expect.poll(states).not.toContain("open");
      await page.getByLabel("Recorded runs").focus();
      const before = await numbersOf(page);
      await page.keyboard.press("ArrowDown");
      await expect.poll(() => numbersOf(page), { message: slug }).not.toEqual(before);
    }
    expect(errors).toEqual([]);
    await browser.close();
  });
});
