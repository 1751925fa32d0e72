import { describe, expect, it } from "vitest";
import { bestOf, placesOfBest } from "../../../demo/src/lessons/best-of-n/best.ts";
import {
  type BestInput,
  type Gains,
  lesson,
  ofFirstPrompt,
  type Stored,
  sizesOfN,
} from "../../../demo/src/lessons/best-of-n/lesson.ts";
import recordings from "../../../demo/src/lessons/best-of-n/recordings.json" with { type: "json" };
import { lastData, lastMeasured } from "../../../demo/src/lib/lesson/numbers.ts";
import type { LessonEvent } from "../../../demo/src/lib/lesson/types.ts";

const eventsBy = (by: BestInput["by"], pairs = 256): LessonEvent[] => {
  const found = recordings.find(({ input }) => input.by === by && input.pairs === pairs);
  return found?.events as LessonEvent[];
};
const verdicts = (events: LessonEvent[]) =>
  Object.fromEntries(
    lesson.checks.map((check) => {
      const numbers = check.measure(events);
      return [check.id, numbers && check.holds(numbers)];
    }),
  );

/** All ways to take n of so many. */
function* ways(count: number, n: number, from = 0): Generator<number[]> {
  if (n === 0) yield [];
  else for (let i = from; i <= count - n; i++) for (const rest of ways(count, n - 1, i + 1)) yield [i, ...rest];
}

describe("the best of n of stored answers", () => {
  it("is the mean over all ways to take n of them", () => {
    const by = [0.3, -1, 2.5, 0.9, 1.1, -0.2, 3];
    const worth = [5, 1, -2, 8, 0.5, 3, 1.5];
    for (let n = 1; n <= by.length; n++) {
      const all = [...ways(by.length, n)].map((places) => worth[places.reduce((a, b) => (by[b] > by[a] ? b : a))]);
      expect(bestOf(n, by, worth)).toBeCloseTo(all.reduce((a, b) => a + b) / all.length, 10);
    }
  });

  it("has a place for certain", () => {
    for (const n of sizesOfN) expect(placesOfBest(32, n).reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    expect(placesOfBest(32, 32)[0]).toBe(1);
  });
});

describe("the recorded runs of best of n", () => {
  it("show what the lesson claims where the judge chooses, and none of it where the lot does", () => {
    expect(verdicts(eventsBy("judge"))).toEqual({ slows: true, ahead: true, permanent: true });
    expect(verdicts(eventsBy("lot"))).toEqual({ slows: false, ahead: false, permanent: false });
  });

  it("let whoever chooses gain most by their own measure", () => {
    const row = (by: BestInput["by"]) => lastData<Gains>(eventsBy(by), "gains")?.rows[3];
    expect(row("judge")?.judge).toBeGreaterThan(row("judge")?.truth as number);
    expect(row("truth")?.truth).toBeGreaterThan(row("truth")?.judge as number);
    expect(verdicts(eventsBy("truth")).ahead).toBe(false);
  });

  it("cost log n - (n - 1) / n nats, and gain nothing at n = 1", () => {
    const gains = lastData<Gains>(eventsBy("judge"), "gains") as Gains;
    expect(gains.prompts).toBe(128);
    expect(gains.rows.map(({ n }) => n)).toEqual([...sizesOfN]);
    for (const { n, kl } of gains.rows) expect(kl).toBeCloseTo(Math.log(n) - (n - 1) / n, 3);
    expect(Math.abs(gains.rows[0].judge)).toBeLessThan(1e-6);
    expect(Math.abs(gains.rows[0].truth)).toBeLessThan(1e-6);
    for (const { truth, possible } of gains.rows) expect(truth).toBeLessThanOrEqual(possible);
  });

  it("hold 32 answers to each prompt shown, chosen by the judge", () => {
    const stories = lastData<Stored[]>(eventsBy("judge"), "stories") as Stored[];
    expect(stories.map(({ answers }) => answers.length)).toEqual([32, 32]);
    for (const { answers } of stories) for (const { judge, choice } of answers) expect(choice).toBe(judge);
  });

  it("rank a round's candidates by their scores, and learn the first", () => {
    const rounds = eventsBy("judge").flatMap((e) =>
      e.type === "train" && e.event.type === "rows" ? [e.event.rows] : [],
    );
    expect(rounds).toHaveLength(8);
    for (const rows of rounds) {
      expect(ofFirstPrompt(rows)).toHaveLength(8);
      const byRank = [...rows].sort((a, b) => (a.rank as number) - (b.rank as number));
      expect(byRank.map(({ rank }) => rank)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      const scores = byRank.map(({ score }) => score as number);
      expect(scores).toEqual([...scores].sort((a, b) => b - a));
      expect(byRank[0].chosen).toBe(true);
      expect(rows.filter(({ chosen }) => chosen)).toHaveLength(1);
    }
  });
});

describe("a run's checks", () => {
  it("say nothing before the run has come so far", () => {
    const events = eventsBy("judge");
    const few = events.filter(
      (e) => e.type !== "data" || e.name !== "gains" || (e.data as unknown as Gains).prompts < 128,
    );
    const started = few.filter((e) => e.type !== "measured" || e.stage !== "after");
    expect(verdicts(started)).toEqual({ slows: null, ahead: null, permanent: null });
  });

  it("fail where the truth did not move, or the judge's score hardly more than half a deviation", () => {
    const still = eventsBy("judge").map((e) =>
      e.type === "measured" ? { ...e, values: { ...e.values, truth: 0 } } : e,
    );
    expect(verdicts(still).permanent).toBe(false);
    expect(lastMeasured(still, "after")?.truth).toBe(0);
  });
});

describe("an input out of a link", () => {
  it("is what the lesson itself asks, and nothing hostile", () => {
    const good = lesson.input("S", 7);
    expect(lesson.parse(good)).toEqual(good);
    for (const bad of [
      null,
      [],
      { ...good, by: "me" },
      { ...good, pairs: 1e9 },
      { ...good, pairs: 40.5 },
      { ...good, rounds: 0 },
      { ...good, rounds: Number.NaN },
      { ...good, seed: -1 },
      { ...good, seed: "7" },
      { ...good, more: 1 },
    ]) {
      expect(() => lesson.parse(bad)).toThrow();
    }
  });
});
