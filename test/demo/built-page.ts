/** The site as it is published, in a headless Chromium with the software WebGPU. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { promisify } from "node:util";
import { type Browser, chromium, type Page } from "playwright";
import { embeddedChromium } from "../../src/runtime/embedded.ts";

const root = path.resolve(import.meta.dirname, "../..");

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
  /** Where the site is served. */
  address: string;
  /** Opens a page of the site in a browser of its own; by default the playground. */
  open(flags: readonly string[], page?: string): Promise<Opened>;
  close(): Promise<void>;
}

/** Builds the site, once for equal sources, and returns its folder. */
export async function builtSite(): Promise<string> {
  const hash = createHash("sha256");
  for (const part of ["demo", "src", "models", "docs", "api", "package-lock.json"]) {
    for (const file of await sources(path.join(root, part))) hash.update(file).update(await fs.readFile(file));
  }
  const cache = path.join(root, "node_modules/.cache/webrlhf-site");
  const folder = path.join(cache, hash.digest("hex").slice(0, 16));
  const exists = () => fs.stat(folder).catch(() => null);
  await fs.mkdir(cache, { recursive: true });
  while (!(await exists())) {
    // One at a time: builds share a working folder.
    const lock = await fs.open(path.join(cache, "lock"), "wx").catch(() => null);
    if (!lock) {
      await waitFor(cache);
      continue;
    }
    try {
      for (const old of await fs.readdir(cache))
        if (old !== "lock") await fs.rm(path.join(cache, old), { recursive: true });
      const vite = path.join(root, "node_modules/vite/bin/vite.js");
      const env = { ...process.env, NODE_ENV: "production", DEMO_OUT: `${folder}.part` };
      const options = { cwd: path.join(root, "demo"), env, maxBuffer: 2 ** 26 };
      await promisify(execFile)(process.execPath, [vite, "build", "--logLevel", "error"], options);
      await fs.rename(`${folder}.part`, folder);
    } finally {
      await lock.close();
      await fs.rm(path.join(cache, "lock"));
    }
  }
  return folder;
}

/** Waits a little for another build; takes the lock away from one that was killed. */
async function waitFor(cache: string): Promise<void> {
  const lock = path.join(cache, "lock");
  const since = (await fs.stat(lock).catch(() => null))?.mtimeMs;
  if (since !== undefined && Date.now() - since > 300_000) await fs.rm(lock, { force: true });
  await new Promise((resolve) => setTimeout(resolve, 200));
}

async function sources(place: string): Promise<string[]> {
  if ((await fs.stat(place)).isFile()) return [place];
  const entries = await fs.readdir(place, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .filter((file) => !/[/\\](dist|\.svelte-kit[^/\\]*)[/\\]/.test(file))
    .sort();
}

const types: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".json": "application/json",
};

/** A server of files as simple as there are: no rewriting, no index but index.html. */
function serve(folder: string): Promise<http.Server> {
  const server = http.createServer(async ({ url = "/" }, response) => {
    const name = decodeURIComponent(new URL(url, "http://localhost").pathname);
    const file = path.join(folder, name.endsWith("/") ? `${name}index.html` : name);
    const content = await fs.readFile(file).catch(() => null);
    response.writeHead(content ? 200 : 404, {
      "content-type": types[path.extname(file)] ?? "application/octet-stream",
    });
    response.end(content ?? "not found");
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** Builds the site and serves it. */
export async function builtPage(): Promise<BuiltPage> {
  const server = await serve(await builtSite());
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const browsers: Browser[] = [];
  return {
    address,
    async open(flags, page = "playground/") {
      const browser = await chromium.launch({
        executablePath: found?.executable,
        env: { ...(process.env as Record<string, string>), ...found?.env },
        args: ["--no-sandbox", ...flags],
      });
      browsers.push(browser);
      const tab = await browser.newPage({ viewport: { width: 360, height: 800 } });
      const errors: string[] = [];
      tab.on("pageerror", (error) => errors.push(String(error)));
      await tab.goto(page === "about:blank" ? page : address + page, { waitUntil: "networkidle" }); // by then the page is alive
      // Keys that come before a page was drawn for the first time are dropped by the browser.
      await tab.evaluate(
        () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(null)))),
      );
      return { browser, page: tab, errors };
    },
    async close() {
      for (const browser of browsers) await browser.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
