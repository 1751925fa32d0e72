/** Lesson 1: its checks on what was recorded, its program, and what the page asks of its models. */

import { beforeAll, describe, expect, it } from "vitest";
import { diskFiles, memoryFiles, openDevice } from "webrlhf";
import { goldBreakdown, worldSftRecords, worldTokenizer } from "webrlhf/data";
import { CausalLM, loadCausalLM, loadConfig, promptLogProbs } from "webrlhf/nn";
import { type LanguageModelInput, lesson, type NextData } from "../../../demo/src/lessons/language-model/lesson.ts";
import { program } from "../../../demo/src/lessons/language-model/program.ts";
import { type NextAnswer, type NextQuestion, queries } from "../../../demo/src/lessons/language-model/queries.ts";
import recordings from "../../../demo/src/lessons/language-model/recordings.json" with { type: "json" };
import { lastMeasured, measuredCurve } from "../../../demo/src/lib/lesson/numbers.ts";
import type { LessonEvent, Start } from "../../../demo/src/lib/lesson/types.ts";

const recorded = recordings as unknown as { input: LanguageModelInput; events: LessonEvent[] }[];
const signal = new AbortController().signal;
let start: Start;

beforeAll(async () => {
  await openDevice();
  start = { files: await diskFiles(), folder: "models/world-sft" };
});

const verdicts = (events: readonly LessonEvent[]) =>
  lesson.checks.map((check) => {
    const numbers = check.measure(events);
    return numbers && check.holds(numbers);
  });
const dataOf = (events: readonly LessonEvent[], name: string) =>
  events.flatMap((e) => (e.type === "data" && e.name === name ? [e.data as unknown as NextData] : []));

describe("the recorded runs", () => {
  it("hold on stories, fail on shuffled words, and tell nothing before they are over", () => {
    const [own] = recorded;
    const shuffled = recorded.find(({ input }) => input.texts === "shuffled");
    expect(verdicts(own.events)).toEqual([true, true]);
    expect(verdicts(shuffled?.events ?? [])).toEqual([false, false]);
    const after = own.events.findIndex((e) => e.type === "measured" && e.stage === "after");
    for (const seen of [0, 1, after]) expect(verdicts(own.events.slice(0, seen))).toEqual([null, null]);
  });

  it("are of the lesson's inputs", () => {
    expect(recorded.map(({ input }) => input)).toEqual(lesson.recorded.map(({ input }) => input));
  });

  it("begin at ln 327, which is what the prediction asks for", () => {
    const [start] = lesson.predictions;
    expect("options" in start && start.outcome(recorded[0].events)).toBe("ln");
    expect(start.outcome([])).toBeNull();
  });

  it("show distributions, and draw what they say", () => {
    for (const { events } of recorded) {
      const walk = dataOf(events, "token");
      expect(new Set(walk.map(({ model }) => model))).toEqual(new Set(["untrained", "own", "long"]));
      for (const [i, { model, next, tokens, drawn }] of walk.entries()) {
        const chances = next.map(([, p]) => p);
        expect(chances).toEqual([...chances].sort((a, b) => b - a));
        expect(chances.reduce((a, b) => a + b)).toBeLessThan(1.001);
        const later = walk[i + 1];
        if (later?.model === model) expect(later.tokens).toEqual([...tokens, drawn]);
      }
    }
  });
});

describe("parse", () => {
  const good = lesson.input("S", 1);
  it("takes its own inputs", () => {
    expect(lesson.parse(good)).toEqual(good);
    expect(lesson.parse(lesson.wrong("L", 2))).toEqual(lesson.wrong("L", 2));
  });
  it.each([
    null,
    {},
    { ...good, texts: "novels" },
    { ...good, steps: 1e9 },
    { ...good, steps: 1.5 },
    { ...good, seed: -1 },
    { ...good, prefix: "" },
    { ...good, prefix: "a".repeat(121) },
    { ...good, more: 1 },
  ])("refuses %j", (value) => {
    expect(() => lesson.parse(value)).toThrow();
  });
});

