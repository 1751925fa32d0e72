/** A visitor of the playground, who clicks at random, whose worker ends and whose device is lost: all but the page's elements. */
import fc from "fast-check";
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Notice, SavedRun, Session } from "webrlhf/worker";
import { addressOf } from "../../../demo/src/lib/lesson/address.ts";
import type { LessonEvent, Recording, Start } from "../../../demo/src/lib/lesson/types.ts";
import { type Knobs, ofMethod } from "../../../demo/src/playground/knobs.ts";
import { addressOfKnobs, lesson } from "../../../demo/src/playground/lesson.ts";
import { gpuReady } from "../../helpers.ts";
import { losingAt } from "../../losing.ts";
import { type HiredWorker, Vault } from "../../worker/desk.ts";
import { tinyStart } from "../tiny-start.ts";
import { shown, tiny, tinyDesk } from "./tiny.ts";

const place = vi.hoisted(() => {
  // Outside of a page the compiler's runes are plain values.
  Object.assign(globalThis, { $state: Object.assign((x: unknown) => x, { raw: (x: unknown) => x }) });
  return { session: null as Session | null, device: null, lacking: "" };
});
vi.mock("../../../demo/src/lib/training.svelte.ts", () => ({ training: place }));
vi.mock("../../../demo/src/lib/lesson/notebook.svelte.ts", () => ({ notebook: { prediction: () => null } }));

let start: Start;
beforeAll(async () => {
  start = await tinyStart();
  vi.stubGlobal("matchMedia", () => ({ matches: false }));
});
beforeEach(() => gpuReady());

/** What is used of a page's run: its module is Svelte's, which the types of tests know nothing of. */
interface PageRun {
  readonly phase: string;
  readonly failure: string;
  readonly notice: Notice | null;
  readonly busy: boolean;
  readonly over: boolean;
  readonly events: readonly LessonEvent[];
  readonly draft: unknown;
  readonly input: unknown;
  readonly link: string;
  readonly progress: number;
  readonly result: unknown;
  open(hash: string): void;
  ask(fields: object): void;
  go(): void;
  step(): void;
  reset(): Promise<void>;
  hide(hidden: boolean): void;
  unfinished(): Promise<SavedRun[]>;
  goOn(saved: SavedRun): void;
}
const module = "../../../demo/src/lib/lesson/run.svelte.ts";
const { LessonRun } = (await import(module)) as {
  LessonRun: new (of: typeof lesson, recordings: readonly Recording[]) => PageRun;
};

const hashOf = (knobs: Knobs): string => addressOf(addressOfKnobs(knobs));
const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

interface Model {
  /** What the next start takes. */
  draft: Knobs;
  /** Of the run on the page. */
  started: Knobs | null;
}

class Visit {
  run!: PageRun;
  workers: HiredWorker[] = [];
  private readonly vault = new Vault();

  constructor(knobs: Knobs) {
    this.load(hashOf(knobs));
  }

  /** Opens the page, anew or for the first time. */
  load(hash: string): void {
    const { session, workers } = tinyDesk(start, this.vault);
    place.session = session;
    this.workers = workers;
    this.run = new LessonRun(lesson, []);
    this.run.open(hash);
  }

  async leave(): Promise<void> {
    await place.session?.close();
  }

  /** Until there are so many more events, or there is nothing to come. */
  async listen(events: number): Promise<void> {
    const enough = this.run.events.length + events;
    while (this.run.events.length < enough && this.run.busy) await wait(5);
  }

  /** Starts a run and waits for its end; what it showed. */
  async toTheEnd(): Promise<LessonEvent[]> {
    this.run.go();
    await this.listen(Number.POSITIVE_INFINITY);
    expect([this.run.failure, this.run.phase]).toEqual(["", "done"]);
    return shown(this.run.events);
  }

