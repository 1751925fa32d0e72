/** Browser tabs that work in a cluster, in Chromium without a GPU, for trials: each in a browser of its own, which can be killed. */
import path from "node:path";
import { chromium } from "playwright";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");

/**
 * The variables under which Node and Deno compute on the SwiftShader that comes with the embedded Chromium, as its tabs do.
 * @returns null where the package is not installed
 */
export const swiftShader = () =>
  fromSource(async (load) => {
    const vulkan = await (await load("/src/runtime/embedded.ts")).embeddedVulkan();
    return vulkan && { VK_DRIVER_FILES: vulkan.icd, VK_ICD_FILENAMES: vulkan.icd };
  });

/** Builds and serves the site for as long as `work` takes; gives it the page's address and what opens an invitation's link there. */
export const withTabs = async (work) => {
  const { ownName: alias } = await fromSource((load) => load("/scripts/own-name.ts"));
  return fromSource(
    async (load) => {
      const { builtPage, hasBrowser, webgpu } = await load("/test/demo/built-page.ts");
      const { embeddedChromium } = await load("/src/runtime/embedded.ts");
      if (!hasBrowser) throw new Error("there is no Chromium here: npm install, or name one by WEBRLHF_CHROMIUM");
      const own = process.env.WEBRLHF_CHROMIUM;
      const found = own ? { executable: own, env: {} } : await embeddedChromium();
      const launch = {
        executablePath: found.executable,
        env: { ...process.env, ...found.env },
        args: ["--no-sandbox", ...webgpu],
      };
      const site = await builtPage();
      try {
        return await work(`${site.address}worker/`, (link) => new Tab(launch, link));
      } finally {
        await site.close();
      }
    },
    { root, configFile: false, resolve: { alias } },
  );
};

/** Something like a child process: `kill`, `ended`, and `said`, which tells in the end how many jobs it did. */
class Tab {
  said = "";
  #server = null;
  #page = null;
  #killed = false;

  constructor(launch, link) {
    this.ended = new Promise((resolve) => {
      this.end = resolve;
    });
    this.opening = this.#open(launch, link).catch((error) => {
      if (!this.#killed) this.said += `\n${error.message}`;
    });
  }

  async #open(launch, link) {
    this.#server = await chromium.launchServer(launch);
    this.#server.process().once("exit", this.end);
    if (this.#killed) return void this.#server.process().kill("SIGKILL");
    const browser = await chromium.connect(this.#server.wsEndpoint());
    this.#page = await browser.newPage();
    await this.#page.goto(link);
    await this.#page.getByRole("button", { name: "Start working" }).click({ timeout: 120_000 });
  }

  /** Jobs that it did, as its page shows. */
  async jobs() {
    const shown = this.#page?.locator("[data-done]").getAttribute("data-done", { timeout: 1000 });
    return Number((await shown?.catch(() => 0)) ?? 0);
  }

  /** SIGTERM asks it first how many jobs it did. */
  async kill(signal) {
    if (signal === "SIGTERM") {
      const failure = await this.#page
        ?.getByRole("alert")
        .allInnerTexts()
        .catch(() => []);
      this.said += `stopped after ${await this.jobs()} jobs ${(failure ?? []).join(" ")}`;
    }
    this.#killed = true;
    this.#server?.process().kill("SIGKILL");
  }
}
