/** Rewards that can be verified: TRL's own numbers, and what is built beside them. */
import { describe, expect, it } from "vitest";
import { type Response, type RewardFunction, verifiableReward, verifiableRewards } from "webrlhf/rlhf";
import fixture from "../fixtures/verifiable.json" with { type: "json" };

const response = (
  text: string,
  row: Record<string, unknown> = {},
  tokens: readonly number[] = [1, 2, 3],
): Response => ({
  prompt: 0,
  sample: 0,
  promptText: "how much?",
  promptLength: 2,
  ids: Uint32Array.from([9, 9, ...tokens]),
  text,
  ended: true,
  row,
});
const scored = async (reward: RewardFunction, ...given: Parameters<typeof response>) =>
  Array.from(await reward([response(...given)]))[0];
const score = async (spelling: string, ...given: Parameters<typeof response>) =>
  scored(await verifiableReward(spelling), ...given);
const times = (length: number) => new Array<number>(length).fill(1);

/** Where we say otherwise than math-verify, which reads no full stop at a number's end. */
const otherwise = new Map<string, boolean>([["100 100.", true]]);
/** It takes no box where there are several; the last one is the answer here, as in the field's evaluations. */
const severalBoxes = "first \\boxed{1}, no: \\boxed{2}";

describe("accuracy", () => {
  it.each(fixture.pairs)("of $answer for $solution", async ({ solution, answer, right }) => {
    const own = await score("builtin:accuracy", `so it is $\\boxed{${answer}}$`, { solution: `$${solution}$` });
    expect(own).toBe(Number(otherwise.get(`${solution} ${answer}`) ?? right === 1));
  });

  it.each(fixture.marked)("finds the answer in $text", async ({ text, solution, right }) => {
    const expected = text === severalBoxes ? Number(solution === "2") : right;
    expect(await score("builtin:accuracy", text, { solution })).toBe(expected);
  });

  it.each(fixture.thought)("of what stands after thinking: $text", async ({ text, solution, right }) => {
    expect(await score("builtin:reasoning_accuracy", text, { solution })).toBe(right);
  });

  it("takes no time for what is no expression, and believes none of it", async () => {
    const began = performance.now();
    const texts = [
      "9^{9^{9^{9^9}}}",
      `${"x+".repeat(5000)}x`,
      "999999!",
      "\\frac{1}{",
      "{{}}",
      "-".repeat(399),
      "3 3",
      "3,",
      "3)",
      "\\foo{3}",
    ];
    const nested = ["(", "[", "{", "\\{", "|", "\\frac{", "\\sqrt[", "\\sin(", "f(", "x_{", "9^{", "-("].map((part) =>
      part.repeat(90).slice(0, 390),
    );
    for (const text of [...texts, ...nested]) {
      expect(await score("builtin:accuracy", `<answer>${text}</answer>`, { solution: "3" })).toBe(0);
    }
    expect(performance.now() - began).toBeLessThan(2000);
  });

  it("finds each of a thousand made-up expressions again in other words, and none of its neighbours", async () => {
    let seed = 7;
    const upTo = (n: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * n);
    };
    // Each gives an expression, and the same in other words.
    const leaf = (): [string, string] => {
      const n = 1 + upTo(20);
      const all: [string, string][] = [
        [`${n}`, `\\frac{${2 * n}}{2}`],
        ["x", "x^1"],
        ["\\pi", "{\\pi}"],
        [`${n}.5`, `\\dfrac{${2 * n + 1}}{2}`],
      ];
      return all[upTo(all.length)];
    };
    const grow = (depth: number): [string, string] => {
      if (depth === 0) return leaf();
      const [a, b] = [grow(depth - 1), grow(depth - 1)];
      const all: [string, string][] = [
        [`${a[0]}+${b[0]}`, `${b[1]}+${a[1]}`],
        [`(${a[0]})(${b[0]})`, `\\left(${b[1]}\\right)\\cdot(${a[1]})`],
        [`\\frac{${a[0]}}{${b[0]}}`, `(${a[1]})/(${b[1]})`],
        [`\\sqrt{${a[0]}}`, `(${a[1]})^{1/2}`],
        [`(${a[0]})^2`, `(${a[1]})(${a[1]})`],
      ];
      return all[upTo(all.length)];
    };
    for (let i = 0; i < 1000; i++) {
      const [one, other] = grow(upTo(3));
      if (other.length > 380) continue;
      const text = `\\boxed{${other}}`;
      expect(await score("builtin:accuracy", text, { solution: `$${one}$` }), `${one} = ${other}`).toBe(1);
      expect(await score("builtin:accuracy", text, { solution: `$${one}+0.001$` }), `${one}+0.001 = ${other}`).toBe(0);
    }
  });
});

