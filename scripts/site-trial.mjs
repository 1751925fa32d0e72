#!/usr/bin/env node
/**
 * Visitors in every lesson of the built site, in Chromium on the software WebGPU:
 *   node scripts/site-trial.mjs [--keyboard] [--looks] [--seeds 42] [--write] [slug...]
 * For each lesson: the bytes of its first load, the time from Start to the first point of a curve that is on the screen, the
 * longest task of the page's thread, what axe finds (with --looks at 320, 390 and 1280 pixels in light, dark and forced
 * colours), what came beside the visitor's predictions, and what the checks say in the end. With --keyboard the visitor has no mouse.
 *   --seeds 1,2,3   further runs in the same browser, one for each seed: how often does each check hold?
 *   --ask JSON      fields of the lesson's input, for shorter runs
 *   --walks N       instead: N walks of 200 random clicks, each followed by a run that is to end in the undisturbed numbers
 *   --restarts N    instead: N runs in one page, and what it holds of memory then
 *   --write         puts the rows into docs/results/site.md, lesson by lesson
 * A lesson that fails does not end the others. The exit status is 1 where something was wrong; a check that does not hold in
 * one run is no fault.
 */
import path from "node:path";
import { parseArgs } from "node:util";
import { restarts } from "./site/restarts.mjs";
import { count, openResults, RESTARTS, SEEDS, WALKS } from "./site/tables.mjs";
import { opened, visit, wholeRun } from "./site/visit.mjs";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    keyboard: { type: "boolean", default: false },
    looks: { type: "boolean", default: false },
    ask: { type: "string", default: "{}" },
    restarts: { type: "string" },
    walks: { type: "string" },
    seeds: { type: "string", default: "42" },
    write: { type: "boolean", default: false },
  },
});
const seeds = values.seeds.split(",").map(Number);
if (!seeds.every(Number.isInteger)) throw new Error(`--seeds ${values.seeds}: whole numbers with commas between`);
const ask = JSON.parse(values.ask);
const way = values.keyboard ? "keyboard" : "mouse";

/** A first visit with the first seed, then a run for each of the others. */
async function visits(tools, slug, say) {
  const { visitor, built } = tools;
  const here = await opened(tools);
  const seedRows = (seed, checks) => checks.map(({ id, state, says }) => [slug, seed, id, state, says]);
  try {
    const { rows, checks, wrong } = await visit(tools, here, slug, { seed: seeds[0], ask, way, looks: values.looks });
    await say({ ...rows, [SEEDS]: seedRows(seeds[0], checks) }, wrong);
    for (const seed of seeds.slice(1)) {
      await here.page.goto("about:blank"); // the same page with another hash would keep its run
      await here.page.goto(built.address + visitor.lessonAddress(slug, seed, ask), { waitUntil: "networkidle" });
      await visitor.ready(here.page);
      const checks = await wholeRun(tools, here.page, way);
      await say({ [SEEDS]: seedRows(seed, checks) }, here.errors.splice(0));
    }
  } finally {
    await here.browser.close();
  }
}

/** Random walks, each in a page of its own. */
async function walks(tools, slug, say) {
  const address = tools.visitor.lessonAddress(slug, seeds[0], ask);
  const CLICKS = 200;
  let undisturbed = null;
  for (let walk = 1; walk <= Number(values.walks); walk++) {
    const { page, errors, browser } = await opened(tools);
    try {
      await page.goto(tools.built.address + address, { waitUntil: "networkidle" });
      await tools.visitor.ready(page);
      undisturbed ??= await tools.wholeRun(page, address);
      await tools.clickAround(page, errors, { seed: walk, clicks: CLICKS });
      const found = await tools.wholeRun(page, address);
      const same = JSON.stringify(found) === JSON.stringify(undisturbed);
      const row = [slug, walk, CLICKS, "none", same ? "the undisturbed ones" : "others"];
      await say({ [WALKS]: [row] }, [...errors, ...(same ? [] : differences(undisturbed, found))]);
    } catch (error) {
      await say({ [WALKS]: [[slug, walk, CLICKS, error.message.split("\n")[0], "none"]] }, [error.stack]);
    } finally {
      await browser.close();
    }
  }
}

/** What a run after a walk shows otherwise than the undisturbed one. */
const differences = (undisturbed, found) =>
  Array.from({ length: Math.max(undisturbed.length, found.length) }, (_, i) => i)
    .filter((i) => undisturbed[i] !== found[i])
    .map((i) => `undisturbed: ${undisturbed[i] ?? "nothing"}; after the walk: ${found[i] ?? "nothing"}`);

/** Runs one after another in one page. */
async function again(tools, slug, say) {
  const options = { count: Number(values.restarts), seed: seeds[0], ask, log: console.log };
  const { rows, wrong } = await restarts(tools, slug, options);
  await say({ [RESTARTS]: rows }, wrong);
}

/** All lessons, as the home page has them. */
async function inOrder(built) {
  const html = await (await fetch(built.address)).text();
  return [...new Set([...html.matchAll(/href="[^"]*lessons\/([\w-]+)\/"/g)].map(([, slug]) => slug))];
}

let failed = false;
await fromSource(
  async (load) => {
    const { builtPage, webgpu } = await load("/test/demo/built-page.ts");
    const visitor = await load("/test/demo/visitor.ts");
    const looks = await load("/test/demo/looks.ts");
    const random = await load("/test/demo/random-clicks.ts");
    const tools = { built: await builtPage(), webgpu, visitor, ...looks, ...random };
    const slugs = await inOrder(tools.built);
    const results = await openResults(root, slugs);
    for (const slug of positionals.length > 0 ? positionals : slugs) {
      const trial = values.walks ? walks : values.restarts ? again : visits;
      await trial(tools, slug, async (rows, wrong) => {
        for (const [title, some] of Object.entries(rows)) {
          results.put(title, some);
          for (const row of some) console.log(row.join(" | "));
        }
        count(results);
        if (values.write) await results.write();
        for (const text of wrong) console.log(`    ${text}`);
        failed ||= wrong.length > 0;
      }).catch((error) => {
        failed = true;
        console.log(`${slug}: ${error.stack}`);
      });
    }
    await tools.built.close();
  },
  { root, configFile: false },
);
process.exit(failed ? 1 : 0);
