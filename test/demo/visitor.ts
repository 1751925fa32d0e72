/** What a visitor does on a lesson's page, with the mouse or with keys alone. */
import type { Locator, Page } from "playwright";

export type Way = "mouse" | "keyboard";

/** The address of a lesson with what a run is to take; `zh/` before it is the Chinese page. */
export const lessonAddress = (slug: string, seed = 42, ask: Record<string, unknown> = {}, language = ""): string => {
  const hash = new URLSearchParams({ size: "S", seed: String(seed) });
  if (Object.keys(ask).length > 0) hash.set("ask", JSON.stringify(ask));
  return `${language}lessons/${slug}/#${hash}`;
};

export const phaseOf = (page: Page): Promise<string | null> =>
  page.locator("article.lesson").getAttribute("data-phase");

/** The button that starts, pauses and goes on. */
export const mainButton = (page: Page): Locator => page.locator(".runbar .buttons button.primary");

/** The page knows its device, and a run can be started. */
export const ready = (page: Page): Promise<void> =>
  page.locator(".runbar .buttons button.primary:enabled").waitFor({ timeout: 120_000 });

/** The run is over, well or not; with `done` it must be well. */
export async function over(page: Page, timeout = 600_000): Promise<void> {
  await page
    .locator('article.lesson[data-phase="done"], article.lesson[data-phase="broken"]')
    .waitFor({ timeout, state: "attached" });
}

/** What the page says against whoever reads it. */
export const alertsOf = (page: Page): Promise<string[]> => page.locator("[role=alert]:visible").allInnerTexts();

export interface CheckSeen {
  id: string;
  state: string;
  /** What came out, in words with the numbers. */
  says: string;
}

export const checksOf = (page: Page): Promise<CheckSeen[]> =>
  page.locator("[data-check]").evaluateAll((all) =>
    all.map((one) => ({
      id: (one as HTMLElement).dataset.check ?? "",
      state: (one as HTMLElement).dataset.state ?? "",
      says: one.querySelector(".soft")?.textContent?.trim() ?? "",
    })),
  );

/**
 * Every number that the page shows of its run, in figures' tables, open or not, and the checks' states: two runs that told the
 * same events show the same, in every language.
 */
export const numbersOf = (page: Page): Promise<string[]> =>
  page.locator("figure[data-figure] tbody, [data-check]").evaluateAll((all) =>
    all.map((one) => {
      const { check, state } = (one as HTMLElement).dataset;
      return check ? `${check} ${state}` : (one.textContent ?? "").replace(/\s+/g, " ");
    }),
  );

/** Presses Tab until the element has the focus. */
export async function tabTo(page: Page, wanted: Locator): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await wanted.evaluate((one) => one === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`${wanted} is not reached by Tab`);
}

export async function press(page: Page, button: Locator, way: Way): Promise<void> {
  if (way === "mouse") return button.click();
  await tabTo(page, button);
  await page.keyboard.press("Enter");
}

/** Chooses the second option. */
async function choose(page: Page, place: Locator, way: Way): Promise<void> {
  const options = place.getByRole("radio");
  if (way === "mouse") await place.locator("label.option").nth(1).click();
  else {
    await tabTo(page, options.first());
    await page.keyboard.press("Space");
    await page.keyboard.press("ArrowDown");
  }
  if (!(await options.nth(1).isChecked())) throw new Error("the second option was not chosen");
}

/** Draws a line that rises from place to place. */
async function draw(page: Page, place: Locator, way: Way): Promise<void> {
  const sliders = place.getByRole("slider");
  const count = await sliders.count();
  const values: number[] = [];
  for (let i = 0; i < count; i++) {
    const slider = sliders.nth(i);
    if (way === "mouse") {
      await slider.scrollIntoViewIfNeeded();
      const box = await slider.boundingBox();
      if (!box) throw new Error("a slider is not on the screen");
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width / 2, box.y + box.height * (0.9 - (0.7 * i) / count), { steps: 3 });
      await page.mouse.up();
    } else {
      await tabTo(page, slider);
      await page.keyboard.press("Home");
      for (let k = 0; k < 2 * i + 2; k++) await page.keyboard.press("ArrowUp");
    }
    values.push(Number(await slider.inputValue()));
  }
  const rises = values.every((value, i) => i === 0 || value > values[i - 1]);
  if (!rises) throw new Error(`what was drawn does not rise: ${values.join(", ")}`);
}

/** Answers every question of the page before the run, and locks the answers. Returns how many there were. */
export async function predict(page: Page, way: Way): Promise<number> {
  const places = page.locator(".predict");
  const count = await places.count();
  for (let i = 0; i < count; i++) {
    const place = places.nth(i);
    const drawn = (await place.locator(".sliders").count()) > 0;
    const lock = place.locator("button[data-lock]");
    if (!(await lock.isDisabled())) throw new Error("nothing was predicted, and it can be locked");
    await (drawn ? draw : choose)(page, place, way);
    await press(page, lock, way);
    await place.locator("[data-locked]").waitFor({ state: "attached" }); // beside a curve it is empty
  }
  return count;
}

/** Beside every locked prediction stands what came. */
export const outcomesOf = (page: Page): Promise<string[]> =>
  page
    .locator(".predict [data-locked]")
    .evaluateAll((all) => all.map((one) => (one as HTMLElement).dataset.locked ?? ""));