describe("rewards for shape", () => {
  it.each(fixture.shapes)("think_format of $text", async ({ text, score: expected }) => {
    expect(await score("builtin:think_format", text)).toBe(expected);
  });

  it("repetition_penalty, as TRL's", async () => {
    for (const { ids, n, most, score: expected } of fixture.repetition) {
      const reward = `builtin:repetition_penalty?n=${n}&max_penalty=${most}`;
      expect(await score(reward, "", {}, ids)).toBeCloseTo(expected, 12);
    }
  });

  it("soft_overlong and cosine_scaled, as TRL's", async () => {
    for (const { length, score: expected } of fixture.overlong) {
      expect(await score("builtin:soft_overlong?max=100&cache=20", "", {}, times(length))).toBeCloseTo(expected, 12);
    }
    for (const { length, answer, score: expected } of fixture.cosine) {
      const reward = "builtin:cosine_scaled?max_len=100";
      const text = `$\\boxed{${answer}}$`;
      expect(await score(reward, text, { solution: "3" }, times(length))).toBeCloseTo(expected ?? Number.NaN, 12);
    }
  });

  it("tag_count, regex and length", async () => {
    expect(await score("builtin:tag_count", "<think>a</think> <answer>b")).toBe(0.75);
    expect(await score("builtin:tag_count?tags=a", "<a></a></a>")).toBe(0.5);
    expect(await score("builtin:regex?pattern=^yes%5C.$&flags=i", "YES.")).toBe(1);
    expect(await score("builtin:regex?pattern=^yes%5C.$", "YES.")).toBe(0);
    expect(await score("builtin:length?max=3", "")).toBe(0);
    expect(await score("builtin:length?max=2", "")).toBe(-1);
    expect(await score("builtin:length?min=4&max=9", "")).toBe(-1);
  });
});

describe("numeric and exact answers", () => {
  it.each([
    ["The total is 1,234.50 dollars", "1234.5", 1],
    ["#### 72", "She sold 48 + 24 = 72 clips.\n#### 72", 1],
    ["#### 71", "She sold 48 + 24 = 72 clips.\n#### 72", 0],
    ["<answer>7</answer> of 12", "7", 1],
    ["7 of 12", "7", 0],
    ["The answer is -3.", "−3", 1],
    ["no number", "3", 0],
    ["3.0000005", "3", 1],
  ])("numeric: %j for %j", async (text, answer, expected) => {
    expect(await score("builtin:numeric", text, { answer })).toBe(expected);
  });

  it("numeric within a tolerance, of another column", async () => {
    expect(await score("builtin:numeric?tolerance=0.01&column=total", "about 101", { total: 100 })).toBe(1);
    expect(await score("builtin:numeric?tolerance=0.01&column=total", "about 102", { total: 100 })).toBe(0);
  });

  it.each([
    ["Paris", "paris", 1],
    ["The answer is Paris.", "Paris", 1],
    ["<answer> Paris </answer>", "Paris", 1],
    ["Paris or Rome", "Paris", 0],
  ])("exact: %j for %j", async (text, answer, expected) => {
    expect(await score("builtin:exact", text, { answer })).toBe(expected);
  });
});

