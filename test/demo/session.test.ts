import { describe, expect, it } from "vitest";
import { defaultKnobs } from "../../demo/src/playground/knobs.ts";
import type { Knobs, Order, Reply, Report } from "../../demo/src/playground/protocol.ts";
import { Session } from "../../demo/src/playground/session.ts";
import { progress } from "../../demo/src/playground/view.ts";

/** A session whose worker is the test. */
function desk(knobs: Knobs = defaultKnobs) {
  const orders: Order[] = [];
  const workers: { hear: (report: Report) => void; broken: (why: string) => void; alive: boolean }[] = [];
  const session = new Session(
    knobs,
    (hear, broken) => {
      const worker = { hear, broken, alive: true };
      workers.push(worker);
      return {
        postMessage: (order) => orders.push(order),
        terminate: () => {
          worker.alive = false;
        },
      };
    },
    () => {},
  );
  const say = (reply: Reply, run = orders.at(-1)?.run ?? 0) => workers.at(-1)?.hear({ run, reply });
  const ready = () => say({ type: "ready", device: { name: "a card", kind: "hardware" } }, 0);
  session.connect();
  ready();
  return { session, orders, workers, say, ready };
}

const running: Reply = { type: "state", phase: "running", stage: "reward" };

describe("the session", () => {
  it("names the run, whatever the inputs say meanwhile; without a run it names what a start will take", () => {
    const { session, say } = desk();
    const turned: Knobs = { ...defaultKnobs, seed: 7, klCoef: 0.5 };
    session.turn({ ...defaultKnobs, seed: 6 });
    expect(session.knobs.seed).toBe(6);
    session.turn(defaultKnobs);
    session.go();
    say(running);
    session.turn(turned);
    expect(session.knobs).toEqual(defaultKnobs);
    expect(session.inputs).toEqual(turned);
    expect(session.stale).toBe(true);
    say({ type: "state", phase: "done", stage: "after" });
    expect(session.knobs).toEqual(defaultKnobs); // still the run on the page
    session.reset();
    expect(session.knobs).toEqual(turned);
    expect(session.stale).toBe(false);
  });

  it("hears nothing of runs that it dropped", () => {
    const { session, orders, say } = desk();
    session.go();
    session.reset();
    session.go();
    const [first, reset, second] = orders.map(({ run }) => run);
    expect(new Set([first, reset, second]).size).toBe(3);
    say({ type: "state", phase: "done", stage: "after" }, first);
    say({ type: "error", about: "run", message: "out of memory" }, first);
    say({ type: "renewed", message: "a new device" }, first);
    say({ type: "state", phase: "idle", stage: "load" }, reset);
    expect(session).toMatchObject({ failure: "", view: { phase: "running", stage: "load" } });
    say(running, second);
    expect(session.view.stage).toBe("reward");
  });

  it("starts anew after a run that broke off, which is not done", () => {
    const { session, orders, workers, say, ready } = desk();
    session.go();
    say(running);
    say({ type: "error", about: "run", message: "out of memory" });
    expect(session.view.phase).toBe("broken");
    expect(session.failure).toBe("The run broke off: out of memory");
    expect(progress(session.view)).toBeLessThan(1);
    expect(workers.map(({ alive }) => alive)).toEqual([false, true]);
    expect(session.ready).toBe(false);
    ready();
    expect(session.ready).toBe(true);
    workers[0].broken("too late");
    session.go();
    expect(session.failure).toBe("");
    expect(orders.at(-1)?.command).toMatchObject({ type: "start", mode: "run" });
    expect(session.view).toMatchObject({ phase: "running", device: { name: "a card" } });
  });

  it("does not ask again and again for a worker that does not load", () => {
    const { session, workers } = desk();
    workers[0].broken("it did");
    workers[1].broken("it did not load");
    expect(workers).toHaveLength(2);
    expect(session.ready).toBe(false);
    expect(session.failure).toBe("The training program broke off: it did not load");
  });

  it("gives up where there is no device, and shows no run then", () => {
    const { session, workers, say } = desk();
    session.go();
    workers[0].broken("a crash");
    say({ type: "error", about: "webgpu", message: "no adapter" });
    expect(session.lacking).toBe("no adapter");
    expect(session.ready).toBe(false);
  });

  it("pauses while its tab is hidden, and goes on only what it paused", () => {
    const { session, orders, say } = desk();
    session.hide(true);
    session.hide(false);
    expect(orders).toEqual([]);
    session.go();
    session.hide(true);
    expect(session.pausedByHiding).toBe(true);
    say({ type: "state", phase: "paused", stage: "reward" });
    session.hide(false);
    session.hide(false);
    expect(orders.map(({ command }) => command.type)).toEqual(["start", "pause", "resume"]);
    session.hide(true); // paused still, as far as the page knows
    session.reset();
    session.hide(false);
    expect(orders.map(({ command }) => command.type)).toEqual(["start", "pause", "resume", "reset"]);
  });
});
