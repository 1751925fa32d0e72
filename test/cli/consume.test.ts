import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { diskFiles, UserError } from "webrlhf";
import { type Context, Interrupted } from "webrlhf/cli";
import { RunLog, type TrainEvent } from "webrlhf/rlhf";
import { consume } from "../../src/cli/train.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
});
afterEach(() => rm(dir, { recursive: true }));

/** Counts to 5; stops after the step during which the signal fired; breaks at `broken`. */
async function* trainer(
  signal: AbortSignal,
  { stopAt = 0, broken = 0, abort = () => {} } = {},
): AsyncGenerator<TrainEvent> {
  yield { type: "start", stage: "sft", step: 0, maxSteps: 5, parameters: 3 };
  for (let step = 1; step <= 5; step++) {
    if (step === broken) throw new UserError(`loss became NaN at step ${step}`);
    if (step === stopAt) abort();
    yield { type: "step", step, maxSteps: 5, epoch: step / 5, metrics: { loss: 1 / step }, tokens: 8, seconds: 0.1 };
    if (!signal.aborted) continue;
    yield { type: "checkpoint", step, name: `checkpoint-${step}` };
    return;
  }
  yield { type: "end", step: 5, metrics: { loss: 0.2 } };
}

function setUp() {
  const controller = new AbortController();
  const terminal = silentTerminal();
  const context: Context = { terminal, signal: controller.signal, label: "sft", resume: false };
  const settings = { outputDir: dir, loggingSteps: 1 };
  const run = async (events: AsyncGenerator<TrainEvent>) =>
    consume(events, new RunLog(await diskFiles(), dir, settings), settings, context);
  return { controller, terminal, run };
}

const state = async () => JSON.parse(await readFile(join(dir, "trainer_state.json"), "utf8"));

describe("consuming a trainer's events", () => {
  it("shows and logs them, and gives the last metrics", async () => {
    const { controller, terminal, run } = setUp();
    expect(await run(trainer(controller.signal))).toEqual({ loss: 0.2 });
    expect(terminal.written.join("")).toContain("sft: step 5/5  loss 0.200");
    expect(await state()).toMatchObject({ global_step: 5, max_steps: 5, num_input_tokens_seen: 40 });
  });

  it("ends in an Interrupted after Ctrl-C, with the log up to the checkpoint", async () => {
    const { controller, run } = setUp();
    const events = trainer(controller.signal, { stopAt: 3, abort: () => controller.abort() });
    await expect(run(events)).rejects.toBeInstanceOf(Interrupted);
    expect((await state()).log_history).toHaveLength(3);
  });

  it("passes errors on, with the log up to them", async () => {
    const { controller, run } = setUp();
    await expect(run(trainer(controller.signal, { broken: 4 }))).rejects.toThrow("NaN at step 4");
    expect((await state()).global_step).toBe(3);
  });
});