describe("json", () => {
  const schema = {
    type: "object",
    properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
    required: ["name"],
    additionalProperties: false,
  };

  it.each([
    ['{"a": 1}', 1],
    [" [1, 2]\n", 1],
    ["null", 1],
    ['<think>{"no": </think>{"a": 1}', 1],
    ['Here it is:\n```json\n{"a": 1}\n```\nas asked', 1],
    ["```\n{}\n```\nor rather\n```json\n{oops\n```", 0],
    ["{'a': 1}", 0],
    ['{"a": 1} is it', 0],
    ["", 0],
  ])("%s gives %d", async (text, expected) => {
    expect(await score("builtin:json", text)).toBe(expected);
  });

  it.each([
    ['{"name": "Ann", "age": 3}', 1],
    ['{"name": "Ann"}', 1],
    ['{"name": "Ann", "age": -3}', 0],
    ['{"name": "Ann", "age": "3"}', 0],
    ['{"age": 3}', 0],
    ['{"name": "Ann", "more": 1}', 0],
    ["Ann", 0],
  ])("that fits a row's schema: %s gives %d", async (text, expected) => {
    expect(await score("builtin:json_schema?column=schema", text, { schema })).toBe(expected);
    expect(await score("builtin:json_schema?column=schema", text, { schema: JSON.stringify(schema) })).toBe(expected);
  });

  it("keeps to the draft that a schema names, fetches nothing, and bears values without a bottom", async () => {
    const tuple = { items: [{ type: "string" }] };
    const old = { ...tuple, $schema: "http://json-schema.org/draft-07/schema#" };
    expect(await score("builtin:json_schema?column=schema", "[1]", { schema: old })).toBe(0);
    const list = { type: "array", items: { $ref: "#" } };
    const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    expect(await score("builtin:json_schema?column=schema", deep, { schema: list })).toBe(0);
    expect(await score("builtin:json_schema?column=schema", "[[], [[]]]", { schema: list })).toBe(1);
    const elsewhere = { $ref: "http://127.0.0.1:9/schema.json" };
    await expect(score("builtin:json_schema?column=schema", "1", { schema: elsewhere })).rejects.toThrow();
  });

  it("says what is no schema", async () => {
    const bad = (schema: unknown) => score("builtin:json_schema?column=schema", "1", { schema });
    await expect(bad("{")).rejects.toThrow(/column=schema: the column "schema" is no JSON Schema: /);
    await expect(bad("[]")).rejects.toThrow(/a JSON Schema is an object, or true or false/);
    await expect(bad(undefined)).rejects.toThrow(/has no text or number in the column "schema"/);
  });
});

describe("language", () => {
  it.each([
    ["en", "The weather is nice today, and we will go for a walk.", 1],
    ["de", "The weather is nice today, and we will go for a walk.", 0],
    ["de", "Das Wetter ist heute schön, und wir gehen spazieren.", 1],
    ["zh", "今天天气很好，我们去散步吧。", 1],
    ["en+fr", "Il fait beau aujourd'hui et nous allons nous promener.", 1],
    // What is said around code and formulas counts.
    [
      "de",
      "Das Ergebnis lautet:\n```python\nfor word in the_list_of_words: print(word)\n```\nDamit sind wir fertig.",
      1,
    ],
    ["en", "42", 0],
    ["en", "", 0],
  ])("%s of %s is %d", async (is, text, expected) => {
    expect(await score(`builtin:language?is=${is}`, text)).toBe(expected);
  });

  it("among few is known of short texts", async () => {
    expect(await score("builtin:language?is=de&among=en+de", "ja, natürlich")).toBe(1);
    expect(await score("builtin:language?is=en&among=en+de", "yes, of course")).toBe(1);
  });
});

describe("a reward's spelling", () => {
  it.each([
    ["builtin:acuracy", /builtin:acuracy is no reward: after builtin: there are accuracy, .*exact/],
    ["builtin:numeric?tolerence=1", /has the parameters column, tolerance, and not "tolerence=1"/],
    ["builtin:numeric?tolerance=much", /tolerance is a number, not "much"/],
    ["builtin:think_format?x=1", /has no parameters, and not "x=1"/],
    ["builtin:length", /max is needed/],
    ["builtin:regex?pattern=(", /builtin:regex\?pattern=\(: Invalid regular expression/],
    ["builtin:repetition_penalty?max_penalty=1", /max_penalty 1 must not be above 0/],
    ["builtin:json_schema", /give the schema's file as schema=FILE, or the column that has it as column=NAME/],
    ["builtin:language", /is is needed/],
    ["builtin:language?is=english", /"english" is no language that is known: they go by two letters .*, en, /],
    ["builtin:language?is=fr&among=en+de", /"fr" is wanted, and not among en, de/],
    ["builtin:soft_overlong?max=10&cache=20", /max=10&cache=20: cache 20 is more than max 10/],
  ])("%s says what is wrong", async (spelling, why) => {
    await expect(verifiableReward(spelling)).rejects.toThrow(why);
  });

  it("names the column that a row lacks, and a gold answer that is no number", async () => {
    await expect(score("builtin:exact", "a", { reply: "b" })).rejects.toThrow(
      /builtin:exact: the row of the prompt "how much\?" has no text or number in the column "answer" \(its columns: reply\).*\?column=NAME/,
    );
    await expect(score("builtin:numeric", "1", { answer: "none" })).rejects.toThrow(
      /"none" in the column "answer" is no/,
    );
  });

  it("is listed with what it does, and each can be made", async () => {
    expect(verifiableRewards.map(({ name }) => name)).toContain("builtin:accuracy");
    for (const { does } of verifiableRewards) expect(does.length).toBeGreaterThan(20);
    expect((await verifiableReward("builtin:numeric")).name).toBe("numeric");
  });
});
