/** Sessions on a real page: a worker of its own, the origin's private files, Web Locks. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { TrainEvent } from "webrlhf/rlhf";
import { createSession, type Run, type Session, type TrainInput } from "webrlhf/worker";
import { withoutClock } from "../without-clock.ts";
import type { CountEvent, CountInput } from "./counting.ts";
import { startWorker } from "./start-worker.ts";

const onPage = "document" in globalThis;

const sessions: Session[] = [];
const workers: Worker[] = [];
function sit(folder: string, troubles?: Parameters<typeof startWorker>[0]): Session {
  const hire = () => {
    workers.push(startWorker(troubles));
    return workers.at(-1) as Worker;
  };
  const session = createSession(hire, { autosave: { folder } });
  sessions.push(session);
  return session;
}

const counts = (input: CountInput) => ({ program: "count", input });
const sft: TrainInput = {
  method: "sft",
  settings: { modelNameOrPath: "base", maxSteps: 6, saveSteps: 2, maxTrainSamples: 24, maxEvalSamples: 4 },
};

async function eventsOf<E>(run: Run<E>): Promise<E[]> {
  const events: E[] = [];
  for await (const { event } of run) events.push(event);
  expect(run.state).toBe("done");
  return events;
}

const until = <E>(run: Run<E>, what: (run: Run<E>) => boolean) =>
  new Promise<void>((resolve) => {
    const end = run.subscribe((now) => {
      if (!what(now)) return;
      setTimeout(() => end());
      resolve();
    });
  });

/** Without the clock, and without how the run went on. */
const told = (events: readonly TrainEvent[]) =>
  events.flatMap((event): TrainEvent[] => {
    if (event.type === "note") return [];
    return [withoutClock(event)];
  });

async function clear(): Promise<void> {
  const root = await navigator.storage.getDirectory();
  for await (const name of root.keys()) await root.removeEntry(name, { recursive: true }).catch(() => {});
}

describe.skipIf(!onPage)("a session on a page", { timeout: 180_000 }, () => {
  beforeEach(clear);
  afterEach(async () => {
    for (const session of sessions.splice(0)) await session.close();
    for (const frame of document.querySelectorAll("iframe[data-tab]")) frame.remove();
    workers.length = 0;
  });

  it("trains in its worker, and goes on in another one when that is ended without a word", async () => {
    const session = sit("crash-test");
    expect(await session.device()).toMatchObject({ name: expect.any(String), kind: expect.any(String) });
    const expected = told(await eventsOf(session.run<TrainInput, TrainEvent>({ program: "train", input: sft })));
    const run = session.run<TrainInput, TrainEvent>({ program: "train", input: sft });
    await until(run, ({ events }) => events.some(({ event }) => event.type === "step" && event.step === 3));
    workers[0].terminate();
    expect(told(await eventsOf(run))).toEqual(expected);
    expect(run.notices.map(({ type }) => type)).toEqual(["rehired"]);
    expect(workers).toHaveLength(2);
  });

  it("takes a worker with an error that nobody caught for broken", async () => {
    const session = sit("error-test");
    const run = session.run<CountInput, CountEvent>(counts({ to: 200, save: 5 }));
    await until(run, ({ events }) => events.length > 10);
    await session.query("crash").catch(() => {});
    await eventsOf(run);
    expect(run.notices.map(({ type }) => type)).toEqual(["rehired"]);
    expect(run.notices[0].message).toMatch(/a bug of a program/);
  });

  it("goes on with the run of a tab that is gone, and says of one that is there that it has it", async () => {
    const expected = await eventsOf(sit("other").run<CountInput, CountEvent>(counts({ to: 9, save: 3 })));
    const tab = document.createElement("iframe");
    tab.dataset.tab = "";
    document.body.append(tab);
    const heard: { tab?: string; state?: string; events?: number }[] = [];
    const hear = ({ data }: MessageEvent) => data?.tab && heard.push(data);
    addEventListener("message", hear);
    const script = (tab.contentDocument as Document).createElement("script");
    script.type = "module";
    script.src = new URL("./tab.ts", import.meta.url).href;
    tab.contentDocument?.body.append(script);
    await expect
      .poll(() => heard.at(-1), { timeout: 60_000 })
      .toMatchObject({ state: "paused", events: expect.toSatisfy((n: number) => n >= 20) });
    const { tab: id, events } = heard.at(-1) as { tab: string; events: number };

    const session = sit("tab-test");
    await expect
      .poll(async () => (await session.unfinished())[0], { timeout: 20_000 })
      .toMatchObject({ id, events, held: true });
    const early = session.goOn<CountEvent>(id);
    await expect(eventsOf(early)).rejects.toThrow(/open in another tab/);

    tab.remove();
    removeEventListener("message", hear);
    await expect.poll(async () => (await session.unfinished())[0], { timeout: 20_000 }).toMatchObject({ held: false });
    const run = session.goOn<CountEvent>(id);
    expect(await eventsOf(run)).toEqual(expected);
    expect(await session.unfinished()).toEqual([]);
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("tab-test");
    const left: string[] = [];
    for await (const name of folder.keys()) left.push(name);
    expect(left).toEqual([]);
  });

  it("saves at once when the page is hidden or left", async () => {
    const session = sit("leave-test", "no clock"); // nothing is saved every 5 seconds
    const run = session.run<CountInput, CountEvent>(counts({ to: 1e6, save: 1e6 }));
    const watcher = sit("leave-test");
    for (const leave of [
      () => dispatchEvent(new Event("pagehide")),
      () => {
        Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
        Reflect.deleteProperty(document, "visibilityState");
      },
    ]) {
      const before = run.events.length + 20;
      await until(run, ({ events }) => events.length > before);
      const least = run.events.length;
      leave();
      await expect
        .poll(async () => (await watcher.unfinished())[0]?.events ?? 0, { timeout: 30_000 })
        .toBeGreaterThanOrEqual(least);
    }
    await run.cancel();
  });

  it("trains on where the browser keeps no files, and says so", async () => {
    const run = sit("denied", "no files").run<CountInput, CountEvent>(counts({ to: 3 }));
    await eventsOf(run);
    expect(run.notices).toEqual([
      {
        type: "unsaved",
        message: expect.stringMatching(/^Nothing of this run will survive a reload: the browser lets/),
      },
    ]);
  });

  it("says why there is no device, and runs what needs none", async () => {
    const session = sit("no-gpu", "no gpu");
    await expect(session.device()).rejects.toThrow(/WebGPU/);
    const run = session.run<TrainInput, TrainEvent>({ program: "train", input: sft });
    await expect(eventsOf(run)).rejects.toThrow(/WebGPU/);
    expect(run.state).toBe("broken");
    await eventsOf(session.run<CountInput, CountEvent>(counts({ to: 2 })));
  });
});
