import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, memoryFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { goldReward } from "webrlhf/data";
import { judgeCurves } from "../../../demo/src/lessons/labeller/curves.ts";
import deck from "../../../demo/src/lessons/labeller/deck.json" with { type: "json" };
import { deckPairs } from "../../../demo/src/lessons/labeller/deck.ts";
import { ruled } from "../../../demo/src/lessons/labeller/judge.ts";
import { lesson } from "../../../demo/src/lessons/labeller/lesson.ts";
import { dot, fitHead } from "../../../demo/src/lessons/labeller/linear.ts";
import { packFeatures, unpackFeatures } from "../../../demo/src/lessons/labeller/packed.ts";
import { program } from "../../../demo/src/lessons/labeller/program.ts";
import { queries } from "../../../demo/src/lessons/labeller/queries.ts";
import recordings from "../../../demo/src/lessons/labeller/recordings.json" with { type: "json" };
import { leans, namesFriend, rules } from "../../../demo/src/lessons/labeller/rules.ts";
import { nextPair } from "../../../demo/src/lessons/labeller/sequence.ts";
import { judgeHere } from "../../../demo/src/lessons/labeller/without-gpu.ts";
import { labelsOf, toGivenLines } from "../../../demo/src/lib/labels.ts";
import { measuredCurve } from "../../../demo/src/lib/lesson/numbers.ts";
import type { LessonEvent, Numbers, Recording } from "../../../demo/src/lib/lesson/types.ts";
import { silentTerminal } from "../../cli/terminal.ts";
import { gpuReady } from "../../helpers.ts";

const runs = recordings as unknown as Recording[];
const eventsOf = (labeller: string) =>
  runs.find(({ input }) => (input as { labeller: string }).labeller === labeller)?.events as LessonEvent[];

/** What somebody who follows a rule says to the deck's pairs. */
const byRule = (rule: (typeof rules)[number], count: number) =>
  labelsOf(
    deck
      .slice(0, count)
      .map((pair) => ({ ...pair, choice: leans(rule, pair) > 0 ? ("left" as const) : ("right" as const) })),
  );

