import { describe, expect, it } from "vitest";
import {
  type Answer,
  agreement,
  consistency,
  fromJsonLines,
  keepAnswers,
  labelsOf,
  pooled,
  readAnswers,
  type Shelf,
  toJsonLines,
} from "../../../demo/src/lib/labels.ts";

const answer = (name: string, choice: Answer["choice"], swapped = false): Answer => ({
  prompt: `prompt ${name}`,
  left: swapped ? `${name} two` : `${name} one`,
  right: swapped ? `${name} one` : `${name} two`,
  choice,
});

function shelf(content: Record<string, string> = {}): Shelf & { content: Record<string, string> } {
  return {
    content,
    getItem: (key) => content[key] ?? null,
    setItem: (key, value) => {
      content[key] = value;
    },
    removeItem: (key) => {
      delete content[key];
    },
  };
}

describe("labels", () => {
  it("are the first decisions; a pair that comes again with its sides swapped shows how steady one is", () => {
    const answers = [
      answer("a", "left"),
      answer("b", "none"),
      answer("c", "right"),
      answer("a", "right", true), // the same story
      answer("c", "right", true), // the other story
      answer("b", "left"),
    ];
    expect(labelsOf(answers)).toEqual([
      { prompt: "prompt a", chosen: "a one", rejected: "a two" },
      { prompt: "prompt c", chosen: "c two", rejected: "c one" },
      { prompt: "prompt b", chosen: "b one", rejected: "b two" },
    ]);
    expect(consistency(answers)).toEqual({ same: 1, of: 2 });
  });

  it("go out in TRL's columns and come in again, with further columns left out", () => {
    const labels = labelsOf([answer('quoted "a"\n', "left"), answer("b", "right")]);
    const text = toJsonLines(labels);
    expect(
      text
        .trimEnd()
        .split("\n")
        .map((line) => Object.keys(JSON.parse(line))),
    ).toEqual(labels.map(() => ["prompt", "chosen", "rejected"]));
    const more = text.replaceAll('{"prompt"', '{"who":"me","prompt"').replaceAll("\n", "\r\n\r\n");
    expect(fromJsonLines(more)).toEqual(labels);
  });

  it("are refused with the line that is none", () => {
    const good = '{"prompt":"p","chosen":"a","rejected":"b"}\n';
    expect(() => fromJsonLines("")).toThrow("no labels");
    expect(() => fromJsonLines(`${good}{`)).toThrow("Line 2 is no JSON");
    expect(() => fromJsonLines(`${good}\n${good}{"prompt":"p","chosen":7,"rejected":"b"}`)).toThrow(
      /Line 4 .*“chosen”/,
    );
    expect(() => fromJsonLines('{"prompt":"p","chosen":"a"}')).toThrow(/Line 1 .*rejected/);
    expect(() => fromJsonLines(good.replace('"b"', '"a"'))).toThrow("both answers are the same");
    expect(() => fromJsonLines(good.replace('"b"', JSON.stringify("x".repeat(8001))))).toThrow("8,000 characters");
    expect(() => fromJsonLines(good.repeat(5001))).toThrow("5,000 labels");
  });

  it("of several people are pooled, and compared pair by pair", () => {
    const mine = labelsOf([answer("a", "left"), answer("b", "left"), answer("c", "left")]);
    const theirs = labelsOf([answer("b", "right"), answer("a", "right", true), answer("d", "left")]);
    expect(agreement(mine, theirs)).toEqual({ same: 1, of: 2 });
    expect(agreement(theirs, mine)).toEqual({ same: 1, of: 2 });
    expect(pooled([mine, theirs])).toHaveLength(6);
  });

  it("lie in the browser until they are forgotten; damaged ones are as none", () => {
    const kept = shelf();
    const answers = [answer("a", "left"), answer("b", "none")];
    expect(keepAnswers(kept, answers)).toBe(true);
    expect(readAnswers(kept)).toEqual(answers);
    const [place] = Object.keys(kept.content);
    for (const damaged of ["{", "7", '[{"prompt":"p"}]', '[{"prompt":"p","left":"a","right":"b","choice":"up"}]']) {
      expect(readAnswers(shelf({ [place]: damaged }))).toEqual([]);
    }
    keepAnswers(kept, []);
    expect(kept.content).toEqual({});
    const full = {
      ...shelf(),
      setItem: () => {
        throw new Error("quota");
      },
    };
    expect(keepAnswers(full, answers)).toBe(false);
  });
});
