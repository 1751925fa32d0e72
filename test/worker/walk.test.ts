/** A visitor who clicks at random on several runs, whose tab is loaded again and whose worker is killed meanwhile. */
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { createSession, type Granularity, type Run, type RunState, type Session } from "webrlhf/worker";
import { type CountEvent, type CountInput, counting } from "./counting.ts";
import { desk, type HiredWorker, Vault } from "./desk.ts";

const inputs: CountInput[] = [
  { to: 3, save: 1 },
  { to: 7, save: 2, seed: 5 },
  { to: 12, save: 100, seed: 9 },
];

/** What a run of an input tells when nobody disturbs it. */
const undisturbed = new Map<number, CountEvent[]>();
async function expectedOf(input: number): Promise<CountEvent[]> {
  const { session } = desk({ programs: { count: counting } });
  const run = session.run<CountInput, CountEvent>({ program: "count", input: inputs[input] });
  const events = undisturbed.get(input) ?? [];
  if (!undisturbed.has(input)) for await (const { event } of run) events.push(event);
  undisturbed.set(input, events);
  await session.close();
  return events;
}

/** A run as the page should have it. */
interface Known {
  input: number;
  expected: CountEvent[];
  run: Run<CountEvent>;
  /** What it had told before the page was loaded again. */
  before: CountEvent[];
  dropped: boolean;
}

const OVER: readonly RunState[] = ["cancelled", "done", "broken"];

class Visit {
  readonly vault = new Vault();
  runs: Known[] = [];
  session!: Session;
  private workers: HiredWorker[] = [];
  private killed = 0;

  constructor() {
    this.load();
  }

  load(): void {
    const { session, workers } = desk(
      {
        programs: { count: counting },
        queries: { told: async (_, { run }) => run?.told.length ?? -1 },
      },
      this.vault,
    );
    this.session = session;
    this.workers = workers;
  }

  /** As often as a run survives without an event between. */
  async kill(): Promise<void> {
    if (++this.killed > 3) return;
    if (this.workers.length < 2) await this.session.unfinished(); // one that never answered is not asked for again
    this.workers.at(-1)?.end();
  }

  check(): void {
    for (const { run, expected, before, dropped } of this.runs) {
      const told = run.events.map(({ event }) => event);
      expect(told).toEqual(expected.slice(0, told.length));
      expect(run.events.map(({ seq, runId }) => [seq, runId])).toEqual(told.map((_, seq) => [seq, run.id]));
      expect(before).toEqual(expected.slice(0, before.length));
      expect(run.error).toBe(null);
      if (dropped) expect(["cancelling", "cancelled", "done"]).toContain(run.state);
      else expect(["cancelling", "cancelled", "broken"]).not.toContain(run.state);
      if (run.state === "done") expect(told).toEqual(expected);
    }
  }
}

type Model = Record<string, never>;

class Click implements fc.AsyncCommand<Model, Visit> {
  private readonly name: string;
  private readonly act: (visit: Visit) => unknown;

  constructor(name: string, act: (visit: Visit) => unknown) {
    this.name = name;
    this.act = act;
  }

  check = () => true;
  toString = () => this.name;

  async run(_: Model, visit: Visit): Promise<void> {
    await this.act(visit);
    visit.check();
  }
}

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const on = (name: string, act: (known: Known, visit: Visit) => unknown) =>
  fc.nat(3).map(
    (i) =>
      new Click(`${name} ${i}`, (visit) => {
        const known = visit.runs[i];
        return known && act(known, visit);
      }),
  );

const begin = fc.record({ input: fc.nat(inputs.length - 1), stepping: fc.boolean() }).map(
  ({ input, stepping }) =>
    new Click(`begin ${input}${stepping ? " stepping" : ""}`, async (visit) => {
      if (visit.runs.filter(({ run }) => !OVER.includes(run.state)).length >= 3) return;
      const expected = await expectedOf(input);
      const spec = { program: "count", input: inputs[input] };
      const run = visit.session.run<CountInput, CountEvent>(spec, { mode: stepping ? "step" : "run" });
      visit.runs.push({ input, expected, run, before: [], dropped: false });
    }),
);

