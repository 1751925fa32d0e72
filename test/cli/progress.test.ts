import { describe, expect, it } from "vitest";
import type { TrainEvent } from "webrlhf/rlhf";
import { headline, Progress, short } from "../../src/cli/progress.ts";
import { clock } from "../../src/report/text.ts";
import { silentTerminal } from "./terminal.ts";

const step = (n: number): TrainEvent => ({
  type: "step",
  step: n,
  maxSteps: 20,
  epoch: 0,
  metrics: { "objective/kl": 1.2345, "objective/scores": 0.5, learning_rate: 1e-5 },
  tokens: 10,
  seconds: n === 1 ? 9 : 0.5,
});
const start: TrainEvent = { type: "start", stage: "ppo", step: 0, maxSteps: 20, parameters: 1234567 };
const end: TrainEvent = { type: "end", step: 20, metrics: { reward: 2 } };

function show(tty: boolean): string[] {
  const terminal = silentTerminal(tty);
  let now = 0;
  const progress = new Progress(terminal, "ppo", 10, () => now);
  progress.add(start);
  for (let n = 1; n <= 20; n++) {
    now += 0.5;
    progress.add(step(n));
  }
  progress.add({ type: "eval", step: 20, metrics: { eval_reward: 3 } });
  progress.add(end);
  return terminal.written;
}

describe("progress", () => {
  it("prints the first, every tenth and the last step as plain lines into a pipe", () => {
    expect(show(false)).toEqual([
      "ppo: 1,234,567 parameters, 20 steps\n",
      "ppo: compiling shaders ...\n",
      "ppo: step 1/20  reward 0.500  kl 1.234  lr 1.0e-5  9.000 s\n",
      "ppo: step 10/20  reward 0.500  kl 1.234  lr 1.0e-5  2.000 steps/s  20.0 tokens/s  eta 5s\n",
      "ppo: step 20/20  reward 0.500  kl 1.234  lr 1.0e-5  2.000 steps/s  20.0 tokens/s  10s\n",
      "ppo: eval at step 20: reward 3.000\n",
      "ppo: done in 10s\n",
    ]);
  });

  it("knows the speed from the second step on, however late its numbers come", () => {
    const terminal = silentTerminal();
    const progress = new Progress(terminal, "sft", 1, () => 0); // all at once
    progress.add(start);
    for (let n = 1; n <= 3; n++) progress.add({ ...step(n), seconds: [20, 4, 6][n - 1] } as TrainEvent);
    expect(terminal.written.slice(2).map((line) => line.replace(/.*1.0e-5 {2}/, ""))).toEqual([
      "20.0 s\n",
      "4.000 s/step  2.500 tokens/s  eta 1:12\n",
      "5.000 s/step  2.000 tokens/s  eta 1:25\n",
    ]);
  });

  it("says how many of all parameters are trained", () => {
    const terminal = silentTerminal();
    new Progress(terminal, "sft", 1).add({ ...start, totalParameters: 134_976_384 } as TrainEvent);
    expect(terminal.written[0]).toBe("sft: 1,234,567 of 134,976,384 parameters trained, 20 steps\n");
  });

  it("redraws one line on a terminal, no wider than it, below the lines that stay", () => {
    const written = show(true);
    const stay = (line: string) => !line.startsWith("\r");
    expect(written.filter(stay)).toEqual(show(false));
    const drawn = written.filter((text) => text.startsWith("\r") && text.length > 10);
    expect(drawn).toHaveLength(17);
    for (const text of drawn) expect(text.replace("\r\x1b[2K", "").length).toBeLessThan(80);
    expect(written.at(-1)).toBe("ppo: done in 10s\n");
  });

  it("shows on a terminal how many kernels are compiled", () => {
    const [terminal, pipe] = [silentTerminal(true), silentTerminal()];
    for (const where of [terminal, pipe]) {
      const progress = new Progress(where, "sft", 1);
      progress.add(start);
      progress.compiling(3, 40);
      progress.compiling(40, 40);
      progress.add(step(1));
    }
    expect(terminal.written[2]).toBe("\r\x1b[2Ksft compiling shaders: 3 of 40");
    expect(terminal.written[3]).toBe("\r\x1b[2K");
    expect(pipe.written).toHaveLength(3);
  });

  it("says what became of the data", () => {
    const terminal = silentTerminal();
    const lengths = { min: 1, median: 5, p95: 9, max: 9, bars: [1, 2, 0, 8, 4, 0, 0, 8] };
    const dropped = { "both answers are the same": 34 };
    const progress = new Progress(terminal, "dpo", 1);
    progress.add({
      type: "data",
      step: 0,
      part: "train",
      rows: 6934,
      used: 6900,
      dropped,
      truncated: 12,
      limit: 9,
      lengths,
    });
    progress.add({
      type: "data",
      step: 0,
      part: "eval",
      rows: 1,
      used: 1,
      dropped: {},
      truncated: 0,
      limit: 9,
      lengths: null,
    });
    expect(terminal.written).toEqual([
      "dpo: data: 6,934 rows, 6,900 examples; left out: both answers are the same (34); 12 cut at 9 tokens\n",
      "dpo: tokens: min 1  median 5  p95 9  max 9  |▁▂ █▄  █|\n",
      "dpo: held-out data: 1 rows, 1 examples\n",
    ]);
  });

  it("writes numbers and times briefly", () => {
    expect([0, 0.01234, 12.34, 1234.5, 1e-7, Number.NaN].map(short)).toEqual([
      "0.000",
      "0.012",
      "12.3",
      "1235",
      "1.0e-7",
      "NaN",
    ]);
    expect([3, 65, 7384].map(clock)).toEqual(["3s", "1:05", "2:03:04"]);
    expect(headline({ loss: 1, accuracy: 0.5, unknown: 3 })).toBe("loss 1.000  acc 0.500");
  });
});
