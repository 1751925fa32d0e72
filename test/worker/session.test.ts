import { afterEach, describe, expect, it } from "vitest";
import { isUserError, UserError } from "webrlhf";
import type { Run, Session } from "webrlhf/worker";
import { atWork, type CountEvent, type CountInput, counting } from "./counting.ts";
import { desk, Vault } from "./desk.ts";

const programs = { count: counting };
const open: Session[] = [];
type Desk = Parameters<typeof desk>;
const sit = (options: Partial<Desk[0]> = {}, vault?: Desk[1], session?: Desk[2]) => {
  const made = desk({ programs, ...options }, vault, session);
  open.push(made.session);
  return made;
};
afterEach(async () => {
  for (const session of open.splice(0)) await session.close();
});

const spec = (input: CountInput) => ({ program: "count", input });
const all = async (run: Run<CountEvent>) => {
  const events: CountEvent[] = [];
  for await (const { event } of run) events.push(event);
  return events;
};
const until = (run: Run<CountEvent>, what: (run: Run<CountEvent>) => boolean) =>
  new Promise<void>((resolve) => {
    const end = run.subscribe((now) => {
      if (!what(now)) return;
      setTimeout(() => end());
      resolve();
    });
  });
const steps = (run: Run<CountEvent>) => run.events.flatMap(({ event }) => (event.type === "step" ? [event.step] : []));

describe("a session", () => {
  it("tells a run's events in order, under its name, and whoever comes late the same", async () => {
    const { session } = sit();
    const run = session.run<CountInput, CountEvent>(spec({ to: 3 }));
    expect(run.state).toBe("waiting");
    const events = await all(run);
    expect(run.state).toBe("done");
    expect(events.map(({ type }) => type)).toEqual([
      ...["start", "token", "token", "phase", "step"],
      ...["token", "token", "phase", "step", "checkpoint"],
      ...["token", "token", "phase", "step", "end"],
    ]);
    expect(await all(run)).toEqual(events);
    expect(run.events.map(({ runId, seq }) => [runId, seq])).toEqual(events.map((_, seq) => [run.id, seq]));
  });

  it("lists the runs that are not over, the one that has the worker first", async () => {
    const { session } = sit();
    const [first, second] = [session.run(spec({ to: 3 })), session.run(spec({ to: 3 }))];
    expect(session.runs.map(({ id }) => id)).toEqual([first.id, second.id]);
    await first.cancel();
    expect(session.runs.map(({ id }) => id)).toEqual([second.id]);
    await all(second as Run<CountEvent>);
    expect(session.runs).toEqual([]);
  });

  it("pauses, goes on, and steps by token, phase and step", async () => {
    const { session } = sit();
    const run = session.run<CountInput, CountEvent>(spec({ to: 300 }), { mode: "step" });
    await until(run, ({ state }) => state === "paused");
    expect(steps(run)).toEqual([1]);
    for (const [granularity, types] of [
      ["token", ["token"]],
      ["token", ["token"]],
      ["token", ["phase"]], // ends more than a token
      ["rollout", ["step"]],
      ["phase", ["checkpoint", "token", "token", "phase"]],
      [undefined, ["step"]],
    ] as const) {
      const before = run.events.length;
      run.step(granularity);
      expect(run.state).toBe("running");
      await until(run, ({ state }) => state === "paused");
      expect(run.events.slice(before).map(({ event }) => event.type)).toEqual(types);
    }
    run.resume();
    await until(run, ({ events }) => events.at(-1)?.event.step === 5);
    run.pause();
    expect(run.state).toBe("pausing");
    await until(run, ({ state }) => state === "paused");
    run.resume();
    await all(run);
    expect(run.state).toBe("done");
  });

  it("never begins a run that was cancelled while it waited", async () => {
    const { session } = sit();
    const first = session.run<CountInput, CountEvent>(spec({ to: 1000 }));
    const second = session.run<CountInput, CountEvent>(spec({ to: 3 }));
    const third = session.run<CountInput, CountEvent>(spec({ to: 3, seed: 2 }));
    await until(first, ({ state }) => state === "running");
    const dropped = second.cancel();
    expect(second.state).toBe("cancelled");
    await dropped;
    await first.cancel();
    expect([first.state, atWork.has(first.id)]).toEqual(["cancelled", false]);
    await all(third);
    expect(second.events).toEqual([]);
    expect(third.state).toBe("done");
  });

  it("hands on errors with their words", async () => {
    const { session } = sit({ queries: { wrong: () => Promise.reject(new UserError("no such story")) } });
    const run = session.run<CountInput, CountEvent>(spec({ to: 3, failAt: 2 }));
    await expect(all(run)).rejects.toThrow("step 2 went wrong");
    expect([run.state, isUserError(run.error)]).toEqual(["broken", false]);
    const unknown = session.run<null, CountEvent>({ program: "cuont", input: null });
    await expect(all(unknown)).rejects.toThrow('there is no program "cuont" in this worker, only count');
    expect(isUserError(unknown.error)).toBe(true);
    const error = (await session.query("wrong").catch((e) => e)) as Error;
    expect([error.message, isUserError(error)]).toEqual(["no such story", true]);
  });

  it("answers between events, while paused, and without a run", async () => {
    let computing = false;
    const slow: typeof counting = {
      device: false,
      async *run() {
        for (let step = 1; step <= 3; step++) {
          computing = true;
          await new Promise((resolve) => setTimeout(resolve, 20));
          computing = false;
          yield { type: "step", step, value: new Float32Array(1) };
        }
      },
    };
    const { session } = sit({
      programs: { slow },
      queries: {
        look: async (argument, { run }) => [argument, run?.told.length ?? null, computing],
        now: { anytime: true, answer: async () => computing },
      },
    });
    expect(await session.query("look", 1)).toEqual([1, null, false]);
    const run = session.run<unknown, CountEvent>({ program: "slow", input: null });
    await until(run, ({ state }) => state === "running");
    expect(await session.query("now")).toBe(true);
    expect(await session.query("look", 2)).toEqual([2, 1, false]);
    run.pause();
    await until(run, ({ state }) => state === "paused");
    expect(await run.inspect("look", 3)).toEqual([3, 2, false]);
    const asked = new AbortController();
    run.resume();
    const late = session.query("look", 4, { signal: asked.signal });
    asked.abort();
    await expect(late).rejects.toThrow(/abort/i);
    await all(run);
    expect(await run.inspect("look", 5)).toEqual([5, 3, false]);
    await run.cancel();
    await expect.poll(() => run.inspect("look").catch((e: Error) => e.message)).toMatch(/is not held/);
  });
});

