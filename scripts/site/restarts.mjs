/** Memory of a page that runs the same thing again and again. */
import fs from "node:fs/promises";
import { opened } from "./visit.mjs";

/** Looks at memory after these runs. */
const stops = (count) => [1, 2, 5, 10, 20, 30, 40, 50, 75, 100].filter((n) => n < count).concat(count);
/** How much a place may grow between the tenth run and the last. */
const MOST = 0.1;

const megabytes = (bytes) => bytes / 2 ** 20;

/** Resident memory of a process on Linux; elsewhere nothing is said. */
async function resident(pid) {
  const status = await fs.readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024;
}

/** Talks to the page's worker, which is a target of its own. */
async function workerOf(session) {
  const answers = new Map();
  let found = null;
  session.on("Target.attachedToTarget", ({ sessionId }) => {
    found = sessionId;
  });
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { id, result } = JSON.parse(message);
    answers.get(id)?.(result);
  });
  await session.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  let last = 0;
  return async (method) => {
    if (!found) throw new Error("the page has no worker");
    const id = ++last;
    const answer = new Promise((resolve) => answers.set(id, resolve));
    await session.send("Target.sendMessageToTarget", { sessionId: found, message: JSON.stringify({ id, method }) });
    return answer;
  };
}

/** What the page, its worker and their processes hold, in MB; heaps after a garbage collection. */
async function held({ page, worker, browserSession, pageSession }) {
  for (let i = 0; i < 2; i++) {
    await pageSession.send("HeapProfiler.collectGarbage");
    await worker("HeapProfiler.collectGarbage");
  }
  await page.waitForTimeout(500);
  const { usedSize } = await pageSession.send("Runtime.getHeapUsage");
  const inWorker = await worker("Runtime.getHeapUsage");
  const { processInfo } = await browserSession.send("SystemInfo.getProcessInfo");
  const pidOf = (type) => processInfo.filter((one) => one.type === type).map(({ id }) => id);
  const gpu = await resident(pidOf("GPU")[0]);
  const renderers = await Promise.all(pidOf("renderer").map(resident));
  return {
    page: megabytes(usedSize),
    worker: megabytes(inWorker.usedSize + (inWorker.backingStorageSize ?? 0)),
    renderer: megabytes(Math.max(...renderers)),
    gpu: megabytes(gpu),
  };
}

/**
 * Runs a lesson so many times in one page: rows of the table, and what grew.
 * @param ask what a run is to take
 */
export async function restarts(tools, slug, { count, seed, ask, log }) {
  const { built, visitor } = tools;
  const { page, errors, browser } = await opened(tools);
  try {
    await page.goto(built.address + visitor.lessonAddress(slug, seed, ask), { waitUntil: "networkidle" });
    const pageSession = await page.context().newCDPSession(page);
    const browserSession = await browser.newBrowserCDPSession();
    const worker = await workerOf(pageSession);
    await visitor.ready(page);
    const rows = [];
    const seen = new Map();
    let numbers = null;
    for (let run = 1; run <= count; run++) {
      await visitor.mainButton(page).click();
      await page.locator('article.lesson:not([data-phase="done"])').waitFor({ state: "attached", timeout: 60_000 });
      await visitor.over(page);
      if ((await visitor.phaseOf(page)) !== "done")
        throw new Error(`run ${run} broke: ${await visitor.alertsOf(page)}`);
      await page.waitForTimeout(300);
      const now = JSON.stringify(await visitor.numbersOf(page));
      numbers ??= now;
      if (now !== numbers) errors.push(`run ${run} ended in other numbers than the first`);
      if (!stops(count).includes(run)) continue;
      const here = await held({ page, worker, browserSession, pageSession });
      seen.set(run, here);
      rows.push([slug, run, ...Object.values(here).map((mb) => mb.toFixed(1))]);
      log(rows.at(-1).join(" | "));
    }
    const from = seen.get(10) ?? [...seen.values()][0];
    const to = seen.get(count);
    const grown = Object.keys(to).filter((place) => to[place] > from[place] * (1 + MOST));
    const wrong = grown.map((place) => `${place}: ${from[place].toFixed(1)} MB, then ${to[place].toFixed(1)} MB`);
    return { rows, wrong: [...errors, ...wrong] };
  } finally {
    await browser.close();
  }
}
