import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type Browser, chromium, type Page } from "playwright";
import { build, type PreviewServer, preview } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { embeddedChromium } from "../../src/runtime/embedded.ts";

const webgpu = [
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--use-angle=swiftshader",
];
const own = process.env.WEBRLHF_CHROMIUM;
const found = own ? { executable: own, env: {} } : await embeddedChromium();

describe.skipIf(!found)("the built page", { timeout: 180_000 }, () => {
  let folder: string;
  let server: PreviewServer;
  let address: string;
  const browsers: Browser[] = [];

  beforeAll(async () => {
    folder = await fs.mkdtemp(path.join(os.tmpdir(), "webrlhf-demo-"));
    const root = path.resolve(import.meta.dirname, "../../demo");
    const shared = { root, configFile: path.join(root, "vite.config.ts"), logLevel: "error" } as const;
    await build({ ...shared, build: { outDir: folder } });
    server = await preview({ ...shared, build: { outDir: folder }, preview: { host: "127.0.0.1", port: 0 } });
    address = server.resolvedUrls?.local[0] as string;
  }, 180_000);

  afterAll(async () => {
    for (const browser of browsers) await browser.close();
    await server?.close();
    await fs.rm(folder, { recursive: true, force: true });
  });

  async function open(flags: string[], hash = ""): Promise<{ page: Page; errors: string[] }> {
    const browser = await chromium.launch({
      executablePath: found?.executable,
      env: { ...(process.env as Record<string, string>), ...found?.env },
      args: ["--no-sandbox", ...flags],
    });
    browsers.push(browser);
    const page = await browser.newPage({ viewport: { width: 360, height: 800 } });
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    await page.goto(address + hash);
    return { page, errors };
  }

  it("opens a device in its worker, takes its knobs from the address and fits a narrow screen", async () => {
    const { page, errors } = await open(webgpu, "#algorithm=raft&seed=7&reward_pairs=32");
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
    expect(errors).toEqual([]);
  });

  it("explains itself where there is no WebGPU, and shows a recorded run", async () => {
    const { page, errors } = await open([]);
    await page.getByRole("heading", { name: "This browser cannot train here" }).waitFor({ timeout: 120_000 });
    expect(await page.getByRole("button", { name: "Start" }).count()).toBe(0);
    await page.locator(".samples article").nth(3).waitFor();
    expect(await page.locator("figure svg path").count()).toBeGreaterThan(20);
    expect(await page.locator(".samples article").count()).toBe(4);
    expect(errors).toEqual([]);
  });
});
