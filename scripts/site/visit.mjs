/** One visit to a lesson, from the first byte to the last check. */
import { gzipSync } from "node:zlib";
import { VISITS } from "./tables.mjs";

const minutes = 60_000;

/** How many points each figure has. */
const pointsOf = () =>
  Object.fromEntries(
    [...document.querySelectorAll("figure[data-points]")].map(({ dataset }) => [
      dataset.figure,
      Number(dataset.points),
    ]),
  );

/** A figure that has more points than before, all of which is on the screen; else one that is not. */
const moving = (before) => {
  const grown = [...document.querySelectorAll("figure[data-points]")]
    .filter(({ dataset }) => Number(dataset.points) > (before[dataset.figure] ?? 0))
    .map((figure) => {
      const drawing = (figure.querySelector("svg") ?? figure).getBoundingClientRect();
      return { visible: drawing.top >= 0 && drawing.bottom <= innerHeight, name: figure.dataset.figure };
    });
  return grown.find(({ visible }) => visible) ?? grown[0] ?? null;
};

const longestTask = (page) => page.evaluate(() => window.longest);

/** Tasks so far are not the page's own; they are told of a moment after their end. */
async function forgetTasks(page) {
  await page.waitForTimeout(200);
  await page.evaluate(() => {
    window.longest = 0;
  });
}

/** Counts what is loaded from now on, compressed where servers compress. */
function counted(page) {
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
  return loaded;
}

/** Opens a lesson in a browser that was not there before, with what counts in it. */
export async function opened({ built, webgpu }) {
  const { page, errors, browser } = await built.open(webgpu, "about:blank");
  const loaded = counted(page);
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.addInitScript(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
    }).observe({ type: "longtask", buffered: true });
  });
  return { page, errors, browser, loaded };
}

/** Starts a run and waits for its end; the checks then. It throws where the run broke or told nothing. */
export async function wholeRun({ visitor }, page, way) {
  await visitor.press(page, visitor.mainButton(page), way);
  await visitor.over(page, 20 * minutes);
  const alerts = await visitor.alertsOf(page);
  if ((await visitor.phaseOf(page)) !== "done") throw new Error(`the run broke off: ${alerts.join(" ")}`);
  return visitor.checksOf(page);
}

/** A first visit: a row of the table, and what was wrong. */
export async function visit(tools, { page, errors, loaded }, slug, { seed, ask, way, looks }) {
  const { built, visitor, violations, faults, everyLook } = tools;
  await page.goto(built.address + visitor.lessonAddress(slug, seed, ask), { waitUntil: "networkidle" });
  await visitor.ready(page);
  const loading = await longestTask(page);
  const found = looks ? await faults(page, everyLook) : await violations(page);
  await forgetTasks(page); // those were axe's
  const script = loaded.script;
  const predictions = await visitor.predict(page, way);
  if (way === "keyboard") await visitor.tabTo(page, visitor.mainButton(page));

  const before = await page.evaluate(pointsOf);
  const began = Date.now();
  await visitor.press(page, visitor.mainButton(page), way);
  let first = null;
  while (!first) {
    if (Date.now() - began > 5 * minutes) throw new Error("nothing moved within five minutes");
    // A figure that showed another run begins anew with this one.
    for (const [name, points] of Object.entries(await page.evaluate(pointsOf))) {
      before[name] = Math.min(before[name] ?? 0, points);
    }
    first = (await visitor.phaseOf(page)) === "idle" ? null : await page.evaluate(moving, before);
    if (!first) await page.waitForTimeout(50);
  }
  const firstAfter = (Date.now() - began) / 1000;
  const all = loaded.all;
  await visitor.over(page, 20 * minutes);
  const seconds = (Date.now() - began) / 1000;
  const longest = Math.max(loading, await longestTask(page));
  found.push(...(looks ? await faults(page, everyLook) : await violations(page)));
  const alerts = await visitor.alertsOf(page);
  if ((await visitor.phaseOf(page)) !== "done") throw new Error(`the run broke off: ${alerts.join(" ")}`);
  const checks = await visitor.checksOf(page);
  const outcomes = await visitor.outcomesOf(page);
  const wrong = [...found, ...errors.splice(0), ...alerts];
  if (outcomes.length !== predictions || outcomes.includes("locked")) {
    wrong.push(`beside ${predictions} locked predictions stands: ${outcomes.join(", ")}`);
  }
  const kB = (bytes) => Math.round(bytes / 1000);
  const row = [
    slug,
    way,
    kB(script),
    kB(all),
    `${firstAfter.toFixed(1)} (${first.name}${first.visible ? "" : ", not on the screen"})`,
    seconds.toFixed(0),
    Math.round(longest),
    found.length,
    outcomes.join(", "),
    checks.map(({ id, state }) => `${id} ${state}`).join(", "),
  ];
  return { rows: { [VISITS]: [row] }, checks, wrong };
}
