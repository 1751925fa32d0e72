/** A browser whose GPU process is killed while the page trains. */
import type { Browser, Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";

const knobs = "playground/#algorithm=ppo&seed=7&reward_pairs=16&rollout_batch_size=4&max_steps=10";

const statusOf = (page: Page) => page.locator(".status").textContent();

/** The id of the browser's GPU process, another one than before. */
async function gpuProcess(browser: Browser, before?: number): Promise<number> {
  const session = await browser.newBrowserCDPSession();
  for (;;) {
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    const found = processInfo.find(({ type }) => type === "GPU");
    if (found && found.id !== before) return found.id;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe.skipIf(!hasBrowser)("the page, when the browser's GPU process is killed", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 180_000);
  afterAll(() => built?.close());

  it("goes on by itself to the end, and says so", async () => {
    const { browser, page, errors } = await built.open(webgpu, knobs);
    await page.getByRole("button", { name: "Start", disabled: false }).waitFor({ timeout: 120_000 });
    await page.getByRole("button", { name: "Start" }).press("Enter");
    await expect.poll(() => statusOf(page), { timeout: 60_000, interval: 10 }).toMatch(/PPO, step [3-6] of 10/);
    const first = await gpuProcess(browser);
    process.kill(first, "SIGKILL");
    process.kill(await gpuProcess(browser, first), "SIGKILL"); // the next one too, before it gives anybody a device
    const notice = page.getByRole("alert");
    await notice.getByText("The run goes on from its last state on a new device.").waitFor({ timeout: 120_000 });
    expect(await notice.textContent()).toMatch(/^The graphics card stopped \(the GPU device was lost/);
    await page.locator("[data-phase=done]").waitFor({ timeout: 120_000 });
    expect(await statusOf(page)).toMatch(/^Done\. By the reward model/);
    expect(errors).toEqual([]);
  });
});