describe("lesson 4", () => {
  it("holds on its recorded runs, and not where a coin labels", () => {
    const holding = (labeller: string) =>
      lesson.checks.map((check) => {
        const numbers = check.measure(eventsOf(labeller));
        return numbers !== null && check.holds(numbers);
      });
    expect(holding("friend")).toEqual([true, true, true]);
    expect(holding("coin")).toEqual([false, false, false]);
    expect(lesson.predictions.map((p) => ("options" in p ? p.outcome(eventsOf("friend")) : ""))).toEqual(["most"]);
  });

  it("judges by later labels where a visitor labels, and does not judge before there are any", () => {
    const [learns] = lesson.checks;
    const told = (later: object): LessonEvent[] => [
      { type: "data", name: "labels", data: { by: "own", count: 20, taste: "friend", agrees: {}, nearest: "friend" } },
      {
        type: "measured",
        stage: "judge",
        step: 15,
        values: { friend: 1, shorter: 0.5, truth: 0.5, of: 128, ...later },
      },
    ];
    expect(learns.measure(told({}))).toBeNull();
    const sure = learns.measure(told({ later_same: 13, later_of: 15 }));
    expect(sure && learns.holds(sure)).toBe(true);
    const unsure = learns.measure(told({ later_same: 10, later_of: 15 }));
    expect(unsure && learns.holds(unsure)).toBe(false);
  });

  it("reads what a link may ask, and keeps labels out of it", () => {
    expect(lesson.parse(lesson.input("S", 7))).toEqual(lesson.input("S", 7));
    for (const hostile of [
      { labeller: "me" },
      { count: 1e9 },
      { seed: -1 },
      { rounds: 1.5 },
      { labels: "x" },
      { labels: [{ prompt: "p", chosen: "a" }] },
      { more: 1 },
    ]) {
      expect(() => lesson.parse({ ...lesson.input("S", 7), ...hostile })).toThrow();
    }
    expect(lesson.private).toEqual(["labels", "others"]);
  });

  it("draws its deck as it is committed, in which each rule decides every pair and none follows from another", () => {
    const drawn = deckPairs(deck.length, 42);
    expect(drawn.map(({ prompt, left, right }) => ({ prompt, left, right }))).toEqual(
      deck.map(({ prompt, left, right }) => ({ prompt, left, right })),
    );
    for (const pair of deck) {
      expect(rules.map((rule) => leans(rule, pair) !== 0)).toEqual([true, true, true]);
      expect(pair.goldLeft).toBeCloseTo(goldReward(pair.prompt, pair.left), 1);
      expect(pair.goldRight).toBeCloseTo(goldReward(pair.prompt, pair.right), 1);
    }
    const many = deckPairs(200, 3);
    for (const [a, b] of [
      ["friend", "shorter"],
      ["friend", "truth"],
      ["shorter", "truth"],
    ] as const) {
      const alike = many.filter((pair) => leans(a, pair) * leans(b, pair) > 0).length / many.length;
      expect(alike).toBeGreaterThan(0.4);
      expect(alike).toBeLessThan(0.6);
    }
    expect(many.filter(({ left }) => namesFriend(left)).length / many.length).toBeCloseTo(0.5, 0);
  });

  it("shows every pair once, and some again with their sides swapped", () => {
    const answers: Parameters<typeof nextPair>[1][number][] = [];
    for (let pair = nextPair(deck, answers); pair; pair = nextPair(deck, answers)) {
      answers.push({ ...pair, choice: answers.length === 8 ? "none" : "left" });
    }
    const names = answers.map(({ prompt, left, right }) => JSON.stringify([prompt, ...[left, right].sort()]));
    expect(new Set(names).size).toBe(deck.length);
    const again = names.flatMap((name, i) => (names.indexOf(name) < i ? [i] : []));
    expect(again.slice(0, 3)).toEqual([7, 17, 22]); // the pair of place 12 could not be told
    for (const i of again) expect(answers[i].left).toBe(answers[names.indexOf(names[i])].right);
  });

  it("shows the numbers of its events", () => {
    const events = eventsOf("friend");
    const judged = events.flatMap((e) =>
      e.type === "measured" && e.stage === "judge" ? [{ count: e.step, values: e.values }] : [],
    );
    const names = { friend: "f", shorter: "s", truth: "t", later: "l", file: "o" };
    const curves = Object.fromEntries(judgeCurves(judged, names).map(({ name, points }) => [name, points]));
    expect(curves.f).toEqual(measuredCurve(events, "judge", "friend"));
    expect(curves.f.map(([x]) => x)).toEqual([5, 10, 15, 20]);
    expect(curves.l.map(([x]) => x)).toEqual([5, 10, 15]);
    expect(curves.o).toBeUndefined();
    const [learns] = lesson.checks;
    expect(learns.measure(events)?.share).toBe(curves.f[3][1]);
  });
});

describe("a judge without a GPU", () => {
  it("learns the rule of twenty labels in the page", () => {
    const values = judgeHere({
      labels: byRule("friend", 20),
      later: byRule("friend", 40).slice(20),
      others: byRule("truth", 40),
    });
    expect(values.friend).toBeGreaterThan(0.9);
    expect(values.later_same / values.later_of).toBeGreaterThan(0.9);
    expect(values.truth).toBeLessThan(0.65);
    expect(values.others).toBeLessThan(0.75);
    expect(judgeHere({ labels: byRule("truth", 20), later: [], others: null }).truth).toBeGreaterThan(0.65);
  });

  it("leaves out labels of stories that it does not know", () => {
    const foreign = [{ prompt: "p", chosen: "a", rejected: "b" }];
    const values = judgeHere({ labels: foreign, later: foreign, others: foreign });
    expect(values).toMatchObject({ friend: 0, later_same: 0, later_of: 0 });
    expect(values.others).toBeUndefined();
  });

  it("finds the weights that made the choices", () => {
    const truth = [2, -1, 0];
    const story = (i: number) => [Math.sin(7 * i), Math.cos(11 * i), Math.sin(5 * i + 1)];
    const pairs = Array.from({ length: 60 }, (_, i) => [story(2 * i), story(2 * i + 1)]).map(([a, b]) =>
      dot(truth, a) > dot(truth, b) ? { chosen: a, rejected: b } : { chosen: b, rejected: a },
    );
    const head = fitHead(pairs);
    expect(dot(head, truth) / Math.sqrt(dot(head, head) * dot(truth, truth))).toBeGreaterThan(0.95);
  });

  it("reads features as they were packed, to half a byte's unit", () => {
    const stories = [Float32Array.of(1, -500, 0), Float32Array.of(-0.3, 20, 0)];
    const packed = packFeatures(stories);
    for (const [i, story] of unpackFeatures(JSON.parse(JSON.stringify(packed))).entries()) {
      for (const [k, x] of story.entries())
        expect(Math.abs(x - stories[i][k])).toBeLessThanOrEqual(packed.units[k] * 0.51);
    }
  });
});

