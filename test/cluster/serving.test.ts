/** How many workers a trainer needs, who they are, and what a worker is told. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Answers } from "../../src/cluster/answers.ts";
import { readAnswer, readHello } from "../../src/cluster/hello.ts";
import { fetchingOf, type Needs, planOf, SPARING } from "../../src/cluster/plan.ts";
import { FEW, Serving } from "../../src/cluster/serving.ts";

const utf8 = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));

describe("the plan", () => {
  const positive = fc.double({ min: 0.01, max: 1000, noNaN: true });
  const needs = fc.record({
    speeds: fc.array(positive, { minLength: 1, maxLength: 30 }).map((all) => all.sort((a, b) => b - a)),
    start: fc.double({ min: 0, max: 10, noNaN: true }),
    slope: fc.double({ min: 0, max: 10, noNaN: true }),
    tokens: positive,
    jobTokens: positive,
    learns: fc.option(positive),
  });
  /** Every number of workers, one after the other, as it is defined. */
  const all = ({ speeds, fetching, tokens, jobTokens }: Needs) =>
    speeds.map((_, i) => {
      const served = speeds.slice(0, i + 1);
      return fetching(i + 1) + tokens / served.reduce((a, b) => a + b) + jobTokens / Math.min(...served);
    });

  it("is the smallest number that fits, or about the quickest, of all that there are", () => {
    fc.assert(
      fc.property(needs, ({ start, slope, ...rest }) => {
        const given: Needs = { ...rest, fetching: (n) => start + slope * n };
        const times = all(given);
        const plan = planOf(given);
        expect(plan.seconds).toBeCloseTo(times[plan.served - 1], 6);
        const { learns } = given;
        const fits = times.findIndex((seconds) => learns !== null && seconds <= learns * (1 - 1e-9));
        if (fits >= 0) expect(plan.served).toBe(fits + 1);
        else if (learns === null || plan.seconds > learns) {
          const best = Math.min(...times);
          expect(plan.seconds).toBeLessThanOrEqual(best * SPARING * (1 + 1e-9));
          for (const fewer of times.slice(0, plan.served - 1)) {
            expect(fewer).toBeGreaterThan(best * SPARING * (1 - 1e-9));
          }
        }
      }),
    );
  });

  it("takes what fetching took for a line that does not fall, and shares one link by what it knows of one number", () => {
    expect(fetchingOf(new Map([[10, 5]]))(20)).toBeCloseTo(10);
    const line = fetchingOf(new Map([...[4, 10, 30].map((n) => [n, 0.5 + 0.1 * n] as const)]));
    for (const n of [1, 7, 100]) expect(line(n)).toBeCloseTo(0.5 + 0.1 * n);
    const noise = fetchingOf(
      new Map([
        [10, 2],
        [20, 1],
      ]),
    );
    expect(noise(5)).toBeCloseTo(1.5);
    expect(noise(500)).toBeCloseTo(1.5);
    const below = fetchingOf(
      new Map([
        [10, 1],
        [20, 4],
      ]),
    );
    expect(below(0)).toBe(0);
    expect(below(20)).toBeGreaterThan(below(10));
  });
});

/** Workers, a link and a trainer in time of the test's own. */
function world(speeds: Record<string, number>) {
  let now = 1000;
  const there = new Set(Object.keys(speeds));
  const serving = new Serving(
    () => [...there],
    () => now,
  );
  let version = 0;
  /** Draws a version's jobs with those that are served: each does `jobs` of 10 tokens. */
  const step = (jobs = 2, fetch = 0.1, learns = 1, said: (name: string) => object = () => ({})) => {
    serving.published(true);
    now += 1000 * learns;
    const over = serving.waits();
    const asked = now;
    const served = [...there].filter((name) => serving.serves(name));
    const results = served.flatMap((name) => {
      const fetched = fetch * served.length;
      return Array.from({ length: jobs }, (_, i) => ({
        name,
        at: asked + 1000 * (fetched + ((i + 1) * 10) / speeds[name]),
        result: {
          ...{ version, tokens: 10, askedAt: asked, seconds: 10 / speeds[name] + (i === 0 ? fetched : 0) },
          ...{ fetched: i === 0 ? fetched : 0, ...said(name) },
        },
      }));
    });
    for (const { name, at, result } of results.sort((a, b) => a.at - b.at)) {
      now = Math.max(now, at);
      serving.took(name, result);
    }
    over();
    version++;
    return served;
  };
  return { serving, there, step, pass: (ms: number) => (now += ms) };
}

const crowd = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`w/${i}`, i < 4 ? 100 : 5]));

