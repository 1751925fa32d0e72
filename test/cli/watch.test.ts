import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { FolderControls, group, live, loop, settings, standingOf, waitingWishes } from "webrlhf/rlhf";
import { startWatch, type WatchServer } from "../../src/cli/watch-server.ts";
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
let server: WatchServer;
const files = await diskFiles();
const lines = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

const usage = (s: number) => ({ "time/rollout": s / 4, "time/learn": (3 * s) / 4, "memory/peak": 3 << 20 });

/** A run's folder. Its rollouts show a token for each letter. */
async function leave(name: string, { verb, settings, metrics, rollouts, seconds }: Kept): Promise<void> {
  const folder = join(dir, name);
  await files.writeFile(join(folder, "metrics.jsonl"), lines(metrics));
  await files.writeFile(
    join(folder, "timing.jsonl"),
    lines(seconds.map((s, i) => ({ step: i + 1, seconds: s, tokens: 9, ...usage(s) }))),
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
const ask = (path: string, headers: Record<string, string> = {}, method = "GET", sent = "") =>
  new Promise<{ status: number; body: string; headers: Record<string, unknown> }>((resolve, reject) => {
    const sending = request(server.url + path, { headers, method }, (answer) => {
      let body = "";
      answer.on("data", (piece) => (body += piece));
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body, headers: answer.headers }));
    });
    sending.on("error", reject).end(sent);
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
      "where the time goes",
      "75.0 %",
      "The most GPU memory in use was 3 MiB.",
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

  it("answers this machine's own pages alone", async () => {
    expect((await ask("/", { Host: "evil.example" })).status).toBe(403);
    expect((await ask("/view", { Origin: "http://evil.example" })).status).toBe(403);
    expect((await ask("/", {}, "POST")).status).toBe(405);
    expect((await ask("/", {}, "PUT")).status).toBe(405);
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

/** A run of steps that take a moment, in a folder of its own, as trainers are. */
const own = settings("slow", { learningRate: group("x").float(1, "x", { min: 0, live: true }) });
function atWork(name: string) {
  const path = join(dir, name);
  const controls = new FolderControls(files, path);
  const o = { ...live(own()), seed: 1, saveSteps: 0, saveStrategy: "steps" as const, saveMinutes: 0 };
  const steps = {
    ...{ stage: "slow", maxSteps: 100_000, parameters: 1, kept: {}, finite: [] },
    epoch: () => 0,
    async step() {
      await new Promise((done) => setTimeout(done, 5));
      return { metrics: {}, tokens: 1 };
    },
    finished: () => ({}),
    close() {},
  };
  const run = async () => {
    await files.append(join(path, "metrics.jsonl"), "");
    for await (const _ of loop(steps, o, { folder: { files, path }, controls }));
    await controls.close();
  };
  return { path, run: run(), o };
}
const until = async (what: () => Promise<boolean>) => {
  while (!(await what())) await new Promise((done) => setTimeout(done, 20));
};

describe("the controls of runs at work", () => {
  const form = { "Content-Type": "application/x-www-form-urlencoded" };
  const token = () => new URL(server.page).searchParams.get("token") as string;
  const send = (fields: Record<string, string>, headers: Record<string, string> = {}) =>
    ask("/control", { ...form, ...headers }, "POST", String(new URLSearchParams({ token: token(), ...fields })));

  it("hold, change, save and stop a run, whoever of two pages asks", async () => {
    const { path, run, o } = atWork("slow");
    const standing = () => standingOf(files, path);
    await until(async () => (await standing()) !== null);
    const { body } = await ask(`/?token=${token()}`);
    for (const part of ["Pause", "Save a checkpoint", "Stop and save", "Change learning_rate"])
      expect(body).toContain(part);
    const back = "run=slow&colour=kl";
    const { status, headers } = await send({ run: "slow", ask: "pause", back }, { Origin: server.url });
    expect([status, headers.location]).toEqual([303, `/?${back}`]);
    await until(async () => (await standing())?.state === "paused");
    const set = { run: "slow", ask: "set", setting: "learning_rate" };
    await Promise.all([send({ ...set, value: "1e-3" }), send({ run: "slow", ask: "save" })]);
    await until(async () => (await standing())?.settings.learning_rate === 1e-3);
    expect(o.learningRate).toBe(1e-3);
    const { body: paused } = await ask(`/view?run=slow&token=${token()}`);
    expect(paused).toContain("Go on");
    expect(paused).toMatch(/It is paused after step \d+\..*From step \d+ on learning_rate is 0.001; it was 1\./s);
    await until(async () => (await files.list(path)).some((name) => name.startsWith("checkpoint-")));
    for (const [fields, code] of [
      [{ ...set, value: "" }, 400],
      [{ ...set, value: "Infinity" }, 400],
      [{ ...set, setting: "seed", value: "1" }, 409],
      [{ run: "slow", ask: "remove" }, 400],
      [{ run: "../slow", ask: "pause" }, 404],
      [{ run: "ppo", ask: "pause" }, 409], // nobody is at work there
      [{ run: "slow", ask: "pause", back: "x".repeat(9000) }, 413],
    ] as const)
      expect((await send(fields)).status).toBe(code);
    await send({ run: "slow", ask: "stop" });
    await run;
    expect((await ask(`/view?run=slow&token=${token()}`)).body).toMatch(
      /slow, stopped, .*It was stopped. The same command/s,
    );
    await rm(path, { recursive: true });
  });

  it("are for who has the token, and not for pages of others", async () => {
    const { path, run } = atWork("slow");
    await until(async () => (await standingOf(files, path)) !== null);
    const stop = { run: "slow", ask: "stop" };
    expect((await send({ ...stop, token: "" })).status).toBe(403);
    expect((await send({ ...stop, token: `${token()}x` })).status).toBe(403);
    expect((await send(stop, { Origin: "http://evil.example" })).status).toBe(403);
    expect((await send(stop, { Origin: "null" })).status).toBe(403);
    expect((await send(stop, { Host: "evil.example" })).status).toBe(403);
    expect((await send(stop, { "Content-Type": "text/plain" })).status).toBe(415);
    const long = { ...stop, back: "x".repeat(1 << 20) };
    for (const way of [{}, { "Transfer-Encoding": "chunked" }] as Record<string, string>[])
      expect((await send(long, way)).status).toBe(413);
    expect(await waitingWishes(files, path)).toEqual([]);
    const { body } = await ask("/view?run=slow");
    expect(body).toContain("The address that webrlhf watch printed");
    expect(body).not.toContain('action="/control"');
    const quiet = await startWatch(files, dir, 0, false);
    expect((await fetch(`${quiet.url}/control`, { method: "POST", body: new URLSearchParams(stop) })).status).toBe(405);
    expect(await (await fetch(`${quiet.page}/view?run=slow`)).text()).toContain("controls are off");
    await quiet.close();
    expect((await send(stop)).status).toBe(303);
    await run;
    await rm(path, { recursive: true });
  });

  it("say honestly of a run whose process is gone, or is another machine's, how it stands", async () => {
    await leave("gone", healthy.ppo);
    await files.writeFile(join(dir, "gone/control/standing.json"), '{"state":"running","step":3,"settings":{}}');
    const shown = async (holder: object | null) => {
      const lock = join(dir, "gone/.running.json");
      if (holder) await files.writeFile(lock, JSON.stringify(holder));
      return (await ask(`/view?run=gone&token=${token()}`)).body;
    };
    expect(await shown(null)).toMatch(/ppo, broken off, .*Its process is gone without having ended it/s);
    expect(await shown({ pid: 2 ** 30, host: hostname(), began: "1" })).not.toContain('action="/control"');
    expect((await send({ run: "gone", ask: "pause" })).status).toBe(409);
    expect(await shown({ pid: 1, host: "elsewhere", began: "1" })).toContain(
      "It runs on elsewhere; whether it still does",
    );
    await rm(join(dir, "gone"), { recursive: true });
  });

  it.skipIf(process.getuid?.() === 0)("are off where the run's folder cannot be written", async () => {
    const { path, run } = atWork("slow");
    await until(async () => (await standingOf(files, path)) !== null);
    await chmod(path, 0o555);
    expect((await ask(`/view?run=slow&token=${token()}`)).body).toContain("Its folder cannot be written from here");
    await chmod(path, 0o755);
    await send({ run: "slow", ask: "stop" });
    await run;
    await rm(path, { recursive: true });
  });
});

const chosen = process.env.WEBRLHF_CHROMIUM;
const found = chosen ? { executable: chosen, env: {} } : await embeddedChromium();
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

  it("has controls that axe finds nothing in, that keys use, and that keep what is being written", async () => {
    const { path, run, o } = atWork("slow");
    await until(async () => (await standingOf(files, path)) !== null);
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, bypassCSP: true });
    const other = await browser.newPage();
    const at = `${server.page}&run=slow`;
    await page.goto(at);
    expect(await faults(page, looks)).toEqual([]);
    await page.goto(at);
    await other.goto(at);
    const rate = page.getByRole("textbox", { name: "learning_rate" });
    await rate.fill("0.25");
    await other.getByRole("button", { name: "Pause" }).focus();
    await other.keyboard.press("Enter");
    await other.getByText("Asked for: the run hears it").waitFor();
    await page.getByText(/It is paused after step/).waitFor();
    expect(await rate.inputValue()).toBe("0.25");
    await rate.press("Enter");
    await page.getByText("From step").waitFor();
    expect(o.learningRate).toBe(0.25);
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
    // Without a script the same buttons are forms.
    const plain = await browser.newPage({ javaScriptEnabled: false });
    await plain.goto(at);
    await plain.getByRole("button", { name: "Stop and save" }).click();
    await run;
    await plain.waitForURL((url) => url.pathname === "/" && url.searchParams.get("run") === "slow");
    await other.getByText("It was stopped.").waitFor();
    for (const one of [page, other, plain]) await one.close();
    await rm(path, { recursive: true });
  });
});