describe("a judge of one's own", () => {
  let dir: string;
  beforeAll(async () => {
    await gpuReady();
    dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
  });
  afterAll(() => rm(dir, { recursive: true }));

  const context = async () => ({
    start: { files: await diskFiles(), folder: "models/world-sft" },
    files: memoryFiles(),
    folder: "run",
    signal: new AbortController().signal,
  });

  it("decides as a one-word rule in nine of ten new pairs, over ten seeds", { timeout: 400_000 }, async () => {
    const { start, signal } = await context();
    const shares: number[] = [];
    for (let seed = 1; seed <= 10; seed++) {
      const labels = deckPairs(20, seed).map((pair) => ruled("friend", pair));
      const values = (await queries.judge(
        { labels, later: [], others: null, seed },
        { start, signal, run: null },
      )) as Numbers;
      shares.push(values.friend);
    }
    expect(shares.filter((share) => share >= 0.9).length).toBeGreaterThanOrEqual(9);
    expect(Math.min(...shares)).toBeGreaterThan(0.85);
  });

  it("is the one that the exported file trains on the command line", { timeout: 300_000 }, async () => {
    const labels = byRule("friend", 20);
    const there = await context();
    for await (const event of program({ labeller: "own", seed: 42, count: 20, rounds: 0, labels }, there)) {
      if (event.type === "enter" && event.stage === "unseen") break;
    }
    const file = join(dir, "labels.jsonl");
    const out = join(dir, "judge");
    // Some pairs came again, sides swapped, and were decided otherwise: the file says so, and the judge is the same.
    const answers = labels.map(({ prompt, chosen: left, rejected: right }) => ({
      prompt,
      left,
      right,
      choice: "left" as const,
    }));
    await writeFile(file, toGivenLines([...answers, { ...answers[3], choice: "right" }]));
    const page = await readFile(new URL("../../../demo/src/lessons/labeller/en.md", import.meta.url), "utf8");
    const words = (/`webrlhf (reward [^`]*)`/.exec(page)?.[1] ?? "")
      .replace("labels.jsonl", file)
      .replace(/judge$/, out)
      .split(" ");
    expect(await main(words, silentTerminal())).toBe(0);
    const own = (await there.files.read("run/judge/model.safetensors")) as Uint8Array;
    expect(Buffer.compare(own, await readFile(join(out, "model.safetensors")))).toBe(0);
  });

  it("answers the page while labels are given, and refuses what are none", async () => {
    const { start, signal } = await context();
    const [labels, others] = [byRule("friend", 10), byRule("shorter", 20)];
    const argument = { labels, later: byRule("friend", 15).slice(10), others, seed: 42 };
    const values = (await queries.judge(argument, { start, signal, run: null })) as Numbers;
    expect(values).toMatchObject({ of: 128, later_of: 5 });
    expect(values.friend).toBeGreaterThan(values.shorter);
    await expect(queries.judge({ ...argument, labels: [{}] }, { start, signal, run: null })).rejects.toThrow();
  });

  it("says what is missing where a link asks for one's own labels and there are none", async () => {
    const run = program({ ...lesson.input("S", 1), labeller: "own" }, await context());
    const all = async () => {
      for await (const _ of run);
    };
    await expect(all()).rejects.toThrow(/one's own labels, and there are 0 here/);
  });
});
