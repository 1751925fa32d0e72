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
});
