import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";

describe.skipIf(!hasBrowser)("the built page", { timeout: 180_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 180_000);
  afterAll(() => built?.close());

  it("opens a device in its worker, takes its knobs from the address and fits a narrow screen", async () => {
    const { page, errors } = await built.open(webgpu, "#algorithm=raft&seed=7&reward_pairs=32");
    await page.getByRole("button", { name: "Start", disabled: false }).waitFor({ timeout: 120_000 });
    expect(await page.getByLabel("RAFT").isChecked()).toBe(true);
    expect(await page.getByLabel("Seed").inputValue()).toBe("7");
    expect(await page.getByLabel("KL penalty").isDisabled()).toBe(true);
    await page.locator("figure svg[role=img]").nth(2).waitFor(); // drawn when the recorded run has come
    expect(await page.locator("figure svg[role=img]").count()).toBe(3);
    expect(await page.getByText(/^A recorded run/).isVisible()).toBe(true);
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

  it("explains itself where there is no WebGPU, and shows a recorded run", async () => {
    const { page, errors } = await built.open([]);
    await page.getByRole("heading", { name: "This browser cannot train here" }).waitFor({ timeout: 120_000 });
    expect(await page.getByRole("button", { name: "Start" }).count()).toBe(0);
    await page.locator(".samples article").nth(3).waitFor();
    expect(await page.locator("figure svg path").count()).toBeGreaterThan(20);
    expect(await page.locator(".samples article").count()).toBe(4);
    expect(errors).toEqual([]);
  });
});
