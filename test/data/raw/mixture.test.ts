import { describe, expect, it } from "vitest";
import { loadSamples, mixed, mixtureText, parseMixture, registerDataset } from "webrlhf/data";
import { drawn, parseProportion, wantedOf } from "../../../src/data/raw/proportion.ts";
import { complaint } from "./sources.ts";

describe("a proportion", () => {
  it("is a share, a fraction, or a number of samples", () => {
    expect(parseProportion("0.75", "x")).toEqual({ share: 0.75 });
    expect(parseProportion(2, "x")).toEqual({ share: 2 });
    expect(parseProportion(".5", "x")).toEqual({ share: 0.5 });
    expect(parseProportion("1e-3", "x")).toEqual({ share: 0.001 });
    expect(parseProportion("3/4", "x")).toEqual({ share: 0.75 });
    expect(parseProportion("500/-1", "x")).toEqual({ count: 500 });
    expect(parseProportion("0/-1", "x")).toEqual({ count: 0 });
  });

  it.each(["half", "-1", "1/0", "5/-2", "1.5/-1", "1/2/3", "NaN", "Infinity", "0x10", "1e999"])(
    "is not %s",
    async (text) => {
      expect(await complaint(() => parseProportion(text, "pets"))).toContain(
        `pets: "${text}" is no proportion; write a share`,
      );
    },
  );

  it("rounds halves to even, as Python does", () => {
    // Python: [round(n * p) for n, p in ((5, .5), (7, .5), (3, .5), (10, .75), (10, .25), (1000, .0005))]
    const cases = [
      [5, 0.5],
      [7, 0.5],
      [3, 0.5],
      [10, 0.75],
      [10, 0.25],
      [1000, 0.0005],
    ];
    expect(cases.map(([n, share]) => wantedOf(n, { share }))).toEqual([2, 4, 2, 8, 2, 0]);
  });

  it("takes whole copies in order, then a draw without replacement", () => {
    const indices = drawn(10, { share: 2.5 }, "pets", 42);
    const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    expect(indices.slice(0, 20)).toEqual([...all, ...all]);
    expect(indices).toHaveLength(25);
    expect(new Set(indices.slice(20)).size).toBe(5);
    expect(drawn(10, { count: 10 }, "pets", 42)).toEqual(all);
    expect(drawn(4, { count: 9 }, "pets", 42)).toHaveLength(9);
    expect(drawn(10, { share: 0 }, "pets", 42)).toEqual([]);
  });

  it("draws by seed and name, uniformly", () => {
    const draw = (name: string, seed: number) => drawn(100, { share: 0.2 }, name, seed);
    expect(draw("pets", 1)).toEqual(draw("pets", 1));
    expect(draw("pets", 1)).not.toEqual(draw("pets", 2));
    expect(draw("pets", 1)).not.toEqual(draw("cars", 1));
    const counts = new Array(5).fill(0);
    for (let seed = 0; seed < 2000; seed++) for (const i of drawn(5, { count: 2 }, "pets", seed)) counts[i]++;
    for (const count of counts) expect(Math.abs(count - 800)).toBeLessThan(5 * Math.sqrt(2000 * 0.4 * 0.6));
  });

  it("that takes nothing of a dataset is an error", async () => {
    expect(await complaint(() => drawn(100, { share: 0.001 }, "pets", 42))).toBe(
      "pets: of its 100 samples this proportion takes none; take more, or leave the dataset out with 0",
    );
    expect(await complaint(() => drawn(0, { share: 1 }, "pets", 42))).not.toBe("");
  });
});

describe("a mixture", () => {
  it("is read from text and from a map alike", () => {
    const parts = [
      { name: "alpaca", proportion: { share: 0.75 } },
      { name: "PKU-SafeRLHF/train", proportion: { share: 1 } },
      { name: "mine", proportion: { count: 20 }, path: "C:\\data\\my pairs.jsonl" },
    ];
    expect(parseMixture("alpaca:0.75, PKU-SafeRLHF/train ,mine:20/-1:C:\\data\\my pairs.jsonl")).toEqual(parts);
    const map = {
      alpaca: 0.75,
      "PKU-SafeRLHF/train": "1",
      mine: { proportion: "20/-1", path: "C:\\data\\my pairs.jsonl" },
    };
    expect(parseMixture(map)).toEqual(parts);
    expect(parseMixture(mixtureText(map))).toEqual(parts);
    expect(parseMixture("hf://datasets/a/b:0.5,D:/x.jsonl:2,a::p,https://host/x")).toEqual([
      { name: "hf://datasets/a/b", proportion: { share: 0.5 } },
      { name: "D:/x.jsonl", proportion: { share: 2 } },
      { name: "a", proportion: { share: 1 }, path: "p" },
      { name: "https://host/x", proportion: { share: 1 } },
    ]);
  });

  it.each([
    ["alpaca:0,Orca:0/-1", /asks for nothing/],
    ["alpaca:0", /the mixture "alpaca:0" asks for nothing/],
    ["alpaca,alpaca:0.5", /names "alpaca" twice/],
    ["alpaca,,Orca", /"" is no part of a mixture/],
    [":0.5", /":0.5" is no part of a mixture/],
    ["alpaca:lots", /alpaca: "lots" is no proportion/],
  ])("%s is refused", async (text, message) => {
    expect(await complaint(() => parseMixture(text))).toMatch(message);
  });

  it("has no part of which nothing is asked", () => {
    expect(parseMixture("gone:0,alpaca:0.5,Orca:0/-1")).toEqual([{ name: "alpaca", proportion: { share: 0.5 } }]);
  });

  it("refuses a map that text cannot say", async () => {
    expect(await complaint(() => mixtureText({ a: { path: "x,y" } }))).toMatch(/must not have a comma/);
    expect(await complaint(() => mixtureText({ a: 0 }))).toMatch(/asks for nothing/);
  });

  it("joins its parts in order, each drawn apart from the others", () => {
    const letters = { name: "letters", proportion: { share: 0.5 }, items: [..."abcdefgh"] };
    const digits = { name: "digits", proportion: { share: 1.5 }, items: [..."01"] };
    const both = mixed([letters, digits]);
    expect(both).toHaveLength(7);
    expect(both.slice(0, 4)).toEqual(mixed([letters]));
    expect(both.slice(4)).toEqual(mixed([digits]));
    expect(mixed([digits, letters]).slice(3)).toEqual(both.slice(0, 4));
  });

  it("can have a name itself, with its samples shuffled", async () => {
    const items = (prefix: string, n: number) => () =>
      Array.from({ length: n }, (_, i) => ({ input: `${prefix}${i}` }));
    registerDataset({ name: "test/a", items: items("a", 10) });
    registerDataset({ name: "test/b", aliases: ["test/bee"], items: items("b", 4) });
    registerDataset({ name: "test/both", mixture: "test/a:0.5,test/b:2" });
    const inputs = (await loadSamples("test/both")).map(({ input }) => input);
    expect(inputs.filter((text) => String(text).startsWith("a"))).toHaveLength(5);
    expect([...inputs].sort().slice(5)).toEqual(["b0", "b0", "b1", "b1", "b2", "b2", "b3", "b3"]);
    expect(inputs.slice(0, 5).every((text) => String(text).startsWith("a"))).toBe(false);
    expect(await loadSamples("test/both")).toEqual(await loadSamples("test/both"));
    registerDataset({ name: "test/twice", mixture: "test/b,test/bee" });
    expect(await complaint(loadSamples("test/twice"))).toMatch(/names "test\/b" twice/);
  });
});
