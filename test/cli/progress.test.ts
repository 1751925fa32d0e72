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
  seconds: 1,
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
      "ppo: step 1/20  reward 0.500  kl 1.234  lr 1.0e-5  2.000 steps/s\n",
      "ppo: step 10/20  reward 0.500  kl 1.234  lr 1.0e-5  2.000 steps/s  eta 5s\n",
      "ppo: step 20/20  reward 0.500  kl 1.234  lr 1.0e-5  2.000 steps/s  10s\n",
      "ppo: eval at step 20: reward 3.000\n",
      "ppo: done in 10s\n",
    ]);
  });

  it("redraws one line on a terminal, no wider than it", () => {
    const written = show(true);
    const drawn = written.filter((text) => text.startsWith("\r") && text.length > 10);
    expect(drawn).toHaveLength(20);
    for (const text of drawn) expect(text.replace("\r\x1b[2K", "").length).toBeLessThan(80);
    expect(written.at(-1)).toBe("ppo: done in 10s\n");
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