describe("the program", () => {
  it("measures what can be measured otherwise, goes through all its parts, and leaves its model", async () => {
    const files = memoryFiles();
    const input = { ...lesson.input("S", 5), steps: 2, prefix: "Once Max" };
    const events: LessonEvent[] = [];
    for await (const event of program(input, { start, files, folder: "run", signal })) events.push(event);

    const tokenizer = worldTokenizer();
    const fresh = new CausalLM(await loadConfig(start.files, start.folder)).initialize(5);
    const trained = await loadCausalLM(files, "run/trained");
    try {
      for (const [model, loss] of [
        [fresh, measuredCurve(events, "look", "loss")[0][1]],
        [trained, lastMeasured(events, "after")?.loss],
      ] as const) {
        let sum = 0;
        for (const { prompt, completion } of worldSftRecords(128, 5, "test")) {
          const ids = Uint32Array.of(...tokenizer.encode(prompt + completion), 0);
          const { logProbs } = await promptLogProbs(model, ids, 0);
          sum -= logProbs.reduce((a, b) => a + b) / (ids.length - 1);
        }
        expect(loss).toBeCloseTo(sum / 128, 3);
      }
    } finally {
      fresh.destroy();
      trained.destroy();
    }
    const shown = events.flatMap((e) => (e.type === "samples" ? e.samples : []));
    expect(shown.length).toBe(8);
    for (const { prompt, response } of shown) expect(Number.isFinite(goldBreakdown(prompt, response).form)).toBe(true);
    expect(dataOf(events, "next").map(({ step }) => step)).toEqual([0, 2]);

    // The page's question about it is answered by this run's model.
    const last = dataOf(events, "next").at(-1) as NextData;
    const own = await ask({ model: "own", text: "Once Max" }, { files, folder: "run" });
    expect(own.tokens).toEqual(["Once", " Max"]);
    own.next.slice(0, 8).forEach(([, , p], i) => {
      expect(p).toBeCloseTo(last.next[i][1], 5);
    });
  });
});

const ask = async (
  { model = "long", seed = 1, text, more = [] }: Partial<NextQuestion> & { text: string },
  run: Parameters<typeof queries.next>[1]["run"] = null,
) => (await queries.next({ model, seed, text, more }, { start, signal, run })) as unknown as NextAnswer;

describe("the question of what comes next", () => {
  it("is answered with all 327 tokens, whatever was asked before", async () => {
    const whole = await ask({ text: "One day Tim the cat wanted a red ball. Tim ran" });
    expect(whole.next.length).toBe(327);
    expect(whole.next.reduce((sum, [, , p]) => sum + p, 0)).toBeCloseTo(1, 6);
    await ask({ text: "Today Anna" });
    const before = await ask({ text: "One day Tim the cat wanted a red ball. Tim" });
    const ran = before.next.find(([, text]) => text === " ran");
    const taken = await ask({ text: "One day Tim the cat wanted a red ball. Tim", more: [ran?.[0] ?? -1] });
    expect(taken.tokens).toEqual(whole.tokens);
    taken.next.slice(0, 20).forEach(([id, , p], i) => {
      expect([id, p]).toEqual([whole.next[i][0], expect.closeTo(whole.next[i][2], 4)]);
    });
  });

  it("knows the untrained model by its seed", async () => {
    const one = await ask({ model: "untrained", seed: 1, text: "Once" });
    expect(one.next[0][2]).toBeLessThan(0.05);
    expect(await ask({ model: "untrained", seed: 2, text: "Once" })).not.toEqual(one);
    expect(await ask({ model: "untrained", seed: 1, text: "Once" })).toEqual(one);
  });

  it("says in words what cannot be answered, and goes on", async () => {
    await expect(ask({ model: "own", text: "Once" })).rejects.toThrow("Nothing was trained here yet");
    await expect(ask({ text: "" })).rejects.toThrow("empty");
    await expect(ask({ text: "a a ".repeat(40) })).rejects.toThrow("64");
    expect((await ask({ text: "Once" })).tokens).toEqual(["Once"]);
  });
});
