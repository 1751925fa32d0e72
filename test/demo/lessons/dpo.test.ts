import { describe, expect, it } from "vitest";
import { type DpoInput, followed, lesson, MARGIN, moves, stepsOfRound } from "../../../demo/src/lessons/dpo/lesson.ts";
import recordings from "../../../demo/src/lessons/dpo/recordings.json" with { type: "json" };
import { lastMeasured } from "../../../demo/src/lib/lesson/numbers.ts";
import type { LessonEvent } from "../../../demo/src/lib/lesson/types.ts";

const recorded = (labels: DpoInput["labels"], beta = 0.1) => {
  const found = recordings.find(({ input }) => input.labels === labels && input.beta === beta);
  return { input: found?.input as DpoInput, events: found?.events as LessonEvent[] };
};
const verdicts = (events: LessonEvent[]) =>
  Object.fromEntries(
    lesson.checks.map((check) => {
      const numbers = check.measure(events);
      return [check.id, numbers && check.holds(numbers)];
    }),
  );
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe("the recorded runs of DPO", () => {
  it("show what the lesson claims where a person labels, and none of it where the lot does", () => {
    expect(verdicts(recorded("person").events)).toEqual({ apart: true, falls: true, fresh: true });
    expect(verdicts(recorded("lot").events)).toEqual({ apart: false, falls: false, fresh: false });
  });

  it("start at the reference on both ways, and part after the first round", () => {
    const { events, input } = recorded("person");
    const each = stepsOfRound(input);
    const pairs = followed(events);
    const [offline, online] = [moves(events, "offline"), moves(events, "online")];
    for (const path of [offline, online]) {
      expect(path.map(({ step }) => step)).toEqual(Array.from({ length: (3 * each) / 2 + 1 }, (_, i) => 2 * i));
      pairs?.forEach(({ refChosen, refRejected }, i) => {
        expect(path[0].chosen[i]).toBeCloseTo(refChosen, 2);
        expect(path[0].rejected[i]).toBeCloseTo(refRejected, 2);
      });
    }
    const until = each / 2;
    expect(online.slice(0, until + 1)).toEqual(offline.slice(0, until + 1));
    expect(online.at(-1)?.chosen).not.toEqual(offline.at(-1)?.chosen);
  });

  it("begin with margins of 0, which grow", () => {
    const margins = recorded("person").events.flatMap((e) =>
      e.type === "train" && e.event.type === "rows" && e.stage.startsWith("o")
        ? [e.event.rows.map((row) => row[MARGIN] as number)]
        : [],
    );
    const first = recorded("person").events.find((e) => e.type === "train" && e.event.type === "rows");
    expect(first?.type === "train" && first.stage).toBe("both");
    expect(mean(margins.flat())).toBeGreaterThan(0);
  });

  it("measure the margin as what the chosen gained on the rejected", () => {
    for (const { events } of recordings) {
      const end = lastMeasured(events as LessonEvent[], "versus");
      expect(end?.margin).toBeCloseTo((end?.chosen as number) - (end?.rejected as number), 1);
    }
  });
});

describe("a run's checks", () => {
  const { events } = recorded("person");

  it("say nothing before the end", () => {
    const before = events.filter((e) => e.type !== "measured" || e.stage !== "versus");
    expect(verdicts(before)).toEqual({ apart: null, falls: null, fresh: null });
  });

  it("fail each by its own number", () => {
    const edited = (values: Record<string, number>) =>
      events.map((e) =>
        e.type === "measured" && e.stage === "versus" ? { ...e, values: { ...e.values, ...values } } : e,
      );
    expect(verdicts(edited({ chosen: 0.5 }))).toMatchObject({ apart: true, falls: false, fresh: true });
    expect(verdicts(edited({ fresh: -0.2 }))).toMatchObject({ apart: true, falls: true, fresh: false });
    expect(verdicts(edited({ margin_se: 1e3 }))).toMatchObject({ apart: false, falls: false, fresh: true });
  });
});

describe("an input out of a link", () => {
  it("is what the lesson itself asks, and nothing hostile", () => {
    const good = lesson.input("S", 7);
    expect(lesson.parse(good)).toEqual(good);
    for (const bad of [
      null,
      "dpo",
      { ...good, labels: "me" },
      { ...good, beta: 0 },
      { ...good, beta: Number.NaN },
      { ...good, pairs: 1e6 },
      { ...good, pairs: 12.5 },
      { ...good, seed: -1 },
      { ...good, more: 1 },
    ]) {
      expect(() => lesson.parse(bad)).toThrow();
    }
  });
});
