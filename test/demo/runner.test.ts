import { beforeAll, describe, expect, it } from "vitest";
import { stats } from "webrlhf";
import type { Start } from "../../demo/src/lib/lesson/types.ts";
import { defaultKnobs } from "../../demo/src/playground/knobs.ts";
import type { Command, Knobs, Phase, Reply, Report } from "../../demo/src/playground/protocol.ts";
import { Runner } from "../../demo/src/playground/runner.ts";
import { losingAt } from "../losing.ts";
import { tinyStart } from "./tiny-start.ts";

const knobs: Knobs = { ...defaultKnobs, rolloutSize: 4, steps: 2, rewardPairs: 8 };

let start: Start;
beforeAll(async () => {
  start = await tinyStart();
});

/** A runner whose replies can be waited for. */
function room() {
  const replies: Reply[] = [];
  let heard = () => {};
  let present = 0;
  const runner = new Runner(
    async () => start,
    ({ run, reply }) => {
      if (run !== present) return;
      replies.push(reply);
      heard();
    },
  );
  /** Commands as a page gives them. */
  const tell = (command: Command) => {
    if (command.type === "start" || command.type === "reset") present++;
    return runner.handle({ run: present, command });
  };
  const phase = (): Phase | undefined => {
    const error = replies.find((r) => r.type === "error");
    if (error) throw new Error(error.message);
    return replies.findLast((r) => r.type === "state")?.phase;
  };
  const until = async (wanted: Phase) => {
    while (phase() !== wanted) {
      await new Promise<void>((resolve) => {
        heard = resolve;
      });
    }
  };
  const steps = () =>
    replies.flatMap((r) =>
      r.type === "event" && r.event.type === "step" ? [[r.stage, r.event.metrics] as const] : [],
    );
  return { tell, replies, until, steps };
}

/** What a page shows of a run, without the clock and where it was resumed. */
const shown = (replies: readonly Reply[]) =>
  replies.flatMap((r): object[] => {
    if (r.type === "samples") return [r];
    if (r.type !== "event" || r.event.type === "start") return [];
    if (r.event.type === "note" && /^resuming from|finished, nothing to do$/.test(r.event.text)) return [];
    return [{ ...r.event, seconds: 0 }];
  });

