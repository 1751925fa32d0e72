/** A lesson's page under a visitor who clicks at random. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "../built-page.ts";
import { clickAround, wholeRun } from "../random-clicks.ts";
import { lessonAddress, ready } from "../visitor.ts";

const lesson = lessonAddress("sft", 7, { steps: 4 });

describe.skipIf(!hasBrowser)("a lesson's page under 200 random clicks", { timeout: 400_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  it("shows no error, and in the end the numbers of an undisturbed run", async () => {
    const { page, errors } = await built.open(webgpu, lesson);
    await page.setViewportSize({ width: 1280, height: 900 });
    await ready(page);
    const undisturbed = await wholeRun(page, lesson);
    expect(undisturbed.join()).toMatch(/passed/);
    await clickAround(page, errors, { seed: 1, clicks: 200 });
    expect(await wholeRun(page, lesson)).toEqual(undisturbed);
    expect(errors).toEqual([]);
  });
});
