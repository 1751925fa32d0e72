/** A visitor who clicks at random on all that a lesson's page has for its run. The same seed makes the same clicks. */
import fc from "fast-check";
import type { Page } from "playwright";
import { alertsOf, mainButton, numbersOf, over, phaseOf } from "./visitor.ts";

type Click = (page: Page, roll: number) => Promise<unknown>;

/** Clicks one of the elements that can be clicked now, if any can. */
const clickOne =
  (selector: string): Click =>
  (page, roll) =>
    page.evaluate(
      ([selector, roll]) => {
        const all = [...document.querySelectorAll<HTMLElement>(selector as string)].filter(
          (one) => one.checkVisibility() && !one.matches(":disabled"),
        );
        all[(roll as number) % all.length]?.click();
      },
      [selector, roll],
    );

/** Turns one of the controls that match to one of its values. */
const turnOne =
  (selector: string): Click =>
  (page, roll) =>
    page.evaluate(
      ([selector, roll]) => {
        const all = [...document.querySelectorAll<HTMLInputElement | HTMLSelectElement>(selector as string)].filter(
          (one) => one.checkVisibility() && !one.matches(":disabled"),
        );
        const one = all[(roll as number) % all.length];
        const pick = Math.floor((roll as number) / Math.max(1, all.length));
        if (!one) return;
        if (one instanceof HTMLSelectElement) one.selectedIndex = pick % one.options.length;
        else if (one.type === "radio") one.click();
        else {
          const [min, max] = [Number(one.min), Number(one.max)];
          one.value = String(min + ((max - min) * (pick % 11)) / 10);
        }
        for (const type of ["input", "change"]) one.dispatchEvent(new Event(type, { bubbles: true }));
      },
      [selector, roll],
    );

/** Another tab covers this one for a moment: browsers without a screen show all tabs. */
const lookAway: Click = async (page, roll) => {
  const hide = (hidden: boolean) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await hide(true);
  await page.waitForTimeout(roll % 400);
  await hide(false);
};

/** To the neighbouring lesson and back, within the page. */
const elsewhere: Click = async (page, roll) => {
  const slug = (at: string) => /lessons\/([\w-]+)\//.exec(at)?.[1];
  const from = slug(page.url());
  const moved = (to: (now: string | undefined) => boolean) =>
    page.waitForURL((url) => to(slug(url.pathname)), { timeout: 30_000 });
  await clickOne("nav.beside a")(page, roll);
  await moved((now) => now !== from);
  await page.waitForTimeout(roll % 300);
  await page.locator(`nav.beside a[href*="lessons/${from}/"]`).click();
  await moved((now) => now === from);
};

const switchLanguage: Click = async (page) => {
  const link = page.locator("header.site a[hreflang]").first();
  const to = await link.getAttribute("hreflang");
  await link.click();
  await page.locator(`header.site a[hreflang]:not([hreflang="${to}"])`).first().waitFor();
};

const clicks: Record<string, { click: Click; weight: number }> = {
  go: { click: clickOne(".runbar .buttons button.primary"), weight: 6 },
  step: {
    click: clickOne(
      ".runbar .buttons:first-of-type button:not(.primary):not([data-reset]):not([data-copy]):not([data-save])",
    ),
    weight: 4,
  },
  drop: { click: clickOne("[data-reset]"), weight: 2 },
  offer: { click: clickOne("[data-unfinished] button, [data-holder] button"), weight: 1 },
  recorded: { click: turnOne(".runbar select"), weight: 1 },
  scrub: { click: turnOne(".runbar input[type=range]"), weight: 3 },
  seed: { click: turnOne(".runbar input[type=number]"), weight: 1 },
  predict: { click: turnOne(".predict input"), weight: 2 },
  lock: { click: clickOne(".predict [data-lock]"), weight: 1 },
  knob: {
    click: turnOne(
      "article.lesson :is(fieldset, .fields) :is(input[type=radio], input[type=range], select):not(.runbar *, .predict *)",
    ),
    weight: 4,
  },
  language: { click: switchLanguage, weight: 1 },
  elsewhere: { click: elsewhere, weight: 1 },
  away: { click: lookAway, weight: 2 },
  wait: { click: (page, roll) => page.waitForTimeout(roll % 500), weight: 6 },
};

/** Takes the lesson's run as its address has it, within the page, and waits for its end; the numbers that the page then shows. */
export async function wholeRun(page: Page, address: string): Promise<string[]> {
  if (new URL(page.url()).pathname.startsWith("/zh/")) await switchLanguage(page, 0);
  const drop = page.locator("[data-reset]");
  if (await drop.isEnabled()) await drop.click();
  await page.getByLabel("Recorded runs").selectOption({ index: 0 }); // it stands behind the live one
  const hash = address.slice(address.indexOf("#"));
  // The same address twice is no change.
  for (const next of ["#size=S&seed=0", hash]) {
    await page.evaluate((next) => {
      location.hash = next;
    }, next);
    await page.waitForTimeout(50);
  }
  await mainButton(page).click();
  await over(page, 1_200_000);
  const phase = await phaseOf(page);
  if (phase !== "done") throw new Error(`the run is ${phase}: ${await alertsOf(page)}`);
  await page.waitForTimeout(300); // figures are drawn a few times a second
  return numbersOf(page);
}

/**
 * Clicks at random. Every click leaves a page without an alert and without an error.
 * @throws naming the click after which there was one
 */
export async function clickAround(
  page: Page,
  errors: readonly string[],
  { seed, clicks: count }: { seed: number; clicks: number },
): Promise<void> {
  const kinds = Object.entries(clicks).map(([name, { weight }]) => ({ weight, arbitrary: fc.constant(name) }));
  const path = fc.array(fc.record({ name: fc.oneof(...kinds), roll: fc.nat(100_000) }), {
    minLength: count,
    maxLength: count,
    size: "max",
  });
  for (const [i, { name, roll }] of fc.sample(path, { seed, numRuns: 1 })[0].entries()) {
    const place = `click ${i} of walk ${seed}, ${name} ${roll}`;
    await clicks[name].click(page, roll).catch((error: Error) => {
      throw new Error(`${place}: ${error.message}`);
    });
    const alerts = await alertsOf(page);
    if (alerts.length > 0 || errors.length > 0) throw new Error(`after ${place}: ${[...alerts, ...errors].join(" ")}`);
  }
}
