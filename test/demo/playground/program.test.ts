import { beforeEach, describe, expect, it } from "vitest";
import { memoryFiles, stats } from "webrlhf";
import type { LessonEvent, ProgramContext } from "../../../demo/src/lib/lesson/types.ts";
import { pointsOf, seenMethods, type Versus, verdictOf } from "../../../demo/src/playground/curves.ts";
import { type Knobs, methods } from "../../../demo/src/playground/knobs.ts";
import { program } from "../../../demo/src/playground/program.ts";
import type { Marked } from "../../../demo/src/playground/standing.ts";
import { gpuReady } from "../../helpers.ts";
import { tinyStart } from "../tiny-start.ts";
import { shown, tiny } from "./tiny.ts";

beforeEach(() => gpuReady());

const tinyContext = async (): Promise<ProgramContext> => ({
  start: await tinyStart(),
  files: memoryFiles(),
  folder: "run",
  signal: new AbortController().signal,
});

/** What a run tells, up to an event that breaks it off. */
async function told(
  knobs: Knobs,
  context: ProgramContext,
  until: (event: LessonEvent) => boolean = () => false,
): Promise<LessonEvent[]> {
  const events: LessonEvent[] = [];
  for await (const event of program(knobs, context)) {
    events.push(event);
    if (until(event)) break;
  }
  return events;
}

const measured = (events: readonly LessonEvent[]) => events.flatMap((e) => (e.type === "measured" ? [e] : []));
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

async function lastOf({ files }: ProgramContext, method: string): Promise<Marked> {
  const bytes = await files.read(`run/standing-${method}.json`);
  const { looks, done } = JSON.parse(new TextDecoder().decode(bytes ?? undefined));
  expect(done, method).toBe(true);
  return looks.at(-1);
}

describe("a run of the playground", { timeout: 300_000 }, () => {
  it.each(methods)("looks at the same held-out prompts before, on the way and at the end, by %s", async (method) => {
    const context = await tinyContext();
    const knobs = { ...tiny, method, group: 4, prompts: 16, steps: 4 };
    const events = await told(knobs, context);
    const looks = measured(events);
    expect(looks.map(({ stage, step }) => [stage, step])).toEqual([
      ["start", 0],
      ...(method === "best-of-n" ? [1, 2, 4] : [2, 4]).map((step) => [method, step]),
    ]);
    for (const { values } of looks) {
      expect(values.prompts).toBe(128); // however few responses a step has
      for (const name of ["gold", "reward"] as const) {
        expect(looks[0].values[name] + values[`${name}_change`]).toBeCloseTo(values[name], 4);
        expect(values[`${name}_change_se`]).toBeGreaterThanOrEqual(0);
      }
    }
    expect(pointsOf(events, method)).toHaveLength(looks.length);
    expect(seenMethods(events)).toEqual([method]);
    const tokens = looks.map(({ values }) => values.tokens);
    expect(tokens).toEqual([...tokens].sort((a, b) => a - b));
    expect(tokens[1]).toBeGreaterThan(0);
    const samples = events.flatMap((e) => (e.type === "samples" ? [e] : []));
    expect(samples[0].samples.map(({ prompt }) => prompt)).toEqual(samples.at(-1)?.samples.map(({ prompt }) => prompt));
    expect((await lastOf(context, method)).gold).toHaveLength(128);
  });

  it("gives its memory back, wherever it is broken off", async () => {
    const context = await tinyContext();
    const bytes: number[] = [];
    for (const method of methods) {
      const knobs = { ...tiny, method, group: 4, prompts: 16 };
      const own = { ...context, files: memoryFiles() };
      await told(knobs, own, (e) => e.type === "measured" && e.stage === method);
      bytes.push(stats().poolBytes);
      await told(knobs, { ...own, files: memoryFiles() }, (e) => e.type === "train" && e.event.type === "step");
      bytes.push(stats().poolBytes);
    }
    expect(new Set(bytes).size).toBe(1);
  });

  it("of best-of-n costs in KL what n says, and pleases the judge more with n", async () => {
    const events = await told({ ...tiny, method: "best-of-n", group: 6 }, await tinyContext());
    const looks = measured(events).slice(1);
    expect(looks.map(({ step }) => step)).toEqual([1, 2, 4, 6]);
    for (const [i, { step: n, values }] of looks.entries()) {
      expect(values.kl).toBeCloseTo(Math.log(n) - (n - 1) / n, 9);
      if (i > 0) expect(values.reward).toBeGreaterThan(looks[i - 1].values.reward);
    }
  });

  it("goes on where it was broken off, with the looks that it had", async () => {
    const knobs = { ...tiny, steps: 6 };
    const whole = shown(await told(knobs, await tinyContext()));
    const context = await tinyContext();
    await told(
      knobs,
      context,
      (e) => e.type === "train" && e.stage === "ppo" && e.event.type === "step" && e.event.step === 5,
    );
    const again = await told(knobs, context);
    const started = again.find((e) => e.type === "train" && e.stage === "ppo" && e.event.type === "start");
    expect(started?.type === "train" && started.event.type === "start" && started.event.step).toBe(4);
    const rest = shown(again).filter((e) => e.type === "measured" || e.type === "samples");
    for (const event of rest) expect(whole).toContainEqual(event);
    expect(measured(again).map(({ step }) => step)).toEqual([0, 6]);
  });
});

