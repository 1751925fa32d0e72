/** A visitor who clicks at random, on everything but the page: the session, the worker's runner, the trainers. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import type { Start } from "../../demo/src/lib/lesson/types.ts";
import { defaultKnobs, knobsFromHash, knobsToHash } from "../../demo/src/playground/knobs.ts";
import type { Knobs } from "../../demo/src/playground/protocol.ts";
import { Runner } from "../../demo/src/playground/runner.ts";
import { type Hire, Session } from "../../demo/src/playground/session.ts";
import { tinyStart } from "./tiny-start.ts";

let start: Start;
beforeAll(async () => {
  start = await tinyStart();
});

const tiny: Knobs = { ...defaultKnobs, rolloutSize: 4, steps: 2, rewardPairs: 32 };

interface Model {
  inputs: Knobs;
  /** Of the run on the page. */
  started: Knobs | null;
}

class Visit {
  /** What runs said that broke, those that were dropped with them. */
  readonly errors: string[] = [];
  private heard = () => {};
  readonly session: Session;

  constructor(knobs: Knobs) {
    // Words between page and worker take a while.
    const hire: Hire = (hear) => {
      const runner = new Runner(
        async () => start,
        (report) => {
          if (report.reply.type === "error") this.errors.push(report.reply.message);
          setImmediate(() => hear(structuredClone(report)));
        },
      );
      setImmediate(() => hear({ run: 0, reply: { type: "ready", device: { name: "a card", kind: "hardware" } } }));
      return {
        postMessage: (order) => setImmediate(() => void runner.handle(structuredClone(order))),
        terminate: () => this.errors.push("the worker was let go"),
      };
    };
    this.session = new Session(knobs, hire, () => this.heard());
    this.session.connect();
  }

  get over(): boolean {
    return ["idle", "done", "broken"].includes(this.session.view.phase);
  }

  /** Waits for so many words of the worker, if any are to come. */
  async listen(words: number): Promise<void> {
    for (let i = 0; i < words && !this.over && this.session.view.phase !== "paused"; i++) {
      await new Promise<void>((resolve) => {
        this.heard = resolve;
      });
    }
  }

  /** Starts a run and waits for its end; what it showed, without the clock. */
  async toTheEnd() {
    this.session.go();
    await this.listen(Number.POSITIVE_INFINITY);
    const { view, failure } = this.session;
    expect(failure).toBe("");
    expect(view.phase).toBe("done");
    return { ...view, seconds: 0 };
  }

  check(model: Model): void {
    const { session } = this;
    expect(session.failure).toBe("");
    expect(this.errors).toEqual([]);
    expect(session.inputs).toEqual(model.inputs);
    expect(session.knobs).toEqual(model.started ?? model.inputs);
    for (const rows of [session.view.reward, session.view.policy]) {
      expect(rows.map(({ step }) => step)).toEqual(rows.map((_, i) => i + 1)); // of one run
    }
    expect(session.view.policy.length).toBeLessThanOrEqual(session.knobs.steps);
  }
}

class Click implements fc.AsyncCommand<Model, Visit> {
  readonly name: string;
  private readonly act: (visit: Visit, model: Model) => unknown;

  constructor(name: string, act: (visit: Visit, model: Model) => unknown) {
    this.name = name;
    this.act = act;
  }

  check = () => true;

  async run(model: Model, visit: Visit): Promise<void> {
    await this.act(visit, model);
    visit.check(model);
  }

  toString = () => this.name;
}

const begins = (visit: Visit, model: Model) => {
  if (visit.over) model.started = model.inputs;
};
const go = new Click("go", (visit, model) => {
  begins(visit, model);
  visit.session.go();
});
const step = new Click("step", (visit, model) => {
  begins(visit, model);
  visit.session.step();
});
const reset = new Click("reset", (visit, model) => {
  model.started = null;
  visit.session.reset();
});
const away = new Click("look away and back", async (visit) => {
  visit.session.hide(true);
  await visit.listen(3);
  visit.session.hide(false);
});
const turn = (name: string, changed: Partial<Knobs>, from?: Knobs) =>
  new Click(name, (visit, model) => {
    model.inputs = { ...(from ?? model.inputs), ...changed };
    visit.session.turn(knobsFromHash(knobsToHash(model.inputs)));
  });
const waits = fc.integer({ min: 1, max: 12 }).map((n) => new Click(`wait ${n}`, (visit) => visit.listen(n)));

const clicks = [
  ...[go, step, reset].map((click) => ({ arbitrary: fc.constant(click), weight: 4 })),
  { arbitrary: fc.constant(away), weight: 1 },
  { arbitrary: waits, weight: 5 },
  {
    arbitrary: fc.constantFrom(
      turn("exhibit: no KL penalty", { klCoef: 0 }, tiny),
      turn("exhibit: RAFT", { algorithm: "raft" }, tiny),
      turn("knob: seed", { seed: 7 }),
      turn("knob: steps", { steps: 1 }),
    ),
    weight: 2,
  },
];

describe("a visitor who clicks at random", { timeout: 300_000 }, () => {
  it("never sees an error, and always the numbers of an undisturbed run in the end", async () => {
    const undisturbed = new Map<string, Promise<unknown>>();
    const expected = (knobs: Knobs) => {
      const key = knobsToHash(knobs);
      if (!undisturbed.has(key)) undisturbed.set(key, new Visit(knobs).toTheEnd());
      return undisturbed.get(key);
    };
    const walk = fc.commands([fc.oneof(...clicks)], { maxCommands: 40, size: "max" });
    await fc.assert(
      fc.asyncProperty(walk, async (path) => {
        const model: Model = { inputs: tiny, started: null };
        const visit = new Visit(tiny);
        await fc.asyncModelRun(() => ({ model, real: visit }), path);
        await reset.run(model, visit);
        expect(await visit.toTheEnd()).toEqual(await expected(model.inputs));
        expect(visit.errors).toEqual([]);
      }),
      { numRuns: 10, seed: 1 },
    );
  });
});
