/** The demo's page as it is published, in a headless Chromium with the software WebGPU. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type Browser, chromium, type Page } from "playwright";
import { build, preview } from "vite";
import { embeddedChromium } from "../../src/runtime/embedded.ts";

/** Flags of a Chromium that has a WebGPU without a GPU. */
export const webgpu = [
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--use-angle=swiftshader",
];

const own = process.env.WEBRLHF_CHROMIUM;
const found = own ? { executable: own, env: {} } : await embeddedChromium();

/** There is a browser to be had on this machine. */
export const hasBrowser = found !== null;

export interface Opened {
  browser: Browser;
  page: Page;
  /** Errors that nobody in the page caught. */
  errors: string[];
}

export interface BuiltPage {
  /** Opens the page in a browser of its own. */
  open(flags: readonly string[], hash?: string): Promise<Opened>;
  close(): Promise<void>;
}

/** Builds the page and serves it. */
export async function builtPage(): Promise<BuiltPage> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), "webrlhf-demo-"));
  const root = path.resolve(import.meta.dirname, "../../demo");
  const shared = { root, configFile: path.join(root, "vite.config.ts"), logLevel: "error" } as const;
  await build({ ...shared, build: { outDir: folder } });
  const server = await preview({ ...shared, build: { outDir: folder }, preview: { host: "127.0.0.1", port: 0 } });
  const address = server.resolvedUrls?.local[0] as string;
  const browsers: Browser[] = [];
  return {
    async open(flags, hash = "") {
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
      // Keys that come before a page was drawn for the first time are dropped by the browser.
      await page.evaluate(
        () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(null)))),
      );
      return { browser, page, errors };
    },
    async close() {
      for (const browser of browsers) await browser.close();
      await server.close();
      await fs.rm(folder, { recursive: true, force: true });
    },
  };
}
