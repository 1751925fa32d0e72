/** A page that works in a cluster: what it draws, when it pauses, and what it says where it cannot. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Page } from "playwright";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, openDevice } from "webrlhf";
import { invitationLink, runWorker } from "webrlhf/cluster";
import { CausalLM } from "webrlhf/nn";
import { jobsOf, runJob, type SamplingJob } from "webrlhf/rlhf";
import { tellServer } from "../../src/cluster/connection.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { PolicyPublisher } from "../../src/cluster/policy.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { freePort, natsServer, TestCluster } from "../cluster/server.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";
import { endWorker, killGpu } from "./hurt.ts";
import { everyLook, faults } from "./looks.ts";

describe.skipIf(!hasBrowser || !natsServer)("the page for workers", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  let cluster: TestCluster;
  let socket: string;
  let dir: string;
  let base: CausalLM;
  beforeAll(async () => {
    await openDevice();
    base = new CausalLM(tinyConfig()).initialize(3);
    dir = await mkdtemp(join(tmpdir(), "webrlhf-tab-"));
    built = await builtPage();
    const port = await freePort();
    socket = `ws://127.0.0.1:${port}`;
    const page = `${built.address}worker/`;
    cluster = await TestCluster.start({ pages: { port, page, origins: [new URL(page).origin] } });
  }, 300_000);
  afterAll(async () => {
    base?.destroy();
    await built?.close();
    await cluster?.close();
    await rm(dir, { recursive: true });
  });

  /** A tab that is left open would take the next test's jobs. */
  let left: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of left) await close();
    left = [];
  });
  const open = async (flags: readonly string[], page: string) => {
    const opened = await built.open(flags, page);
    left.push(() => opened.browser.close());
    return opened;
  };
  const fragment = async (member: string, seconds?: number): Promise<string> => {
    const { creds } = await cluster.folder.invite("worker", member, seconds === undefined ? {} : { seconds });
    return new URL(invitationLink("http://x/", { url: socket, creds })).hash;
  };
  const jobs = (more: object): SamplingJob[] => {
    const asked = prompts(6);
    const options = { iteration: 0, samples: 2, seed: 5, temperature: 0.7, promptsPerJob: 2, maxNewTokens: 6, ...more };
    return jobsOf(
      asked.map(({ ids }) => ids),
      asked.map((_, i) => i),
      options,
    );
  };
  const trainer = async (run: string) => {
    const options = {
      run,
      who: "test",
      kept: { files: await diskFiles(), folder: join(dir, run) },
      say: () => {},
      waitsMs: 1500,
    };
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, options);
    const { vocabSize, eosIds: endIds } = base.config;
    const drawn = { policy: await new PolicyPublisher().take(base), vocabSize, endIds };
    await one.publish(drawn.policy);
    return { one, drawn };
  };
  const phase = (page: Page) => page.locator("[data-phase]").getAttribute("data-phase");
  const at = (page: Page) => page.locator("[data-at]").getAttribute("data-at");
  const begin = (page: Page) => page.getByRole("button", { name: "Start working" }).click({ timeout: 120_000 });
  const become = (page: Page, state: "hidden" | "visible") =>
    page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  const soon = { timeout: 60_000 };

  it("draws for a trainer what the policy draws here, and keeps its invitation out of the address", async () => {
    const { page, errors } = await open(webgpu, `worker/${await fragment("drawer", 3600)}`);
    await page.getByText("You are invited as drawer").waitFor();
    expect(page.url()).toBe(`${built.address}worker/`);
    await page.reload({ waitUntil: "networkidle" });
    await begin(page);
    await expect.poll(() => at(page), soon).toBe("waiting");
    const { one, drawn } = await trainer("drawn");
    await one.request(0, jobs({}), drawn);
    const results = await one.take(0, null);
    expect([...one.counts.by]).toEqual([["drawer", 3]]);
    const { name } = await openDevice();
    const shown = await page.locator("[data-device]").innerText();
    for (const [i, job] of jobs({}).entries()) {
      const { responses } = await runJob(base, job);
      if (shown.includes(`(${name})`)) expect(results[i].responses).toEqual(responses);
      for (const [k, { ids, logProbs = [] }] of responses.entries()) {
        const other = results[i].responses[k];
        expect(other.ids).toEqual(ids);
        for (const [t, value] of logProbs.entries()) expect(other.logProbs?.[t]).toBeCloseTo(value, 4);
      }
    }
    await expect.poll(() => page.locator("[data-done]").getAttribute("data-done"), soon).toBe("3");
    expect(await faults(page, everyLook)).toEqual([]);
    await one.close();
    await page.getByRole("button", { name: "Pause" }).press("Enter");
    await expect.poll(() => phase(page), soon).toBe("paused");
    await page.getByRole("button", { name: "Forget" }).click();
    await page.getByLabel("The link of your invitation").fill("https://example.org/");
    await page.getByRole("button", { name: "Take it" }).click();
    await page.getByRole("alert").filter({ hasText: "This is no invitation" }).waitFor();
    await page.reload({ waitUntil: "networkidle" });
    expect(await page.locator("[data-phase]").count()).toBe(0);
    expect(await faults(page, everyLook.slice(0, 3))).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("gives its job back when it is hidden, and works again when it is seen", async () => {
    const { page, errors } = await open(webgpu, `worker/${await fragment("hider")}`);
    await begin(page);
    await expect.poll(() => at(page), soon).toBe("waiting");
    const { one, drawn } = await trainer("hidden");
    const [long] = jobs({ maxNewTokens: 30, ignoreEos: true, samples: 60 });
    await one.request(0, [long], { ...drawn, endIds: [] });
    await expect.poll(() => at(page), { timeout: 30_000, interval: 20 }).toMatch(/fetching|drawing/);
    await become(page, "hidden");
    await expect.poll(() => phase(page), soon).toBe("hidden");
    const { nc, user } = await cluster.join("worker");
    const stop = new AbortController();
    const working = runWorker({ nc, user }, { name: "other", adapter: "test", signal: stop.signal });
    const began = Date.now();
    await one.take(0, null);
    expect(Date.now() - began).toBeLessThan(20_000); // its lease would have been 30 s
    expect([...one.counts.by.keys()]).toEqual(["worker"]);
    stop.abort();
    await working;
    await nc.close();
    await become(page, "visible");
    await expect.poll(() => at(page), soon).toBe("waiting");
    await page.getByLabel("Go on while this tab is hidden").check();
    await become(page, "hidden");
    await one.request(1, jobs({ iteration: 1 }), drawn);
    await one.take(1, null);
    expect(one.counts.by.get("hider")).toBe(3);
    expect(await phase(page)).toBe("working");
    await one.close();
    expect(errors).toEqual([]);
  });

  it("goes on when its GPU or its worker is lost", async () => {
    const { browser, page, errors } = await open(webgpu, `worker/${await fragment("unlucky")}`);
    await begin(page);
    await expect.poll(() => at(page), soon).toBe("waiting");
    const { one, drawn } = await trainer("unlucky");
    for (const [iteration, hurt] of [() => {}, () => killGpu(browser), () => endWorker(page)].entries()) {
      await hurt();
      await one.request(iteration, jobs({ iteration }), drawn);
      await one.take(iteration, null);
      expect(one.counts.by.get("unlucky")).toBe(3 * (iteration + 1));
    }
    expect(await page.getByRole("alert").count()).toBe(0);
    await one.close();
    expect(errors).toEqual([]);
  });

  it("says in words that its invitation has expired, or was revoked, and waits for a server that is away", async () => {
    const { page } = await open(webgpu, `worker/${await fragment("expired", -5)}`);
    const alert = (words: string) => page.getByRole("alert").filter({ hasText: words }).waitFor({ timeout: 60_000 });
    await begin(page);
    await alert("The invitation has expired");
    const next = async (hash: string) => {
      await page.evaluate((hash) => {
        location.hash = hash;
      }, hash);
      await expect.poll(() => page.url()).toBe(`${built.address}worker/`);
      await page.getByRole("button", { name: /Try again|Go on|Start working/ }).click();
    };
    await next(await fragment("brief", 8));
    await expect.poll(() => at(page), soon).toBe("waiting");
    await alert("The invitation has expired");
    await next(await fragment("out"));
    await expect.poll(() => at(page), soon).toBe("waiting");
    const { account } = await cluster.folder.revoke("out");
    const system = await readFile(cluster.creds("system"), "utf8");
    await tellServer({ url: cluster.url, creds: system, file: "system.creds" }, account);
    await alert("The server refuses the invitation");
    await next(await fragment("patient"));
    await expect.poll(() => at(page), soon).toBe("waiting");
    await cluster.kill();
    await expect.poll(() => at(page), soon).toBe("away");
    await cluster.up();
    await expect.poll(() => at(page), soon).toBe("waiting");
    expect(await faults(page, everyLook.slice(0, 2))).toEqual([]);
  });

  it("connects by TLS where its browser knows the certificate, and names it where not", async () => {
    const fixture = (name: string) => resolve(import.meta.dirname, "../cluster/fixtures", name);
    const certificate = { cert: fixture("localhost.pem"), key: fixture("localhost.key.pem") };
    const port = await freePort();
    const page = `${built.address}worker/`;
    const encrypted = await TestCluster.start({ certificate, pages: { port, page, origins: [new URL(page).origin] } });
    try {
      const { creds } = await encrypted.folder.invite("worker", "room-12");
      const { hash } = new URL(invitationLink(page, { url: `wss://localhost:${port}`, creds }));
      const known = await open([...webgpu, "--ignore-certificate-errors"], `worker/${hash}`);
      await begin(known.page);
      await expect.poll(() => at(known.page), soon).toBe("waiting");
      const unknown = await open(webgpu, `worker/${hash}`);
      await begin(unknown.page);
      await unknown.page
        .getByRole("alert")
        .filter({ hasText: "its certificate is not one" })
        .waitFor({ timeout: 60_000 });
    } finally {
      await encrypted.close();
    }
  });

  it("names what may be wrong where the server takes no pages of its origin, or has no WebGPU", async () => {
    const { port } = new URL(built.address);
    const flags = ["--host-resolver-rules=MAP school.test 127.0.0.1"];
    const { page } = await open([...webgpu, ...flags], "about:blank");
    await page.goto(`http://localhost:${port}/worker/${await fragment("stranger")}`, { waitUntil: "networkidle" });
    await begin(page);
    const refused = page.getByRole("alert").filter({ hasText: `does not take pages of http://localhost:${port}` });
    await refused.filter({ hasText: "the server is off" }).waitFor({ timeout: 60_000 });
    expect(await phase(page)).toBe("over");
    await page.goto(`http://school.test:${port}/worker/`, { waitUntil: "networkidle" });
    await page.getByRole("alert").filter({ hasText: "browsers hide WebGPU. Open it by https://" }).waitFor();
    await page.goto(`http://school.test:${port}/zh/worker/`, { waitUntil: "networkidle" });
    await page.getByRole("alert").filter({ hasText: "请用 https:// 打开" }).waitFor();
  });
});