describe("a worker that ends", () => {
  it("is followed by another one, which goes on from the last state and tells nothing twice", async () => {
    const expected = await all(sit().session.run<CountInput, CountEvent>(spec({ to: 9, save: 3 })));
    for (const vault of [new Vault(), null]) {
      for (const after of [0, 1, 7, 20, 21]) {
        const { session, workers } = sit({}, vault);
        const run = session.run<CountInput, CountEvent>(spec({ to: 9, save: 3 }));
        await until(run, ({ events, state }) => events.length >= after && state !== "waiting");
        workers[0].end();
        expect(run.state).toBe("waiting");
        const events = await all(run);
        expect(events).toEqual(expected);
        expect(run.events.map(({ seq }) => seq)).toEqual(events.map((_, seq) => seq));
        expect(run.notices.filter(({ type }) => type === "rehired")).toHaveLength(1);
        expect(workers).toHaveLength(2);
      }
    }
  });

  it("is not followed by others without end", async () => {
    const { session, workers } = sit();
    const run = session.run<CountInput, CountEvent>(spec({ to: 1e6 }));
    run.subscribe(({ state }) => state === "running" && workers.at(-1)?.end("out of memory"));
    await expect(all(run)).rejects.toThrow(/broke off 4 times without an event between: out of memory/);
    expect(workers).toHaveLength(4);
  });

  it("that never came is asked for again only by whoever wants something", async () => {
    const { session, workers } = sit();
    const run = session.run<CountInput, CountEvent>(spec({ to: 3 }));
    workers[0].end("no such file");
    await expect(all(run)).rejects.toThrow("the training program did not load: no such file");
    expect(workers).toHaveLength(1);
    expect((await all(session.run<CountInput, CountEvent>(spec({ to: 1 })))).length).toBe(6);
    expect(workers).toHaveLength(2);
  });

  it("leaves a paused run paused, and a cancelled one cancelled", async () => {
    const { session, workers, vault } = sit();
    const run = session.run<CountInput, CountEvent>(spec({ to: 5 }), { mode: "step" });
    await until(run, ({ state }) => state === "paused");
    workers[0].end();
    expect(workers.length).toBe(2);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect([run.state, steps(run)]).toEqual(["paused", [1]]);
    run.step();
    await until(run, ({ state }) => state === "paused");
    expect(steps(run)).toEqual([1, 2]);
    const cancelled = run.cancel();
    workers[1].end();
    await cancelled;
    expect(run.state).toBe("cancelled");
    await expect.poll(() => [...(vault as Vault).store.keys()]).toEqual([]);
  });
});

