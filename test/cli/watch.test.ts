import { mkdtemp, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import type { LoopbackServer } from "../../src/cli/loopback.ts";
import { startWatch } from "../../src/cli/watch-server.ts";
import { embeddedChromium } from "../../src/runtime/embedded.ts";
import { faults, type Look } from "../demo/looks.ts";

type Kept = { verb: string; settings: object; metrics: object[]; rollouts: object[]; seconds: number[] };
const healthy = JSON.parse(await readFile("test/fixtures/healthy-runs.json", "utf8")) as Record<string, Kept>;

const looks: Look[] = [
  { width: 320, colours: "light" },
  { width: 1280, colours: "dark" },
  { width: 1280, colours: "forced" },
];

let dir: string;
let server: LoopbackServer;
const files = await diskFiles();
const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** A run's folder. Its rollouts show a token for each letter. */
async function leave(name: string, { verb, settings, metrics, rollouts, seconds }: Kept): Promise<void> {
  const folder = join(dir, name);
  await files.writeFile(join(folder, "metrics.jsonl"), lines(metrics));
  await files.writeFile(
    join(folder, "timing.jsonl"),
    lines(seconds.map((s, i) => ({ step: i + 1, seconds: s, tokens: 9 }))),
  );
  const shown = rollouts.map((row) => ({
    ...row,
    rewards: (row as { kl?: number[] }).kl,
    texts: [...(row as { response: string }).response],
  }));
  await files.writeFile(join(folder, "rollouts.jsonl"), lines(shown));
  const record = {
    verb,
    state: "running",
    steps: null,
    webrlhf: "1",
    adapter: null,
    settings,
    inputs: [],
    parents: [],
  };
  await files.writeFile(join(folder, "run.json"), JSON.stringify(record));
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-watch-"));
  await leave("ppo", healthy.ppo);
  await leave("seeds/grpo", healthy.grpo);
  await leave("<b>&amp", { ...healthy.sft, metrics: [{ step: 1, tokens: 1, loss: "NaN", "<i>": 1 }] });
  server = await startWatch(files, dir, 0);
});
afterAll(async () => {
  await server.close();
  await rm(dir, { recursive: true });
});

/** Asks with headers of one's own, which `fetch` would not send. */
const ask = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  new Promise<{ status: number; body: string; headers: Record<string, unknown> }>((resolve, reject) => {
    const sent = request(server.url + path, { headers, method }, (answer) => {
      let body = "";
      answer.on("data", (piece) => (body += piece));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body, headers: answer.headers }));
    });
    sent.on("error", reject).end();
  });