describe("the worker's runner", { timeout: 180_000 }, () => {
  it("steps, resumes and ends; the same knobs give the same numbers", async () => {
    const one = room();
    await one.tell({ type: "start", knobs, mode: "step" });
    await one.until("paused");
    expect(one.steps()).toHaveLength(1);
    await one.tell({ type: "step" });
    await one.until("paused");
    expect(one.steps()).toHaveLength(2);
    await one.tell({ type: "resume" });
    await one.until("done");
    expect(one.steps().map(([stage]) => stage)).toEqual(["reward", "policy", "policy"]);
    const samples = one.replies.filter((r) => r.type === "samples");
    expect(samples.map(({ when, step }) => [when, step])).toEqual([
      ["before", 0],
      ["after", 2],
    ]);
    expect(samples[0].samples.map((s) => s.prompt)).toEqual(samples[1].samples.map((s) => s.prompt));

    const [before, after] = one.replies.flatMap((r) =>
      r.type === "event" && r.event.type === "eval" && r.stage !== "reward" ? [r.event.metrics] : [],
    );
    expect([before.prompts, after.prompts]).toEqual([64, 64]); // however few responses a step has
    expect(after.gold_change).toBeCloseTo(after.gold - before.gold, 6);
    expect(after.reward_change).toBeCloseTo(after.reward - before.reward, 4);
    expect(after.gold_change_error).toBeGreaterThanOrEqual(0);

    const two = room();
    await two.tell({ type: "start", knobs, mode: "run" });
    await two.until("done");
    expect(two.steps()).toEqual(one.steps());
  });

  it("drops a run when it is reset, with its memory, and starts another", async () => {
    const { tell, replies, until, steps } = room();
    await tell({ type: "start", knobs, mode: "step" });
    await until("paused");
    await tell({ type: "reset" });
    expect(replies.at(-1)).toEqual({ type: "state", phase: "idle", stage: "load" });
    const before = stats().poolBytes;
    for (let i = 0; i < 3; i++) {
      await tell({ type: "start", knobs: { ...knobs, algorithm: "raft", steps: 1 }, mode: "step" });
      await until("paused");
      await tell({ type: "reset" });
    }
    expect(stats().poolBytes).toBe(before);
    replies.length = 0;
    await tell({ type: "start", knobs: { ...knobs, algorithm: "raft", steps: 1 }, mode: "run" });
    await until("done");
    expect(steps().map(([stage]) => stage)).toEqual(["reward", "policy"]);
  });

  it("goes on when the device is lost, says so, and shows each thing once", async () => {
    const kept = room();
    const submits = await losingAt(
      () => false,
      async () => {
        await kept.tell({ type: "start", knobs, mode: "run" });
        await kept.until("done");
      },
    );
    const lost = room();
    const moments = [5, submits >> 1, submits - 3];
    await losingAt(
      (submit) => moments.includes(submit),
      async () => {
        await lost.tell({ type: "start", knobs, mode: "run" });
        await lost.until("done");
      },
    );
    expect(lost.replies.filter(({ type }) => type === "renewed")).toHaveLength(3);
    expect(shown(lost.replies)).toEqual(shown(kept.replies));
  });

  it("goes on from a state in the middle of the policy's training", async () => {
    const six = { ...knobs, steps: 6, rewardPairs: 16 };
    const kept = room();
    const submits = await losingAt(
      () => false,
      async () => {
        await kept.tell({ type: "start", knobs: six, mode: "run" });
        await kept.until("done");
      },
    );
    const lost = room();
    await losingAt(
      (submit) => submit === Math.floor(submits * 0.95),
      async () => {
        await lost.tell({ type: "start", knobs: six, mode: "run" });
        await lost.until("done");
      },
    );
    expect(lost.replies.filter(({ type }) => type === "renewed")).toHaveLength(1);
    expect(
      lost.replies.some((r) => r.type === "event" && /checkpoint-4/.test("text" in r.event ? r.event.text : "")),
    ).toBe(true);
    expect(shown(lost.replies)).toEqual(shown(kept.replies));
  });

  it("starts again in the middle of a stage as if nothing had been before", async () => {
    const four = { ...knobs, rewardPairs: 32 };
    const kept = room();
    await kept.tell({ type: "start", knobs: four, mode: "run" });
    await kept.until("done");

    const { tell, replies, until } = room();
    for (const after of [2, 3, 5, 6]) {
      await tell({ type: "start", knobs: four, mode: "step" });
      for (let step = 1; step < after; step++) {
        await until("paused");
        await tell({ type: "step" });
      }
      await until("paused");
      replies.length = 0;
      await tell({ type: "reset" });
    }
    replies.length = 0;
    await tell({ type: "start", knobs: four, mode: "run" });
    await until("done");
    expect(shown(replies)).toEqual(shown(kept.replies));
  });

  it("never begins a run that was dropped while it waited", async () => {
    const reports: Report[] = [];
    let opened = 0;
    const runner = new Runner(
      async () => {
        opened++;
        return start;
      },
      (report) => reports.push(report),
    );
    const begin: Command = { type: "start", knobs, mode: "run" };
    await runner.handle({ run: 1, command: begin });
    await expect.poll(() => reports.some(({ reply }) => reply.type === "event")).toBe(true);
    for (const [run, command] of [begin, { type: "reset" } as const, begin, begin].entries()) {
      void runner.handle({ run: run + 2, command });
    }
    void runner.handle({ run: 5, command: { type: "pause" } }); // it is the waiting run that waits then
    void runner.handle({ run: 4, command: { type: "resume" } }); // too late for that one
    const phases = (wanted: number) =>
      reports.flatMap(({ run, reply }) => (run === wanted && reply.type === "state" ? [reply.phase] : []));
    await expect.poll(() => phases(5).at(-1), { timeout: 60_000 }).toBe("paused");
    await runner.handle({ run: 5, command: { type: "resume" } });
    await expect.poll(() => phases(5).at(-1), { timeout: 60_000 }).toBe("done");
    expect(opened).toBe(2);
    expect([2, 3, 4].map(phases)).toEqual([[], ["idle"], []]);
    expect(phases(1)).not.toContain("done");
  });

  it("reports why a run broke off", async () => {
    const replies: Reply[] = [];
    const runner = new Runner(
      () => Promise.reject(new Error("the model did not load")),
      ({ reply }) => replies.push(reply),
    );
    await runner.handle({ run: 1, command: { type: "start", knobs, mode: "run" } });
    await expect.poll(() => replies.at(-1)).toEqual({ type: "error", about: "run", message: "the model did not load" });
    const said = replies.length;
    await runner.handle({ run: 1, command: { type: "step" } }); // there is nothing to go on with
    expect(replies).toHaveLength(said);
  });
});