describe("a page that is loaded again", () => {
  it("goes on with its runs: the same events under the same numbers, then the rest", async () => {
    const expected = await all(sit().session.run<CountInput, CountEvent>(spec({ to: 9, save: 3 })));
    const vault = new Vault();
    const before = sit({}, vault);
    const first = before.session.run<CountInput, CountEvent>(spec({ to: 9, save: 3 }), { mode: "step" });
    for (let step = 1; step < 5; step++) {
      await until(first, ({ state }) => state === "paused");
      first.step();
    }
    await until(first, ({ state }) => state === "paused");
    await before.session.close();

    const { session } = sit({}, vault);
    const [saved, ...others] = await session.unfinished();
    expect(others).toEqual([]);
    const told = first.events.length;
    expect(saved).toMatchObject({ id: first.id, ...spec({ to: 9, save: 3 }), events: told, held: false });
    expect(saved.last).toMatchObject({ type: "step", step: 5 });
    const run = session.goOn<CountEvent>(saved.id);
    expect(await all(run)).toEqual(expected);
    expect(run.events.slice(0, told)).toEqual(first.events);
    expect(run.spec).toEqual(spec({ to: 9, save: 3 }));
    expect(await session.unfinished()).toEqual([]);
    expect([...vault.store.keys()]).toEqual([]);
  });

  it("hears of a run that another page has it", async () => {
    const vault = new Vault();
    const one = sit({}, vault).session.run<CountInput, CountEvent>(spec({ to: 9 }), { mode: "step" });
    await until(one, ({ state }) => state === "paused");
    await expect.poll(() => vault.store.size).toBeGreaterThan(1);
    const { session } = sit({}, vault);
    expect((await session.unfinished()).map(({ id, held }) => [id, held])).toEqual([[one.id, true]]);
    const two = session.goOn<CountEvent>(one.id);
    await expect(all(two)).rejects.toThrow(/open in another tab/);
    await expect(session.forget(one.id)).rejects.toThrow(/open in another tab/);
    one.resume();
    await all(one);
    expect(one.state).toBe("done");
    const gone = session.goOn<CountEvent>(one.id);
    await expect(all(gone)).rejects.toThrow(`there is no saved run ${one.id}`);
  }, 20_000);

  it("trains on where nothing can be saved, and says so", async () => {
    const { session } = sit({}, null);
    const run = session.run<CountInput, CountEvent>(spec({ to: 4 }));
    await all(run);
    expect(run.notices).toEqual([
      { type: "unsaved", message: "Nothing of this run will survive a reload: saving failed (no storage here)" },
    ]);
    await expect(session.unfinished()).rejects.toThrow("no storage here");
    const silent = sit({}, null, { autosave: false });
    const other = silent.session.run<CountInput, CountEvent>(spec({ to: 4 }));
    await all(other);
    expect([other.notices, await silent.session.unfinished()]).toEqual([[], []]);
  });
});