describe("the page of runs", () => {
  it("shows runs below the folder, their curves, responses, time and findings", async () => {
    const { body } = await ask("/");
    for (const part of [
      "ppo",
      "seeds/grpo",
      "Reward",
      "Responses",
      "Seconds of a step",
      "ppo shows nothing that is known",
    ])
      expect(body).toContain(part);
    expect(body).toMatch(/class="token" style="[^"]*" title="kl [^"]+"/);
    expect(body).toContain("loss is not a number at step 1.");
    expect((await ask("/diagnoses")).body).toContain('<section id="not-finite">');
  });

  it("draws the metrics that are asked for, of the runs that are asked for", async () => {
    const { body } = await ask("/view?run=ppo&metric=kl_coef&colour=reward");
    expect(body).toContain("kl_coef");
    expect(body).not.toContain("Reward</title>");
    expect(body).toContain('title="reward ');
    expect((await ask("/view?run=../../etc&colour=kl")).body).toContain("Choose a run.");
  });

  it("lets no name of a run or a metric into its markup", async () => {
    const { body } = await ask(`/?${new URLSearchParams({ run: "<b>&amp", metric: "<i>" })}`);
    expect(body).not.toMatch(/<b>&amp[^;]|<i>/);
    expect(body).toContain("&lt;b&gt;&amp;amp");
  });

  it("answers this machine's own pages alone, and reads only", async () => {
    expect((await ask("/", { Host: "evil.example" })).status).toBe(403);
    expect((await ask("/view", { Origin: "http://evil.example" })).status).toBe(403);
    expect((await ask("/", {}, "POST")).status).toBe(405);
    expect((await ask("/../package.json")).status).toBe(404);
    const { headers } = await ask("/");
    expect(String(headers["content-security-policy"])).toContain("script-src 'self'");
    expect(new URL(server.url).hostname).toBe("127.0.0.1");
  });

  it("says again only what has changed, and takes no line that is still being written", async () => {
    await leave("live", { ...healthy.rloo, metrics: healthy.rloo.metrics.slice(0, 3) });
    const { headers, body } = await ask("/view?run=live&colour=kl");
    const known = { "If-None-Match": String(headers.etag) };
    expect((await ask("/view?run=live&colour=kl", known)).status).toBe(304);
    await files.append(join(dir, "live/metrics.jsonl"), '{"step":99,"tokens":1,"rew');
    const step = Number(/live<\/b> \([^)]*step (\d+)\)/.exec(body)?.[1]);
    expect((await ask("/view?run=live&colour=kl")).body).toContain(`step ${step})`);
    await files.append(join(dir, "live/metrics.jsonl"), 'ard":1}\n');
    const { body: later } = await ask("/view?run=live&colour=kl", known);
    expect(later).toContain("step 99)");
    await rm(join(dir, "live"), { recursive: true });
  });

  it("refuses a port that is taken, in words", async () => {
    const port = Number(new URL(server.url).port);
    await expect(startWatch(files, dir, port)).rejects.toThrow("another program listens there");
  });
});

const own = process.env.WEBRLHF_CHROMIUM;
const found = own ? { executable: own, env: {} } : await embeddedChromium();
if (found === null) console.log("skipped, the page in a browser: there is none");

describe.skipIf(found === null)("the page in a browser", () => {
  let browser: Browser;
  beforeAll(async () => {
    const env = { ...(process.env as Record<string, string>), ...found?.env };
    browser = await chromium.launch({ executablePath: found?.executable, env, args: ["--no-sandbox"] });
  });
  afterAll(() => browser.close());

  it("has nothing that axe finds, follows a run, keeps what is open, and is used by keys", async () => {
    // The page lets no script in but its own, and axe is one.
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, bypassCSP: true });
    const errors: string[] = [];
    await leave("followed", healthy.ppo);
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (said) => said.type() === "error" && errors.push(said.text()));
    await page.goto(`${server.url}/?run=followed&run=seeds/grpo&colour=kl`);
    expect(await faults(page, looks)).toEqual([]);
    await page.goto(`${server.url}/?run=followed&run=seeds/grpo&colour=kl`);
    const [summary] = await page.locator("#curves summary").all();
    await summary.focus();
    await page.keyboard.press("Enter");
    const step = { step: 500, epoch: 1, tokens: 1, reward: 1 };
    await files.append(join(dir, "followed/metrics.jsonl"), lines([step]));
    await page.waitForFunction(() => document.getElementById("runs")?.textContent?.includes("step 500"));
    await page.waitForFunction(() => document.querySelector("#curves")?.textContent?.includes("500"));
    expect(await page.locator("#curves details[open]").count()).toBe(1);
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe(
      await page.locator("#curves summary").first().textContent(),
    );
    await page.locator('input[value="followed"]').focus();
    await page.keyboard.press("Space");
    await page.waitForFunction(() => !document.getElementById("findings")?.textContent?.includes("followed"));
    expect(new URL(page.url()).searchParams.getAll("run")).toEqual(["seeds/grpo"]);
    expect(errors).toEqual([]);
    if (process.env.WEBRLHF_SCREENSHOTS)
      await page.screenshot({ path: process.env.WEBRLHF_SCREENSHOTS, fullPage: true });
    await page.close();
    await rm(join(dir, "followed"), { recursive: true });
  });
});