describe("a race", { timeout: 400_000 }, () => {
  const knobs: Knobs = { ...tiny, method: "race", responses: 64, budget: 8000 };
  const longest = 32;

  it("gives each method the same budget, and holds their ends against each other on the same prompts", async () => {
    const context = await tinyContext();
    const events = await told(knobs, context);
    expect(seenMethods(events)).toEqual([...methods]);
    for (const method of methods) {
      const spent = pointsOf(events, method).at(-1)?.tokens ?? 0;
      if (method === "best-of-n") expect(spent, method).toBeLessThanOrEqual(knobs.budget * 1.1);
      else {
        expect(spent, method).toBeGreaterThanOrEqual(knobs.budget);
        // No more than what one step, or one lot of pairs, goes beyond it.
        expect(spent, method).toBeLessThan(knobs.budget + (method === "dpo" ? 16 * 4 : knobs.responses) * longest);
      }
    }
    const data = events.find((e) => e.type === "data" && e.name === "versus");
    const versus = (data?.type === "data" ? data.data : []) as unknown as Versus[];
    expect(versus).toHaveLength(10);
    const [{ values: first }] = measured(events);
    for (const { a, b, truth, truth_se, judge } of versus) {
      const [one, other] = [await lastOf(context, a), await lastOf(context, b)];
      const less = one.gold.map((gold, i) => gold - other.gold[i]);
      const spread = Math.sqrt((mean(less.map((x) => (x - mean(less)) ** 2)) * (128 / 127)) / 128);
      expect(truth).toBeCloseTo(mean(less) / (first.gold_std || 1), 9);
      expect(truth_se).toBeCloseTo(spread / (first.gold_std || 1), 9);
      expect(judge).toBeCloseTo(mean(one.reward.map((r, i) => r - other.reward[i])) / first.reward_std, 6);
      expect(["up", "down", "unknown"]).toContain(verdictOf(truth, truth_se));
    }
  });

  it("that was broken off in any method goes on to the same end, without what was done", async () => {
    const whole = measured(shown(await told(knobs, await tinyContext())));
    for (const stage of ["dpo", "best-of-n"] as const) {
      const context = await tinyContext();
      const isIts = (e: LessonEvent) =>
        stage === "best-of-n"
          ? e.type === "data" && e.name === "answers"
          : e.type === "train" && e.stage === stage && e.event.type === "step" && e.event.step === 2;
      await told(knobs, context, isIts);
      const again = await told(knobs, context);
      expect(
        again.some((e) => e.type === "train" && e.stage === "ppo"),
        stage,
      ).toBe(false);
      const looks = measured(again);
      const ends = (of: typeof looks) => of.filter((look) => look.stage === "best-of-n");
      expect(ends(looks), stage).toEqual(ends(whole));
      expect(ends(looks), stage).toHaveLength(2);
      for (const look of looks) expect(whole, stage).toContainEqual(look);
      expect(
        again.find((e) => e.type === "data" && e.name === "versus"),
        stage,
      ).toBeDefined();
    }
  });
});