const order = fc.constantFrom("pause", "resume", "step", "cancel").chain((name) =>
  on(name, ({ run }) => {
    const before = run.state;
    const granularity = fc.sample(fc.constantFrom<Granularity>("token", "phase", "rollout", "step"), 1)[0];
    if (name === "cancel") return;
    if (name === "step") run.step(granularity);
    else run[name as "pause" | "resume"]();
    if (OVER.includes(before)) expect(run.state).toBe(before);
    else if (name === "pause") expect(["pausing", "paused", "cancelling"]).toContain(run.state);
    else expect(["running", "waiting", "cancelling"]).toContain(run.state);
  }),
);

const cancel = on("cancel", (known) => {
  if (!OVER.includes(known.run.state)) known.dropped = true;
  const waiting = known.run.state === "waiting";
  const events = known.run.events.length;
  const cancelled = known.run.cancel();
  if (!waiting) return;
  expect(known.run.state).toBe("cancelled");
  return cancelled.then(() => expect(known.run.events).toHaveLength(events));
});

const inspect = on("inspect", async ({ run }, visit) => {
  if (run.state !== "paused" || run.events.length === 0) return;
  const told = await run.inspect("told").catch((error: Error) => error.message);
  // It may have been let go, or the worker killed, meanwhile; else what is paused has told what the page heard.
  if (typeof told === "number" && run.state === "paused") expect(told).toBe(run.events.length);
  visit.check();
});

const reload = fc.constant(
  new Click("load the page again", async (visit) => {
    await visit.session.close();
    const left = visit.runs.map((known) => ({ ...known, before: known.run.events.map(({ event }) => event) }));
    visit.load();
    const saved = await visit.session.unfinished();
    const live = left.filter(
      ({ run, dropped }) => run.events.length > 0 && run.events.at(-1)?.event.type !== "end" && !dropped,
    );
    for (const { run } of live) expect(saved.map(({ id }) => id)).toContain(run.id);
    visit.runs = [];
    for (const { id } of saved) {
      const known = left.find(({ run }) => run.id === id);
      if (!known || known.dropped) continue;
      visit.runs.push({ ...known, run: visit.session.goOn<CountEvent>(id) });
    }
  }),
);

const clicks = [
  { arbitrary: begin, weight: 4 },
  { arbitrary: order, weight: 8 },
  { arbitrary: cancel, weight: 2 },
  { arbitrary: inspect, weight: 2 },
  { arbitrary: fc.integer({ min: 0, max: 12 }).map((n) => new Click(`wait ${n}`, () => wait(n))), weight: 6 },
  { arbitrary: fc.constant(new Click("kill the worker", (visit) => visit.kill())), weight: 1 },
  { arbitrary: reload, weight: 1 },
];

describe("a session under random clicks", { timeout: 300_000 }, () => {
  let visits: Visit[] = [];
  afterEach(async () => {
    for (const { session } of visits) await session.close();
    visits = [];
  });

  it("tells every run's events once and in order, and ends each as an undisturbed one", async () => {
    const walk = fc.commands([fc.oneof(...clicks)], { maxCommands: 30, size: "max" });
    await fc.assert(
      fc.asyncProperty(walk, async (path) => {
        const visit = new Visit();
        visits.push(visit);
        await fc.asyncModelRun(() => ({ model: {}, real: visit }), path);
        for (const { run, dropped } of visit.runs) {
          if (dropped) await run.cancel();
          else run.resume();
        }
        for (const { run, expected, before, dropped } of visit.runs) {
          if (dropped) continue;
          const events: CountEvent[] = [];
          for await (const { event } of run) events.push(event);
          expect(events).toEqual(expected);
          expect(events.slice(0, before.length)).toEqual(before);
          expect(run.state).toBe("done");
        }
        visit.check();
        await visit.session.close();
        expect([...visit.vault.store.keys()]).toEqual([]); // nothing is left of runs that are over
      }),
      { numRuns: 60, seed: 1, interruptAfterTimeLimit: 200_000, timeout: 20_000, endOnFailure: true },
    );
  });
});

describe("a session that is closed", () => {
  it("asks for no worker, and takes no run", async () => {
    const session = createSession(() => {
      throw new Error("nobody asked");
    });
    await session.close();
    expect(() => session.run({ program: "count", input: null }).state).not.toThrow();
    await expect(session.device()).rejects.toThrow("this session is closed");
  });
});
