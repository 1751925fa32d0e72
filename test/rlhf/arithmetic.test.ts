/** The word problems of examples/arithmetic: what is held out, how answers are graded, and the calculator. */
import { expect, it } from "vitest";
import { openRewards } from "webrlhf/open";
import type { Response } from "webrlhf/rlhf";
import dataset, { problems, randomNumbers } from "../../examples/arithmetic/problems.ts";
import { answered, careless } from "../../examples/arithmetic/pupil.ts";
import tool from "../../examples/arithmetic/tool.ts";
import rewards, { answer, working } from "../../examples/rewards/arithmetic.ts";
import { said } from "./environment/said.ts";

const graded = (text: string, row: object) => [{ text, row: { ...row } }] as unknown as Response[];

it("has problems whose words, sums and answers agree", () => {
  const signs = { buys: "+", finds: "+", gets: "+", eats: "-", loses: "-", sells: "-" } as Record<string, string>;
  for (const { prompt, working, answer } of [...problems(300, 1), ...problems(300, 2, "test")]) {
    const { content } = prompt[0];
    const [start, x, y] = [...content.matchAll(/\d+/g)].map(Number);
    const [first, second] = [...content.matchAll(/([a-z]+) \d+/g)]
      .map(([, verb]) => signs[verb])
      .filter((sign) => sign !== undefined);
    const between = start + Number(`${first}${x}`);
    expect(working).toEqual([`${start} ${first} ${x} = ${between}`, `${between} ${second} ${y} = ${answer}`]);
    expect(answer).toBe(between + Number(`${second}${y}`));
    expect(Math.min(between, answer)).toBeGreaterThanOrEqual(0);
  }
});

it("holds out every fifth combination of numbers and signs, whatever the words", () => {
  const sums = (split: "train" | "test") => new Set(problems(20_000, 3, split).map(({ working }) => working.join()));
  const [train, test] = [sums("train"), sums("test")];
  expect([...test].filter((one) => train.has(one))).toEqual([]);
  expect(test.size / (test.size + train.size)).toBeCloseTo(0.2, 2);
  expect(dataset({ split: "train" }).every(({ working }) => train.has(working.join()))).toBe(true);
  expect(dataset({ split: "test" }).every(({ working }) => test.has(working.join()))).toBe(true);
});

it("grades the answer by the row, and the sums one by one", async () => {
  const row = { answer: 9, working: ["7 + 5 = 12", "12 - 3 = 9"] };
  const grades = (text: string) => [answer(graded(text, row))[0], working(graded(text, row))[0]];
  expect(grades(" 7 + 5 = 12. 12 - 3 = 9. #### 9")).toEqual([1, 1]);
  expect(grades("7 + 5 = 13. 12 - 3 = 9. #### 9 ")).toEqual([1, 0.5]);
  expect(grades("7 + 5 = 12. 12 + 3 = 15. #### 15")).toEqual([0, 0.5]);
  expect(grades("12 - 3 = 9. 7 + 5 = 12. #### 12")).toEqual([0, 0]);
  for (const none of ["", "9", "#### 90", "#### 9 and more", "#### 9. #### 8", "#### -9", "#### nine"]) {
    expect(grades(none)).toEqual([0, 0]);
  }
  const opened = await openRewards([rewards.answer, rewards.working.score]);
  expect(opened.map(({ name }) => name)).toEqual(["answer", "working"]);
  expect(await opened[0](graded("#### 9", row))).toEqual([1]);
});

it("has a pupil whose sums are right and follow from each other, and whose answers mostly are not", () => {
  const random = randomNumbers(5);
  const all = problems(4000, 4, "train").map((problem) => ({ ...careless(problem, random), right: problem.answer }));
  const right = all.filter((one) => one.answer === one.right).length / all.length;
  expect(right).toBeGreaterThan(0.2);
  expect(right).toBeLessThan(0.4);
  for (const { sums, answer } of all) {
    let before = sums[0].split(" ")[0];
    for (const sum of sums) {
      const [a, sign, b, , c] = sum.split(" ");
      expect([a, Number(c)]).toEqual([before, Number(a) + Number(`${sign}${b}`)]);
      before = c;
    }
    expect(String(answer)).toBe(before);
  }
  expect(new Set(all.map(({ sums }) => sums.length))).toEqual(new Set([1, 2]));
});

it("has the pupil answer in words, or turn by turn with the calculator", () => {
  const [problem] = problems(1, 4);
  // Of these random numbers the pupil does both sums.
  const { sums, answer } = careless(problem, randomNumbers(3));
  const [first, second] = sums.map((sum) => sum.split(" = "));
  const call = (of: string) => ({ role: "assistant", content: `{"name":"sum","parameters":{"of":" ${of}"}}` });
  expect(answered(problem, false, randomNumbers(3)).messages).toEqual([
    ...problem.prompt,
    { role: "assistant", content: `${sums[0]}. ${sums[1]}. #### ${answer}` },
  ]);
  expect(answered(problem, true, randomNumbers(3)).messages).toEqual([
    ...problem.prompt,
    ...[call(first[0]), { role: "tool", content: first[1] }, call(second[0]), { role: "tool", content: second[1] }],
    { role: "assistant", content: `${answer}` },
  ]);
});

it("has a calculator that adds and subtracts, and an answer that counts", async () => {
  const { signal } = new AbortController();
  const prompt = { ...problems(1, 6)[0], answer: 9 };
  const messages = [...prompt.prompt];
  const episode = await tool.reset({
    prompt: { text: "", ids: new Uint32Array(), messages, row: { answer: 9 } },
    seed: 0,
    signal,
  });
  const say = (text: string, of?: string) =>
    episode.step(said(text, { calls: of === undefined ? [] : [{ id: "1", name: "sum", arguments: { of } }] }));
  for (const [of, told] of [
    ["7 + 5", "12"],
    [" 12 - 3", "9"],
    ["3 - 5", "-2"],
    ["3 * 5", "none"],
    ["+", "none"],
  ]) {
    expect((await say("", of)).observation).toMatchObject([{ role: "tool", content: told }]);
  }
  expect(await say(" 9")).toEqual({ reward: 1, done: true });
  expect(await say(" 19")).toEqual({ reward: 0, done: true });
});
