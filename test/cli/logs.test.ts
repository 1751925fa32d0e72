import { describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import { RunLog, type TrainEvent } from "webrlhf/rlhf";

const start = (step: number): TrainEvent => ({ type: "start", stage: "ppo", step, maxSteps: 6, parameters: 10 });
const step = (n: number, seconds = 1): TrainEvent => ({
  type: "step",
  step: n,
  maxSteps: 6,
  epoch: n / 6,
  metrics: { reward: n * 0.1, kl: 0.01 * n },
  tokens: 100,
  seconds,
});
const evaluation = (n: number): TrainEvent => ({
  type: "eval",
  step: n,
  metrics: { reward: n },
  rows: [{ prompt: "p", n }],
});
const samples = (n: number): TrainEvent => ({
  type: "samples",
  step: n,
  samples: [{ prompt: "p", response: "r", reward: 1 }],
});
const checkpoint = (n: number): TrainEvent => ({ type: "checkpoint", step: n, name: `checkpoint-${n}` });
const end: TrainEvent = { type: "end", step: 6, metrics: {} };

const text = async (files: Files, name: string) =>
  new TextDecoder().decode((await files.read(`out/${name}`)) ?? new Uint8Array());

async function log(files: Files, events: TrainEvent[]): Promise<RunLog> {
  const writer = new RunLog(files, "out", { loggingSteps: 5, saveSteps: 2 });
  for (const event of events) await writer.add(event);
  return writer;
}

const whole: TrainEvent[] = [
  start(0),
  evaluation(0),
  ...[1, 2, 3, 4, 5, 6].flatMap((n): TrainEvent[] =>
    n % 2 === 1 ? [step(n)] : [step(n), evaluation(n), samples(n), checkpoint(n)],
  ),
  end,
];

describe("the run log", () => {
  it("writes one line per step and evaluation, without anything of the clock", async () => {
    const files = memoryFiles();
    await log(files, whole);
    const lines = (await text(files, "metrics.jsonl"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(10);
    expect(lines[0]).toEqual({ step: 0, eval_reward: 0 });
    expect(lines[1]).toEqual({ step: 1, epoch: 1 / 6, reward: 0.1, kl: 0.01, tokens: 100 });
    expect(await text(files, "timing.jsonl")).toContain('{"step":1,"seconds":1,"tokens":100}');
  });

  it("writes the Hugging Face trainer's state with the same history, also for checkpoints", async () => {
    const files = memoryFiles();
    const run = await log(
      files,
      whole.slice(
        0,
        whole.findIndex((event) => event.type === "checkpoint"),
      ),
    );
    expect(await run.forCheckpoint()).toMatchObject({ global_step: 2, log_history: { length: 4 } });
    await log(files, whole);
    const state = JSON.parse(await text(files, "trainer_state.json"));
    expect(state).toMatchObject({
      global_step: 6,
      max_steps: 6,
      epoch: 1,
      num_input_tokens_seen: 600,
      save_steps: 2,
      is_world_process_zero: true,
    });
    expect(state.log_history).toHaveLength(10);
  });

  // Killed anywhere after the checkpoint of step 2 (whose own evaluation may be repeated), then resumed from it.
  const afterCheckpoint = whole.findIndex((event) => event.type === "checkpoint" && event.step === 2) + 1;
  for (const repeats of [false, true]) {
    it(`equals the uninterrupted run's after a kill and a resume${repeats ? " that evaluates again" : ""}`, async () => {
      const expected = memoryFiles();
      await log(expected, whole);
      for (let killed = afterCheckpoint; killed < whole.length; killed++) {
        const files = memoryFiles();
        await log(files, whole.slice(0, killed));
        await files.append("out/metrics.jsonl", '{"step":3,"rew');
        const again: TrainEvent[] = repeats ? [evaluation(2), samples(2)] : [];
        await log(files, [start(2), ...again, ...whole.slice(afterCheckpoint)]);
        for (const name of ["metrics.jsonl", "samples.jsonl", "eval_rows.jsonl", "trainer_state.json"]) {
          expect(await text(files, name), `${name}, killed after event ${killed}`).toBe(await text(expected, name));
        }
      }
    });
  }

  it("knows the best evaluation, also where a run goes on", async () => {
    const best = { metric: "eval_reward", value: 2, step: 2, checkpoint: "checkpoint-2" };
    const judged = { ...evaluation(2), best } as TrainEvent;
    const known = { best_global_step: 2, best_metric: 2, best_model_checkpoint: "checkpoint-2" };
    const files = memoryFiles();
    const none = { best_global_step: null, best_metric: null, best_model_checkpoint: null };
    expect(await (await log(files, [start(0), step(1)])).forCheckpoint()).toMatchObject(none);
    expect(await (await log(files, [start(0), step(1), step(2), judged])).forCheckpoint()).toMatchObject(known);
    const going = { ...start(2), best } as TrainEvent;
    expect(await (await log(files, [going, step(3)])).forCheckpoint()).toMatchObject(known);
  });

  it("writes what a kill kept from being written after the checkpoint", async () => {
    const expected = memoryFiles();
    await log(expected, [start(0), step(1), checkpoint(1), evaluation(1), step(2)]);
    const files = memoryFiles();
    await log(files, [start(0), step(1), checkpoint(1)]);
    await log(files, [start(1), evaluation(1), step(2)]);
    expect(await text(files, "metrics.jsonl")).toBe(await text(expected, "metrics.jsonl"));
  });

  it("completes the state of a checkpoint that the kill left without its history", async () => {
    const own = { "trainer_state.json": '{"global_step":2,"state":{}}' };
    const expected = memoryFiles();
    const whole = [start(0), step(1), step(2)];
    await expected.writeFolder("out/checkpoint-2", own);
    await log(expected, [...whole, checkpoint(2)]);
    const files = memoryFiles();
    await log(files, whole);
    await files.writeFolder("out/checkpoint-2", own);
    await log(files, [start(2)]);
    expect(await text(files, "checkpoint-2/trainer_state.json")).toBe(
      await text(expected, "checkpoint-2/trainer_state.json"),
    );
  });

  it("writes the rest of lines of which a loss of power left some", async () => {
    const three: TrainEvent = {
      type: "samples",
      step: 2,
      samples: ["a", "b", "c"].map((prompt) => ({ prompt, response: "r", reward: 1 })),
    };
    const files = memoryFiles();
    await log(files, [start(0), step(1), step(2), three, three]);
    const all = await text(files, "samples.jsonl");
    for (const size of [0, 10, 80, all.length - 5, all.length]) {
      await files.writeFile("out/samples.jsonl", all.slice(0, size));
      await log(files, [start(2), three, three]);
      expect(await text(files, "samples.jsonl")).toBe(all);
    }
  });

  it("drops an earlier run's lines at a fresh start", async () => {
    const files = memoryFiles();
    await log(files, whole);
    await log(files, [start(0), step(1)]);
    expect((await text(files, "metrics.jsonl")).trim().split("\n")).toHaveLength(1);
    expect(await text(files, "samples.jsonl")).toBe("");
  });
});
