/** Lesson 2: its checks on what was recorded, its program, and what the page makes of a distribution. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, memoryFiles, openDevice } from "webrlhf";
import { goldReward, worldPrompts, worldTokenizer } from "webrlhf/data";
import { type CausalLM, generate, loadCausalLM, openPrefix } from "webrlhf/nn";
import {
  errorOf,
  lesson,
  meanOf,
  type NextData,
  type SamplingInput,
  storiesOf,
  TEMPERATURES,
} from "../../../demo/src/lessons/sampling/lesson.ts";
import { program } from "../../../demo/src/lessons/sampling/program.ts";
import recordings from "../../../demo/src/lessons/sampling/recordings.json" with { type: "json" };
import { reshaped } from "../../../demo/src/lessons/sampling/shape.ts";
import { lastData } from "../../../demo/src/lib/lesson/numbers.ts";
import type { LessonEvent, Start } from "../../../demo/src/lib/lesson/types.ts";

const recorded = recordings as unknown as { input: SamplingInput; events: LessonEvent[] }[];
let start: Start;
let model: CausalLM;

beforeAll(async () => {
  await openDevice();
  start = { files: await diskFiles(), folder: "models/world-sft" };
  model = await loadCausalLM(start.files, start.folder);
});
afterAll(() => model.destroy());

const verdicts = (events: readonly LessonEvent[]) =>
  lesson.checks.map((check) => {
    const numbers = check.measure(events);
    return numbers && check.holds(numbers);
  });

describe("the recorded runs", () => {
  it("hold with all tokens, fail where the likeliest one is always taken, and tell nothing before they are over", () => {
    const [own] = recorded;
    const greedy = recorded.find(({ input }) => input.topK === 1);
    expect(verdicts(own.events)).toEqual([true, true]);
    expect(verdicts(greedy?.events ?? [])).toEqual([false, false]);
    for (const seen of [0, 1, 4]) expect(verdicts(own.events.slice(0, seen))).toEqual([null, null]);
    const [prediction] = lesson.predictions;
    expect("options" in prediction && prediction.outcome(own.events)).toBe("alike");
    expect(prediction.outcome(greedy?.events ?? [])).toBeNull();
  });

  it("are of the lesson's inputs, at all temperatures", () => {
    expect(recorded.map(({ input }) => input)).toEqual(lesson.recorded.map(({ input }) => input));
    for (const { events, input } of recorded) {
      expect(storiesOf(events).map(({ temperature }) => temperature)).toEqual([...TEMPERATURES]);
      for (const { gold } of storiesOf(events)) expect(gold.length).toBe(input.stories);
    }
  });

  it("lose variety as they cool", () => {
    const varied = storiesOf(recorded[0].events).map(({ distinct }) => distinct);
    expect(varied).toEqual([...varied].sort((a, b) => b - a));
    expect(varied[0]).toBeGreaterThan(3 * varied[varied.length - 1]);
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
    { ...good, topP: 0 },
    { ...good, topP: 1.1 },
    { ...good, topK: 1.5 },
    { ...good, topK: -1 },
    { ...good, stories: 4 },
    { ...good, stories: 1e6 },
    { ...good, seed: "1" },
    { ...good, more: 1 },
  ])("refuses %j", (value) => {
    expect(() => lesson.parse(value)).toThrow();
  });
});

describe("the program", () => {
  it("tells the truth of what the library generates", async () => {
    const input = { topP: 0.9, topK: 20, seed: 3, stories: 16 };
    const events: LessonEvent[] = [];
    const context = { start, files: memoryFiles(), folder: "run", signal: new AbortController().signal };
    for await (const event of program(input, context)) events.push(event);
    const tokenizer = worldTokenizer();
    const wishes = worldPrompts(16, 3, "test");
    const prompts = wishes.map((wish) => Uint32Array.from(tokenizer.encode(wish)));
    const options = { maxNewTokens: 32, seed: 3, temperature: 0.7, topP: 0.9, topK: 20 };
    const texts = (await generate(model, prompts, options)).map(({ ids }) =>
      tokenizer.decode(ids.filter((id) => id > 0)),
    );
    const told = storiesOf(events).find(({ temperature }) => temperature === 0.7);
    expect(told?.gold).toEqual(texts.map((text, i) => goldReward(wishes[i], text)));
    const pairs = texts.flatMap((text) => {
      const words = text.split(" ").filter(Boolean);
      return words.slice(1).map((word, i) => `${words[i]} ${word}`);
    });
    expect(told?.distinct).toBeCloseTo(new Set(pairs).size / pairs.length, 10);
    expect(told?.different).toBe(new Set(texts).size);
    expect(told?.shown.map(({ gold }) => gold)[2]).toBe(Math.max(...(told?.gold ?? [])));
    expect(lastData<NextData>(events, "next")?.rest.length).toBe(317);
  });
});

describe("the page's own arithmetic", () => {
  it.each([
    { temperature: 1, topP: 1, topK: 0 },
    { temperature: 0, topP: 1, topK: 0 },
    { temperature: 0.3, topP: 0.9, topK: 0 },
    { temperature: 1.5, topP: 0.95, topK: 12 },
    { temperature: 2, topP: 0.05, topK: 3 },
    { temperature: 0.7, topP: 1, topK: 1 },
  ])("bends a distribution as the library samples, with %j", async (shape) => {
    const live = await openPrefix(model, worldTokenizer().encode("One day Tim the cat wanted a red ball."));
    const all = live.top(327);
    const sampled = live.next(shape);
    live.free();
    const chances = reshaped(
      all.map(({ logProb }) => logProb),
      shape,
    );
    expect(chances.filter((p) => p > 0).length).toBe(sampled.kept);
    all.forEach(({ id }, i) => {
      expect(chances[i]).toBeCloseTo(Math.exp(sampled.of(id).sampledLogProb), 6);
    });
  });

  it("gives means their standard errors", () => {
    expect(meanOf([1, 2, 3, 6])).toBe(3);
    expect(errorOf([1, 2, 3, 6])).toBeCloseTo(Math.sqrt(14 / 3 / 4), 12);
  });
});
