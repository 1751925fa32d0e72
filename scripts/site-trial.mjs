#!/usr/bin/env node
/**
 * A visitor's way through every lesson of the built site, in Chromium on the software WebGPU:
 *   node scripts/site-trial.mjs [--keyboard] [--looks] [--seed 42] [--write] [slug...]
 * For each lesson: the bytes of its first load, the time from Start to the first point of a curve that is on the screen, the
 * longest task of the page's thread, what axe finds (with --looks at 320, 390 and 1280 pixels in light, dark and forced
 * colours), and what the checks say in the end. With --write the table goes to docs/results/site.md.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    keyboard: { type: "boolean", default: false },
    looks: { type: "boolean", default: false },
    seed: { type: "string", default: "42" },
    write: { type: "boolean", default: false },
  },
});
const minutes = 60_000;
const axe = path.join(root, "node_modules/axe-core/axe.min.js");
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** What axe finds on the page as it is: the names of broken rules with the places. */
async function violations(page) {
  if (!(await page.evaluate(() => "axe" in window))) await page.addScriptTag({ path: axe });
  return page.evaluate(async (tags) => {
    const { violations } = await window.axe.run(document, { runOnly: tags });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
  }, tags);
}

/** At all widths and in all colours. */
async function everyLook(page) {
  const found = [];
  for (const width of [320, 390, 1280]) {
    await page.setViewportSize({ width, height: width < 1000 ? 844 : 900 });
    for (const media of [{ colorScheme: "light" }, { colorScheme: "dark" }, { forcedColors: "active" }]) {
      await page.emulateMedia({ colorScheme: "light", forcedColors: "none", ...media });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      if (wide) found.push(`${width} px: scrolls sideways`);
      for (const violation of await violations(page)) found.push(`${width} px, ${Object.values(media)}: ${violation}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light", forcedColors: "none" });
  await page.setViewportSize({ width: 1280, height: 900 });
  return found;
}

/** Presses Tab until the button has the focus, then Enter. */
async function pressByKeys(page, button) {
  for (let i = 0; i < 400; i++) {
    if (await button.evaluate((one) => one === document.activeElement)) return page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
  }
  throw new Error("the button is not reached by Tab");
}

/** The figure that moves, and whether all of it is on the screen. */
const moving = () => {
  const figure = [...document.querySelectorAll("figure[data-points]")].find((one) => Number(one.dataset.points) > 0);
  if (!figure) return null;
  const drawing = (figure.querySelector("svg") ?? figure).getBoundingClientRect();
  return { visible: drawing.top >= 0 && drawing.bottom <= innerHeight, name: figure.dataset.figure };
};

async function trial(built, webgpu, slug) {
  const { page, errors, browser } = await built.open(webgpu, "about:blank");
  const loaded = { script: 0, all: 0 };
  page.on("response", async (response) => {
    const body = await response.body().catch(() => Buffer.alloc(0));
    const bytes = /\.(js|css|html|json|svg)$|\/$/.test(new URL(response.url()).pathname)
      ? gzipSync(body).length
      : body.length;
    loaded.all += bytes;
    const own = response.url().endsWith(".js") && !response.url().includes("/workers/");
    if (own) loaded.script += bytes;
  });
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.addInitScript(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
    }).observe({ type: "longtask", buffered: true });
  });
  await page.goto(`${built.address}lessons/${slug}/#size=S&seed=${values.seed}`, { waitUntil: "networkidle" });
  const start = page.locator(".runbar button.primary");
  await start.and(page.locator(":enabled")).waitFor({ timeout: 2 * minutes });
  const found = values.looks ? await everyLook(page) : await violations(page);
  const before = { ...loaded };

  const began = Date.now();
  await (values.keyboard ? pressByKeys(page, start) : start.click());
  const article = page.locator("article.lesson");
  let first = null;
  while (!first) {
    if (Date.now() - began > 5 * minutes) throw new Error(`${slug}: nothing moved within five minutes`);
    first = (await article.getAttribute("data-phase")) === "idle" ? null : await page.evaluate(moving);
    if (!first) await page.waitForTimeout(50);
  }
  const firstAfter = (Date.now() - began) / 1000;
  const atFirst = { ...loaded };
  await page.waitForFunction(
    () => ["done", "broken"].includes(document.querySelector("article.lesson").dataset.phase),
    null,
    { timeout: 10 * minutes, polling: 500 },
  );
  const seconds = (Date.now() - began) / 1000;
  found.push(...(await violations(page)));
  const checks = await page.$$eval("[data-check]", (all) =>
    all.map(({ dataset }) => `${dataset.check} ${dataset.state}`),
  );
  const alerts = await page.locator("[role=alert]:visible").allTextContents();
  const longest = await page.evaluate(() => window.longest);
  await browser.close();
  return { slug, before, atFirst, first, firstAfter, seconds, found, checks, longest, errors: [...errors, ...alerts] };
}

const lines = [];
await fromSource(
  async (load) => {
    const { builtPage, webgpu } = await load("/test/demo/built-page.ts");
    const built = await builtPage();
    const all = (await fs.readdir(path.join(root, "demo/src/lessons"))).sort();
    for (const slug of positionals.length > 0 ? positionals : all) {
      const t = await trial(built, webgpu, slug);
      const kB = (bytes) => Math.round(bytes / 1000);
      const where = `${t.first.name}${t.first.visible ? "" : ", not on the screen"}`;
      lines.push(
        `| ${slug} | ${kB(t.before.script)} | ${kB(t.atFirst.all)} | ${t.firstAfter.toFixed(1)} (${where}) | ${t.seconds.toFixed(0)} | ${Math.round(t.longest)} | ${t.found.length} | ${t.checks.join(", ")} |`,
      );
      console.log(lines.at(-1));
      for (const text of [...t.found, ...t.errors]) console.log(`    ${text}`);
    }
    await built.close();
  },
  { root, configFile: false },
);
if (values.write) {
  const options = `${values.keyboard ? " --keyboard" : ""}${values.looks ? " --looks" : ""} --seed ${values.seed}`;
  const text = `# A visitor's way through the lessons

Made by \`node scripts/site-trial.mjs${options} --write\`, in Chromium on SwiftShader (a CPU), size S. JavaScript is what the page
loads before its worker, compressed; the load is all bytes up to the first point of a curve; the longest task is the page thread's.

| lesson | JavaScript, kB | load, kB | first point after, s | whole run, s | longest task, ms | axe violations | checks |
|---|---|---|---|---|---|---|---|
${lines.join("\n")}
`;
  await fs.writeFile(path.join(root, "docs/results/site.md"), text);
}
process.exit(0);