describe("whom a trainer serves", () => {
  it("is everybody while they are few, and before anything is known", () => {
    const few = world(crowd(FEW));
    for (let i = 0; i < 6; i++) expect(few.step()).toHaveLength(FEW);
    const many = world(crowd(40));
    expect(many.step()).toHaveLength(40);
    expect(many.step()).toHaveLength(40);
  });

  it("is then the fastest, and newcomers a few at a time", () => {
    const { step, there, serving } = world({ ...crowd(40), ...{ "new/0": 100, "new/1": 100, "new/2": 5, "new/3": 5 } });
    for (let i = 0; i < 4; i++) there.delete(`new/${i}`);
    for (let i = 0; i < 4; i++) step();
    const served = step();
    expect(served.length).toBeLessThan(8);
    expect(served).toContain("w/0");
    expect(serving.served).toBe(served.length);
    for (let i = 0; i < 4; i++) there.add(`new/${i}`);
    const before = new Set(served);
    const after = step();
    expect(after.filter((name) => !before.has(name))).toHaveLength(2);
    for (let i = 0; i < 6; i++) step();
    const last = step();
    expect(last).not.toContain("new/2");
    expect(last).not.toContain("new/3");
    expect(last.every((name) => /w\/[0-3]$|new\/[01]/.test(name))).toBe(true);
  });

  it("is somebody else as soon as who was served is gone", () => {
    const { step, there, serving, pass } = world(crowd(40));
    for (let i = 0; i < 5; i++) step();
    for (let i = 0; i < 4; i++) there.delete(`w/${i}`);
    pass(1500);
    expect([...there].some((name) => serving.serves(name))).toBe(true);
  });

  it("is everybody where what was planned takes far longer, and those that failed are not thought fast again", () => {
    const { step, there, serving, pass } = world(crowd(40));
    for (let i = 0; i < 6; i++) step();
    serving.published(true);
    const over = serving.waits();
    const served = new Set([...there].filter((name) => serving.serves(name)));
    expect(served.size).toBeLessThan(8);
    pass(2000);
    serving.look();
    expect([...there].filter((name) => serving.serves(name)).length).toBeLessThan(8);
    pass(600_000);
    serving.look();
    expect([...there].every((name) => serving.serves(name))).toBe(true);
    over();
    serving.published(true); // for this step
    pass(1);
    serving.published(true);
    const now = [...there].filter((name) => serving.serves(name));
    expect(now.length).toBeLessThan(40);
    expect(now.some((name) => served.has(name))).toBe(false);
  });

  it("is counted once for all who ask in a second", () => {
    const names = Object.keys(crowd(40));
    let [now, counted] = [0, 0];
    const there = () => {
      counted++;
      return names;
    };
    const serving = new Serving(there, () => now);
    for (const name of names) expect([serving.serves(name), serving.served]).toEqual([true, 40]);
    expect(counted).toBe(1);
    names.pop();
    now += 1500;
    expect(serving.served).toBe(39);
  });

  it("is not swayed by what a worker says of itself", () => {
    const { step } = world(crowd(40));
    const said = (name: string) => (name === "w/20" ? { seconds: 0, fetched: 1e9 } : {});
    for (let i = 0; i < 6; i++) step(2, 0.1, 1, said);
    expect(step(2, 0.1, 1, said)).not.toContain("w/20");
  });
});

describe("a worker", () => {
  const answer = (run: string, standBy: boolean, holds = 15) => utf8({ run, standBy, enough: 3, holds });
  it("stands by where every run that it hears of says so, for as long as that holds", () => {
    let now = 0;
    const answers = new Answers(() => now);
    expect(answers.standBy).toBeNull();
    answers.hear(answer("a", true));
    expect(answers.standBy).toEqual({ enough: 3 });
    answers.hear(answer("b", false, 5));
    expect(answers.standBy).toBeNull();
    now = 6000;
    expect(answers.standBy).toEqual({ enough: 3 });
    now = 16_000; // nobody says so any more: a trainer that is gone starves nobody
    expect(answers.standBy).toBeNull();
  });

  it("does not believe an answer that nobody can mean", () => {
    const answers = new Answers();
    const given = { run: "a", standBy: true, enough: 3, holds: 15 };
    for (const wrong of ["", "{", [], { ...given, holds: 1e9 }, { ...given, enough: -1 }, { ...given, standBy: 1 }]) {
      expect(readAnswer(utf8(wrong))).toBeNull();
      answers.hear(utf8(wrong));
    }
    expect(answers.standBy).toBeNull();
    for (let i = 0; i < 1000; i++) answers.hear(answer(`run-${i}`, true));
    expect(answers.standBy).toEqual({ enough: 3 });
  });

  it("says what it does, which one of before does not", () => {
    const hello = { worker: "a", adapter: "", webrlhf: "", done: 0, tokensPerSecond: 0, busy: false };
    expect(readHello("hello.m", utf8(hello))).toMatchObject({ standsBy: false, roles: ["sample", "score"] });
    expect(readHello("hello.m", utf8({ ...hello, roles: ["sample"] }))).toMatchObject({ roles: ["sample"] });
    expect(readHello("hello.m", utf8({ ...hello, roles: ["label"] }))).toBeNull();
  });
});
