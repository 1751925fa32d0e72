/** The page for labels: a class that labels pairs for a collector, comes by a room's code, closes tabs and loses its collector. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { invitationLink, type ShownPair } from "webrlhf/cluster";
import { RowLog } from "webrlhf/rlhf";
import { LabelDesk, type LabelTask } from "../../src/cluster/label-desk.ts";
import { freePort, natsServer, TestCluster } from "../cluster/server.ts";
import { type BuiltPage, builtPage, hasBrowser } from "./built-page.ts";
import { everyLook, faults } from "./looks.ts";

const PAIRS = 60;
const VOTES = 2;

describe.skipIf(!hasBrowser || !natsServer)("the page for labels", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  let cluster: TestCluster;
  let socket: string;
  let dir: string;
  /** A host that is no secure place for browsers, as the teacher's machine is none for others. */
  let lan: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "webrlhf-label-"));
    built = await builtPage();
    lan = `http://school.test:${new URL(built.address).port}/`;
    const port = await freePort();
    socket = `ws://school.test:${port}`;
    const origins = [new URL(lan).origin];
    cluster = await TestCluster.start({ pages: { port, page: `${lan}label/`, origins, labels: true } });
  }, 300_000);
  afterAll(async () => {
    await built?.close();
    await cluster?.close();
    await rm(dir, { recursive: true });
  });

  const link = async (member: string): Promise<string> => {
    const { creds } = await cluster.folder.invite("labeller", member, { seconds: 3600 });
    return invitationLink(`${lan}label/`, { url: socket, creds });
  };
  /** A browser without WebGPU that takes school.test for this machine. */
  const browser = async () => {
    const { browser } = await built.open(["--host-resolver-rules=MAP school.test 127.0.0.1"], "about:blank");
    return browser;
  };
  const pairOf = (pair: number, first: 0 | 1): ShownPair => {
    const answers = [`good answer ${pair} <b>bold</b>`, `bad answer ${pair}`];
    return { prompt: `Question ${pair}?`, first: answers[first], second: answers[1 - first] };
  };
  const tasks: LabelTask[] = Array.from({ length: PAIRS * VOTES }, (_, number) => {
    const [pair, vote] = [number % PAIRS, Math.floor(number / PAIRS)];
    return { number, job: { id: `${pair}/${vote}`, pair, ...pairOf(pair, ((pair + vote) % 2) as 0 | 1) } };
  });
  interface Row {
    who: string;
    name: string;
    good: boolean;
  }
  /** Collects as the command does, with labels on the disk from the moment they come. */
  const collect = async (log: RowLog<Row>) => {
    const options = { run: "class", who: "test", say: () => {}, waitsMs: 20_000 };
    const connection = await cluster.join("trainer");
    const desk = await LabelDesk.open(connection, options);
    const stop = new AbortController();
    const done = desk.collect({
      tasks: tasks.filter(({ number }) => !log.rows.has(number)),
      before: [...log.rows].map(([number, { who }]) => ({ pair: number % PAIRS, who })),
      async keep({ number, job }, { who, name, choice }) {
        if (log.rows.has(number)) throw new Error(`label ${number} came twice`);
        const said = choice === "first" ? job.first : job.second;
        await log.add([[number, { who, name, good: said.startsWith("good") }]]);
      },
      signal: stop.signal,
    });
    return { desk, done, connection };
  };
  const attribute = (page: Page, name: string) => page.locator("[data-phase]").getAttribute(name);
  const soon = { timeout: 60_000 };
  const begin = async (page: Page, name: string) => {
    await page.getByLabel("What do you want to be called?").fill(name);
    await page.getByRole("button", { name: "Start" }).click();
  };
  /** Decides whatever comes, by keys, until the page is closed. */
  const label = async (page: Page, wanted: "good" | "bad"): Promise<void> => {
    try {
      for (;;) {
        await page.locator("[data-pair=true]").waitFor({ timeout: 100_000 });
        const first = await page.getByRole("region", { name: "First answer" }).innerText({ timeout: 2000 });
        await page.keyboard.press(first.startsWith(wanted) ? "1" : "ArrowRight");
        await page.waitForTimeout(20);
      }
    } catch {
      // it was closed, or nothing comes any more
    }
  };

  it("serves a class over plain http, without WebGPU: no label is lost and none taken twice", async () => {
    const one = await browser();
    const room = await link("room-12");
    const contexts = await Promise.all([0, 1, 2].map(() => one.newContext()));
    const pages = await Promise.all(contexts.map((context) => context.newPage()));
    const errors: string[] = [];
    for (const page of pages) {
      page.on("pageerror", (error) => errors.push(String(error)));
      await page.goto(`${lan}label/${new URL(room).hash}`, { waitUntil: "networkidle" });
    }
    expect(await pages[0].evaluate(() => [isSecureContext, "gpu" in navigator])).toEqual([false, false]);
    expect(pages[0].url()).toBe(`${lan}label/`);
    const path = join(dir, "labels.partial");
    const log = await RowLog.open<Row>(await diskFiles(), path);
    const first = await collect(log);
    for (const [i, page] of pages.entries()) await begin(page, ["Ann", "Ben", "Cem"][i]);
    await expect.poll(() => pages[0].locator("[data-pair=true]").count(), soon).toBe(1);
    expect(await faults(pages[0], everyLook.slice(0, 3))).toEqual([]);
    expect(await pages[0].locator("b").count()).toBe(0); // answers are text, whatever stands in them
    const people = pages.map((page, i) => label(page, i === 2 ? "bad" : "good"));
    await expect.poll(() => log.rows.size, soon).toBeGreaterThan(20);
    await pages[2].goto("about:blank"); // with a pair before it, which goes to somebody else at once
    await expect.poll(() => log.rows.size, soon).toBeGreaterThan(35);
    await first.connection.nc.close(); // killed: what is said meanwhile is at the server
    await first.done.catch(() => {});
    const after = await RowLog.open<Row>(await diskFiles(), path);
    const second = await collect(after);
    const late = await one.newContext();
    const dee = await late.newPage();
    await dee.goto(`${lan}label/${new URL(room).hash}`, { waitUntil: "networkidle" });
    await begin(dee, "Dee");
    people.push(label(dee, "good"));
    await second.done;
    expect(after.rows.size).toBe(PAIRS * VOTES);
    for (let pair = 0; pair < PAIRS; pair++) {
      expect(after.rows.get(pair)?.who, String(pair)).not.toBe(after.rows.get(pair + PAIRS)?.who);
    }
    for (const { name, good } of after.rows.values()) expect(good, name).toBe(name !== "Cem");
    const shown = await Promise.all([pages[0], pages[1], dee].map((page) => attribute(page, "data-done")));
    const told = ["Ann", "Ben", "Dee"].map((who) => [...after.rows.values()].filter(({ name }) => name === who).length);
    for (const [i, count] of shown.entries()) expect(Number(count)).toBeGreaterThanOrEqual(told[i]);
    await second.desk.close();
    // A reload keeps name and place, and goes on by itself.
    await pages[0].reload({ waitUntil: "networkidle" });
    await pages[0].getByText("You label as Ann.").waitFor(soon);
    expect(Number(await attribute(pages[0], "data-done"))).toBe(Number(shown[0]));
    await pages[0].getByText("No pair waits just now").waitFor(soon);
    await pages[0].getByRole("button", { name: "Pause" }).click();
    await pages[0].getByRole("button", { name: "Somebody else labels here" }).click();
    expect(await attribute(pages[0], "data-done")).toBe("0");
    expect(errors).toEqual([]);
    await one.close();
    await Promise.all(people);
  });

  it("lets in by a room's code, and says in words where it does not", async () => {
    const one = await browser();
    const page = await one.newPage();
    const room = await link("room-13");
    await page.route("**/label/rooms/*", (route) =>
      route.request().url().endsWith("/label/rooms/K7MQ2X.txt")
        ? route.fulfill({ body: `${room}\n`, contentType: "text/plain" })
        : route.fulfill({ status: 404, body: "" }),
    );
    await page.goto(`${lan}label/`, { waitUntil: "networkidle" });
    const enter = async (text: string) => {
      await page.getByLabel("The room's code").fill(text);
      await page.getByRole("button", { name: "Go in" }).click();
    };
    const alert = (words: string) => page.getByRole("alert").filter({ hasText: words }).waitFor(soon);
    await enter("hello");
    await alert("neither a room's code nor an invitation");
    await enter("AAAAAA");
    await alert("There is no room AAAAAA here");
    expect(await faults(page, everyLook.slice(0, 2))).toEqual([]);
    await enter("k7m-q2x");
    await page.getByText("You are in the room room-13.").waitFor(soon);
    await page.getByRole("button", { name: "Leave the room" }).click();
    await page.goto("about:blank");
    await page.goto(`${lan}zh/label/#room=K7MQ2X`, { waitUntil: "networkidle" });
    await page.getByText("你在房间 room-13 里。").waitFor(soon);
    await page.evaluate(
      (hash) => {
        location.hash = hash;
      },
      new URL(
        invitationLink(lan, {
          url: "ws://school.test:1",
          creds: (await cluster.folder.invite("labeller", "lost")).creds,
        }),
      ).hash,
    );
    await page.getByText("你在房间 lost 里。").waitFor(soon);
    await page.getByLabel("你想叫什么名字").fill("安");
    await page.getByRole("button", { name: "开始" }).click();
    await alert("没有应答这个页面");
    await one.close();
  });
});
