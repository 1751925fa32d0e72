import { describe, expect, it } from "vitest";
import { loop, type TrainEvent, type TrainerSteps } from "webrlhf/rlhf";

const settings = { seed: 1, saveSteps: 0, saveStrategy: "steps" as const, saveMinutes: 0 };

const steps = (more: Partial<TrainerSteps>): TrainerSteps => ({
  stage: "test",
  maxSteps: 4,
  parameters: 1,
  kept: {},
  epoch: (done) => done,
  step: async () => ({ metrics: {}, tokens: 1 }),
  finite: [],
  finished: () => ({}),
  close() {},
  ...more,
});

async function all(events: AsyncGenerator<TrainEvent>): Promise<TrainEvent[]> {
  const found: TrainEvent[] = [];
  for await (const event of events) found.push(event);
  return found;
}

describe("a run", () => {
  it("counts each second for one step only, also where steps are enqueued ahead", async () => {
    // A GPU takes one step after another, whenever they were enqueued.
    let gpu: Promise<void> = Promise.resolve();
    const step = async () => {
      gpu = gpu.then(() => new Promise((done) => setTimeout(done, 40)));
      await gpu;
      return { metrics: {}, tokens: 1 };
    };
    const started = performance.now();
    const events = await all(loop(steps({ ahead: true, step }), settings));
    const seconds = events.flatMap((event) => (event.type === "step" ? [event.seconds] : []));
    expect(seconds).toHaveLength(4);
    for (const one of seconds) expect(one).toBeGreaterThan(0.03);
    expect(seconds.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual((performance.now() - started) / 1000);
  });

  const note = (text: string): TrainEvent => ({ type: "note", step: 1, text });
  const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));
  const kinds = (events: TrainEvent[]) => events.map((event) => (event.type === "note" ? event.text : event.type));

  it("tells from the middle of a step, which goes on when the next event is asked for", async () => {
    const done: string[] = [];
    const parts = steps({
      maxSteps: 1,
      async prepare(_, tell) {
        await tell(note("prepared"));
        done.push("after prepared");
      },
      async step(_, __, tell) {
        await tell(note("half"));
        done.push("after half");
        void tell(note("two at once"));
        await tell(note("and the other"));
        return { metrics: {}, tokens: 1, events: [note("last")] };
      },
    });
    const events: TrainEvent[] = [];
    for await (const event of loop(parts, settings)) {
      events.push(event);
      await wait(60);
      if (event.type === "note") done.push(`held at ${event.text}`);
    }
    expect(kinds(events)).toEqual(["start", "prepared", "half", "two at once", "and the other", "step", "last", "end"]);
    expect(done).toEqual([
      ...["held at prepared", "after prepared", "held at half", "after half"],
      ...["held at two at once", "held at and the other", "held at last"],
    ]);
    // What somebody waited is none of the step's own time.
    const [step] = events.filter((event) => event.type === "step");
    expect(step.seconds).toBeLessThan(0.12); // of the 240 ms and more
  });

  it("gives what was told before it fails", async () => {
    const parts = steps({
      async step(_, __, tell) {
        await tell(note("half"));
        throw new Error("no more");
      },
    });
    const events: TrainEvent[] = [];
    const run = async () => {
      for await (const event of loop(parts, settings)) events.push(event);
    };
    await expect(run()).rejects.toThrow("no more");
    expect(kinds(events)).toEqual(["start", "half"]);
  });

  it("closes when what it was at has ended, where it is left in the middle", async () => {
    const said: string[] = [];
    const parts = steps({
      async step(_, __, tell) {
        try {
          await tell(note("half"));
        } finally {
          await wait(20);
          said.push("step over");
        }
        return { metrics: {}, tokens: 1 };
      },
      close: () => void said.push("closed"),
    });
    for await (const event of loop(parts, settings)) if (event.type === "note") break;
    expect(said).toEqual(["step over", "closed"]);
  });
});
