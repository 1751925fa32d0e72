import { describe, expect, it } from "vitest";
import { loadMixture, registerDataset } from "webrlhf/data";
import { complaint, given } from "./sources.ts";

describe("a mixture as records", () => {
  registerDataset({
    name: "test/load",
    source: { repo: "me/load", split: "train" },
    columns: ["q"],
    sample: (row) => ({
      input: String(row.q),
      answer: "good",
      other_answer: row.other === undefined ? "bad" : String(row.other),
      better: true,
      safer: false,
      is_safe: false,
      is_other_safe: true,
    }),
  });
  registerDataset({ name: "test/talk", items: () => [{ dialogue: ["a", "b", "c", "d"] }] });

  it("of any consumer", async () => {
    const options = given({ q: "1" }, { q: "2" }, { q: "1" });
    const prompt = (q: string) => `\n\nHuman: ${q}\n\nAssistant:`;
    expect(await loadMixture("test/load", "preference", options)).toMatchObject(
      ["1", "2", "1"].map((q) => ({ kind: "preference", prompt: prompt(q), chosen: " good", rejected: " bad" })),
    );
    expect(await loadMixture("test/load:2", "prompt", options)).toMatchObject([
      { prompt: prompt("2") },
      { prompt: prompt("1") },
    ]);
    expect(await loadMixture({ "test/load": "2/-1", "test/talk": 2 }, "supervised", options)).toMatchObject([
      { kind: "prompt_completion", completion: " good" },
      { kind: "prompt_completion", completion: " good" },
      ...Array(2).fill({
        prompt: "",
        answers: [
          [22, 24],
          [46, 48],
        ],
      }),
    ]);
    expect(await loadMixture("test/load:1/3", "safety", options)).toMatchObject([
      { chosen: " bad", rejected: " good", safety: { chosen: true, rejected: false } },
    ]);
  });

  it("says what is left out, and what cannot be used at all", async () => {
    const options = given({ q: "1", other: "good" }, { q: "2" });
    expect(await loadMixture("test/load", "preference", options)).toHaveLength(1);
    expect(options.skipped).toEqual(["both answers are the same"]);
    expect(await complaint(loadMixture("test/load", "preference", given({ q: "1", other: "good" })))).toBe(
      "test/load: none of its 1 rows can be used: both answers are the same (1)",
    );
    registerDataset({
      name: "test/contradictory",
      items: () => [{ input: "q", answer: "a", other_answer: "b", safer: true, is_safe: false, is_other_safe: true }],
    });
    expect(await complaint(loadMixture("test/contradictory", "safety"))).toBe(
      "test/contradictory: none of its samples can be used: the safer answer is labelled unsafe and the other one safe (1)",
    );
    expect(await complaint(loadMixture("test/talk", "preference"))).toMatch(
      /test\/talk: sample 1: preference data needs input, answer, other_answer, better; this sample has no "input"/,
    );
  });

  it("names safety labels that are no labels", async () => {
    const { readRecords } = await import("../../../src/data/readers.ts");
    const { jsonl } = await import("./sources.ts");
    const row = { prompt: "q", chosen: "a", rejected: "b", chosen_is_safe: true, rejected_is_safe: "no" };
    expect(await complaint(readRecords(jsonl("s.jsonl", [row])).next())).toMatch(
      /s\.jsonl:1: "chosen_is_safe" and "rejected_is_safe" must be true or false/,
    );
  });
});
