import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exhibits } from "../../demo/src/playground/exhibits.ts";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";

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
  [...document.querySelectorAll("a, button, summary, input")]
    .filter((one) => one.getClientRects().length > 0)
    .filter((one) => one.getBoundingClientRect().height < 24 || one.getBoundingClientRect().width < 24)
    .map((one) => one.outerHTML);

describe.skipIf(!hasBrowser)("the built page", { timeout: 180_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 180_000);
  afterAll(() => built?.close());

  it("opens a device in its worker, takes its knobs from the address and fits a narrow screen", async () => {
    const { page, errors } = await built.open(webgpu, "playground/#algorithm=raft&seed=7&reward_pairs=32");
    await page.getByRole("button", { name: "Start", disabled: false }).waitFor({ timeout: 120_000 });
    expect(await page.getByRole("radio", { name: "RAFT" }).isChecked()).toBe(true);
    expect(await page.getByLabel("Seed").inputValue()).toBe("7");
    expect(await page.getByLabel("KL penalty").isDisabled()).toBe(true);
    await page.locator("figure svg[role=img]").nth(2).waitFor(); // drawn when the recorded run has come
    expect(await page.locator("figure svg[role=img]").count()).toBe(3);
    expect(await page.getByText(/^A recorded run of “RAFT instead”/).isVisible()).toBe(true);
    expect(await page.evaluate(small)).toEqual([]);
    await page.setViewportSize({ width: 320, height: 640 });
    await expect.poll(() => page.locator(".first svg").getAttribute("viewBox")).toMatch(/^0 0 (28\d|29\d) /);
    expect(await page.evaluate(cut)).toEqual([]);
    const rows = ["Start", "Step", "Reset"].map((name) =>
      page.getByRole("button", { name, exact: true }).boundingBox(),
    );
    expect(new Set((await Promise.all(rows)).map((box) => box?.y)).size).toBe(1);
    expect(await page.evaluate("document.documentElement.scrollWidth <= innerWidth")).toBe(true);

    await page.getByLabel("Steps").fill("3");
    await page.getByLabel("Steps").press("Tab");
    expect(page.url()).toContain("max_steps=3");
    await page.getByRole("button", { name: "Start" }).press("Enter");
    await page.getByRole("button", { name: "Pause" }).waitFor({ timeout: 60_000 });

    // What a knob says during a run is for the next one; the address and its copy name this one.
    await page.getByLabel("Seed").fill("9");
    await page.getByLabel("Seed").press("Tab");
    await page.getByText("The run goes on with its old values.").waitFor();
    expect(page.url()).toContain("seed=7");
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    expect(await page.getByRole("button", { name: "Download run" }).isDisabled()).toBe(true);
    await page.getByRole("button", { name: "Copy link" }).click();
    await page.getByRole("status").getByText("Link copied.").waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(page.url());
    await page.reload();
    await page.getByRole("button", { name: "Start", disabled: false }).waitFor({ timeout: 120_000 });
    expect(await page.getByLabel("Seed").inputValue()).toBe("7");
    expect(await page.getByLabel("Steps").inputValue()).toBe("3");

    await page.getByRole("link", { name: "No KL penalty" }).click();
    expect(page.url()).toContain("kl_coef=0&");
    expect(await page.getByText("Link copied.").count()).toBe(0);
    await page.getByRole("button", { name: "Use small values" }).click();
    expect(page.url()).toContain("kl_coef=0&");
    expect(page.url()).toContain("rollout_batch_size=16&");
    expect(errors).toEqual([]);
  });

  it("shows what moves on the first screen, over a pale recorded run", async () => {
    const { page, errors } = await built.open(
      webgpu,
      "playground/#seed=7&reward_pairs=32&rollout_batch_size=4&max_steps=2",
    );
    await page.getByRole("button", { name: "Start", disabled: false }).waitFor({ timeout: 120_000 });
    await page.setViewportSize({ width: 390, height: 844 });
    await page.getByRole("button", { name: "Step" }).press("Enter");
    const first = page.locator(".first");
    await first.locator("figcaption", { hasText: "training pairs: " }).waitFor({ timeout: 120_000 });
    const figure = await first.locator("svg").boundingBox();
    expect((figure?.y ?? 0) + (figure?.height ?? 1e9)).toBeLessThanOrEqual(844);
    expect(await first.locator("svg path[stroke-opacity='.3']").count()).toBe(1);
    const heard = await first.ariaSnapshot();
    expect(heard.match(/The judge: pairs called right/g)).toHaveLength(1);
    expect(heard.match(/training pairs: /g)).toHaveLength(1);
    await page.getByRole("button", { name: "Resume" }).press("Enter");
    await page.getByRole("figure", { name: "The stories: judged and true reward" }).waitFor({ timeout: 120_000 });
    await first.locator("figcaption", { hasText: /^reward model: / }).waitFor({ timeout: 120_000 });
    expect(errors).toEqual([]);
  });

  it("explains itself where there is no WebGPU, and shows a recorded run", async () => {
    const { page, errors } = await built.open([]);
    await page.getByRole("heading", { name: "This browser cannot train here" }).waitFor({ timeout: 120_000 });
    expect(await page.getByRole("button", { name: "Start" }).count()).toBe(0);
    await page.locator(".samples article").nth(3).waitFor();
    expect(await page.locator("figure svg path").count()).toBeGreaterThan(20);
    expect(await page.locator(".samples article").count()).toBe(4);

    const caption = page.locator(".first figcaption");
    const seen = new Set([await caption.textContent()]);
    for (const { name, question } of exhibits.slice(1)) {
      await page.getByRole("link", { name }).click();
      const focused = page.locator(":focus");
      await focused.getByText(question).waitFor();
      expect(await focused.evaluate((node) => node.tagName)).toBe("H2");
      await expect.poll(() => focused.evaluate((node) => Math.abs(node.getBoundingClientRect().top) < 20)).toBe(true);
      await page.getByText(`A recorded run of “${name}”`).waitFor();
      seen.add(await caption.textContent());
    }
    expect(seen.size).toBe(exhibits.length);
    await page.goBack();
    await page.getByRole("heading", { name: exhibits[2].question }).waitFor();
    expect(errors).toEqual([]);
  });
});
