import { describe, expect, it } from "vitest";
import { addressOf, readAddress } from "../../../demo/src/lib/lesson/address.ts";
import {
  choices,
  effective,
  fitted,
  type Knobs,
  ofMethod,
  sameRun,
  specs,
} from "../../../demo/src/playground/knobs.ts";
import { addressOfKnobs, lesson, presetKnobs } from "../../../demo/src/playground/lesson.ts";
import { presets } from "../../../demo/src/playground/presets.ts";
import { words } from "../../../demo/src/playground/words.ts";

const defaults = lesson.input("S", 42);
/** What a link's hash restores. */
const restored = (hash: string): Knobs => {
  const { size = "S", seed = 42, asked } = readAddress(hash);
  return lesson.parse({ ...lesson.input(size, seed), ...asked });
};

describe("the knobs in an address", () => {
  it("survive the way there and back, whatever is asked", () => {
    for (const method of choices) {
      for (const spec of specs) {
        for (const value of [spec.min, spec.max]) {
          const knobs = { ...defaults, ...ofMethod[method], method, [spec.key]: value, seed: 7 };
          expect(restored(addressOf(addressOfKnobs(knobs)))).toEqual(knobs);
        }
      }
    }
    expect(restored("")).toEqual(defaults);
    expect(addressOf(addressOfKnobs(defaults))).toBe("#size=S&seed=42");
    expect(restored(addressOf(addressOfKnobs(lesson.input("L", 3))))).toEqual(lesson.input("L", 3));
  });

  it("are refused in words where they cannot be", () => {
    const refuse = (asked: unknown) =>
      expect(() => restored(`#${new URLSearchParams({ ask: JSON.stringify(asked) })}`)).toThrow();
    for (const { key, min, max, whole } of specs) {
      for (const value of [min - 1, max + 1, "8", null, ...(whole ? [min + 0.5] : [])]) refuse({ [key]: value });
    }
    for (const asked of [
      { method: "dream" },
      { seed: -1 },
      { seed: 1.5 },
      { other: 1 },
      { __proto__: null, more: [] },
    ]) {
      refuse(asked);
    }
    expect(() => lesson.parse(null)).toThrow();
    expect(() => restored("#seed=x")).toThrow(/seed is a whole number/);
  });

  it("stay within what the trainers can take when they are typed", () => {
    for (const spec of specs) {
      expect(fitted(spec, defaults[spec.key], -1)).toBe(defaults[spec.key]);
      expect(fitted(spec, Number.NaN, 5)).toBe(5);
      expect(fitted(spec, 1e9, 0)).toBe(spec.max);
      expect(fitted(spec, -1e9, 0)).toBe(spec.min);
      if (spec.whole) expect(Number.isInteger(fitted(spec, spec.min + 0.6, 0))).toBe(true);
      for (const value of [spec.min, spec.max]) expect(lesson.parse({ ...defaults, [spec.key]: value })).toBeTruthy();
    }
  });
});

describe("a size", () => {
  it("changes nothing of the question, and grows from S to L", () => {
    const [small, middle, large] = (["S", "M", "L"] as const).map((size) => lesson.input(size, 42));
    for (const { key, role } of specs) {
      if (role === "question") expect(new Set([small[key], middle[key], large[key]]).size, key).toBe(1);
      else {
        expect(small[key], key).toBeLessThan(middle[key]);
        expect(middle[key], key).toBeLessThan(large[key]);
      }
    }
  });
});

describe("the page's questions", () => {
  it("are known again by their links, and only they", () => {
    for (const preset of presets) {
      const knobs = restored(addressOf(addressOfKnobs(presetKnobs(preset))));
      expect(presets.filter((other) => sameRun(presetKnobs(other), knobs))).toEqual([preset]);
      expect(lesson.recorded.map(({ input }) => input)).toContainEqual(knobs);
      expect(presets.some((other) => sameRun(presetKnobs(other), { ...knobs, seed: 1 }))).toBe(false);
    }
  });

  it("do not change with a knob that the method does not have", () => {
    const raft = { ...defaults, ...ofMethod.raft, method: "raft" as const };
    expect(sameRun(raft, { ...raft, klCoef: 0.5, beta: 2, budget: 9000 })).toBe(true);
    expect(sameRun(raft, { ...raft, group: 4 })).toBe(false);
    expect(effective({ ...defaults, method: "best-of-n" })).toEqual({
      method: "best-of-n",
      group: 8,
      pairs: 256,
      seed: 42,
    });
  });
});

describe("the words", () => {
  it("name each knob and each method in both languages", () => {
    for (const { methods, knob, terms } of Object.values(words)) {
      expect(Object.keys(methods).sort()).toEqual([...choices].sort());
      expect(Object.keys(knob).sort()).toEqual(specs.map(({ key }) => key).sort());
      for (const texts of Object.values(knob)) expect(texts.every((text) => text.length > 0)).toBe(true);
      expect(terms.length).toBe(words.en.terms.length);
    }
  });
});