  check({ draft, started }: Model): void {
    const { run } = this;
    expect(run.failure).toBe("");
    expect(run.phase).not.toBe("broken");
    expect(run.draft).toEqual(draft);
    expect(run.input).toEqual(started ?? draft);
    expect(lesson.addressOf?.(run.input as Knobs)).toEqual(addressOfKnobs(started ?? draft));
    if (started) {
      // The link is of the run that is shown, whatever was turned since.
      const other = new LessonRun(lesson, []);
      other.open(run.link);
      expect(other.draft).toEqual(started);
    }
    for (const stage of ["judge", (started ?? draft).method]) {
      const steps = run.events.flatMap((e) =>
        e.type === "train" && e.stage === stage && e.event.type === "step" ? [e.event.step] : [],
      );
      expect(steps).toEqual(steps.map((_, i) => i + 1)); // of one run
    }
    expect(run.progress).toBeLessThanOrEqual(1);
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
  if (visit.run.over) model.started = model.draft;
};
const go = new Click("go", (visit, model) => {
  begins(visit, model);
  visit.run.go();
});
const step = new Click("step", (visit, model) => {
  begins(visit, model);
  visit.run.step();
});
const reset = new Click("reset", (visit, model) => {
  model.started = null;
  void visit.run.reset();
});
const away = new Click("look away and back", async (visit) => {
  visit.run.hide(true);
  await visit.listen(3);
  visit.run.hide(false);
});
const ask = (name: string, asked: Partial<Knobs>) =>
  new Click(name, (visit, model) => {
    model.draft = { ...model.draft, ...asked };
    visit.run.ask(asked);
  });
const exhibit = (name: string, knobs: Knobs) =>
  new Click(name, (visit, model) => {
    model.draft = knobs;
    visit.run.open(hashOf(knobs));
  });
const crash = new Click("the worker ends", async (visit) => {
  if (!["running", "paused"].includes(visit.run.phase) || visit.workers.length > 2) return;
  if (visit.run.events.length === 0) return; // one that never answered is not asked for again
  visit.workers.at(-1)?.end();
});

const clicks = [
  ...[go, step, reset].map((click) => ({ arbitrary: fc.constant(click), weight: 4 })),
  { arbitrary: fc.constantFrom(away, crash), weight: 2 },
  { arbitrary: fc.integer({ min: 1, max: 12 }).map((n) => new Click(`wait ${n}`, (v) => v.listen(n))), weight: 5 },
  {
    arbitrary: fc.constantFrom(
      exhibit("exhibit: no KL penalty", { ...tiny, klCoef: 0 }),
      exhibit("exhibit: RAFT", { ...tiny, ...ofMethod.raft, method: "raft", steps: 2 }),
      ask("knob: steps", { steps: 1 }),
      ask("knob: pairs", { pairs: 64 }),
      ask("knob: best of n", { method: "best-of-n", group: 2 }),
    ),
    weight: 2,
  },
];

describe("a visitor of the playground", { timeout: 400_000 }, () => {
  const visits: Visit[] = [];
  const enter = (knobs: Knobs): Visit => {
    const visit = new Visit(knobs);
    visits.push(visit);
    return visit;
  };
  afterEach(async () => {
    for (const visit of visits.splice(0)) await visit.leave();
  });

  it("who clicks at random never sees an error, and in the end the numbers of an undisturbed run", async () => {
    const undisturbed = new Map<string, LessonEvent[]>();
    const expected = async (knobs: Knobs) => {
      const key = hashOf(knobs);
      const known = undisturbed.get(key);
      if (known) return known;
      const visit = enter(knobs);
      undisturbed.set(key, await visit.toTheEnd());
      await visit.leave();
      return undisturbed.get(key);
    };
    const walk = fc.commands([fc.oneof(...clicks)], { maxCommands: 30, size: "max" });
    await fc.assert(
      fc.asyncProperty(walk, async (path) => {
        const model: Model = { draft: tiny, started: null };
        const visit = enter(tiny);
        await fc.asyncModelRun(() => ({ model, real: visit }), path);
        await reset.run(model, visit);
        const seen = await visit.toTheEnd();
        await visit.leave();
        expect(seen).toEqual(await expected(model.draft));
      }),
      { numRuns: 6, seed: 1, endOnFailure: true },
    );
  });

  it("whose page is loaded again goes on with the run, under its own link and knobs", async () => {
    const whole = await enter(tiny).toTheEnd();
    const visit = enter(tiny);
    visit.run.step();
    await visit.listen(Number.POSITIVE_INFINITY);
    expect(visit.run.phase).toBe("paused");
    await visit.leave();
    visit.load("");
    const [saved] = await visit.run.unfinished();
    visit.run.goOn(saved);
    visit.run.go();
    await visit.listen(Number.POSITIVE_INFINITY);
    expect(visit.run.phase).toBe("done");
    expect(visit.run.input).toEqual(tiny);
    expect(visit.run.link).toBe(hashOf(tiny));
    expect(shown(visit.run.events)).toEqual(whole);
  });

  it("whose device is lost is told so, and the run ends with the same numbers", async () => {
    let whole: LessonEvent[] = [];
    const submits = await losingAt(
      () => false,
      async () => {
        whole = await enter(tiny).toTheEnd();
      },
    );
    await gpuReady();
    const visit = enter(tiny);
    const moments = [5, submits >> 1, submits - 3];
    await losingAt(
      (submit) => moments.includes(submit),
      async () => {
        expect(await visit.toTheEnd()).toEqual(whole);
      },
    );
    expect(visit.run.notice?.type).toBe("renewed");
  });

  it("is told why a run broke, which is never done", async () => {
    const visit = enter(tiny);
    start = { ...start, folder: "nowhere" };
    try {
      visit.load(hashOf(tiny));
      visit.run.go();
      await visit.listen(Number.POSITIVE_INFINITY);
      await wait(50);
      expect(visit.run.phase).toBe("broken");
      expect(visit.run.failure).not.toBe("");
      expect(visit.run.progress).toBeLessThan(1);
      expect(visit.run.result).toBeNull();
    } finally {
      start = { ...start, folder: "start" };
    }
  });

  it("copies the link of the recorded run while no other is shown", () => {
    const knobs = { ...tiny, klCoef: 0 };
    const run = new LessonRun(lesson, [
      { name: { en: "", zh: "" }, input: knobs as never, device: "a card", events: [] },
    ]);
    run.ask({ steps: 9 });
    expect(run.link).toBe(hashOf(knobs));
  });
});
