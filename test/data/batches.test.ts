import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import {
  preferenceExample,
  prepareAll,
  promptExample,
  sftExample,
  Tokenizer,
  textExamples,
  trainBpe,
} from "webrlhf/data";

// Nothing is merged: a token per byte, ids by hand. "<|endoftext|>" is 0, "<|pad|>" 1, "a".."e" 2..6.
const tokenizer = Tokenizer.fromTrained(trainBpe(["abcde"], { vocabSize: 7, alphabet: "seen" }));
const record = { kind: "prompt_completion", prompt: "ab", completion: "cde", where: "d.jsonl:4" } as const;

describe("examples", () => {
  it("join prompt, completion and the end of text", () => {
    expect(sftExample(record, tokenizer, { maxLength: 10 })).toEqual({
      ids: Uint32Array.of(2, 3, 4, 5, 6, 0),
      promptLength: 2,
    });
    expect(sftExample(record, tokenizer, { maxLength: 10, appendEos: false }).ids).toEqual(
      Uint32Array.of(2, 3, 4, 5, 6),
    );
  });

  it("are cut at their end, so that a cut answer does not teach to stop", () => {
    expect(sftExample(record, tokenizer, { maxLength: 5 }).ids).toEqual(Uint32Array.of(2, 3, 4, 5, 6));
    expect(sftExample(record, tokenizer, { maxLength: 3 }).ids).toEqual(Uint32Array.of(2, 3, 4));
  });

  it("of preferences share the prompt", () => {
    const pair = { kind: "preference", prompt: "a", chosen: "b", rejected: "cccc" } as const;
    expect(preferenceExample(pair, tokenizer, { maxLength: 4 })).toEqual({
      chosen: Uint32Array.of(2, 3, 0),
      rejected: Uint32Array.of(2, 4, 4, 4),
      promptLength: 1,
    });
  });

  it("end once, also where the answer spells its end", () => {
    const spelled = { ...record, completion: "cde<|endoftext|>" };
    expect(sftExample(spelled, tokenizer, { maxLength: 10 }).ids).toEqual(Uint32Array.of(2, 3, 4, 5, 6, 0));
    const pair = { kind: "preference", prompt: "a", chosen: "b<|endoftext|>", rejected: "c" } as const;
    expect(preferenceExample(pair, tokenizer, { maxLength: 9 })).toMatchObject({
      chosen: Uint32Array.of(2, 3, 0),
      rejected: Uint32Array.of(2, 4, 0),
    });
  });

  it("of long preferences lose the prompt first where a limit says so, then the answers", () => {
    const pair = { kind: "preference", prompt: "abcde", chosen: "bb", rejected: "cccc" } as const;
    const cut = (maxLength: number, maxPromptLength: number, truncationSide: "left" | "right" = "left") => {
      const found = preferenceExample(pair, tokenizer, { maxLength, maxPromptLength, truncationSide });
      return [[...found.chosen], [...found.rejected], found.promptLength];
    };
    const [whole, other] = [
      [2, 3, 4, 5, 6, 3, 3, 0],
      [2, 3, 4, 5, 6, 4, 4, 4, 4, 0],
    ];
    expect(cut(10, 2)).toEqual([whole, other, 5]); // both fit
    expect(cut(9, 3)).toEqual([[4, 5, 6, 3, 3, 0], [4, 5, 6, 4, 4, 4, 4, 0], 3]);
    expect(cut(9, 3, "right")).toEqual([[2, 3, 4, 3, 3, 0], [2, 3, 4, 4, 4, 4, 4, 0], 3]);
    expect(cut(6, 3)).toEqual([[4, 5, 6, 3, 3, 0], [4, 5, 6, 4, 4, 4], 3]);
    expect(() => cut(4, 4)).toThrow(/max_prompt_length 4 leaves no room/);
  });

  it("of text are pieces without loss of a token", () => {
    const text = { kind: "text", text: "abcdeabc" } as const;
    expect(textExamples(text, tokenizer, { maxLength: 4 }).map((e) => [...e.ids])).toEqual([
      [2, 3, 4, 5],
      [6, 2, 3, 4],
    ]);
    expect(textExamples(text, tokenizer, { maxLength: 5 }).map((e) => [...e.ids])).toEqual([
      [2, 3, 4, 5, 6],
      [2, 3, 4, 0],
    ]);
    expect(textExamples({ kind: "text", text: "" }, tokenizer, { maxLength: 5 })).toEqual([]);
  });

  it("begin with the tokens that the tokenizer puts there", () => {
    const json = structuredClone(tokenizer.json) as Record<string, unknown>;
    json.post_processor = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|pad|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<|pad|>": { id: "<|pad|>", ids: [1], tokens: ["<|pad|>"] } },
    };
    const marked = Tokenizer.fromJson(json, tokenizer.configJson);
    expect(sftExample(record, marked, { maxLength: 10 })).toEqual({
      ids: Uint32Array.of(1, 2, 3, 4, 5, 6, 0),
      promptLength: 3,
    });
    expect(promptExample({ kind: "prompt", prompt: "" }, marked, { maxLength: 5 }).ids).toEqual(Uint32Array.of(1));
    // A text that a template wrote elsewhere has them already.
    const spelled = { ...record, prompt: "<|pad|>ab" };
    expect(sftExample(spelled, marked, { maxLength: 10 }).ids).toEqual(Uint32Array.of(1, 2, 3, 4, 5, 6, 0));
  });

  it("name the record whose prompt leaves no room", () => {
    let error: unknown;
    try {
      sftExample(record, tokenizer, { maxLength: 2 });
    } catch (e) {
      error = e;
    }
    expect(isUserError(error)).toBe(true);
    expect((error as Error).message).toMatch(/^d\.jsonl:4: the prompt has 2 tokens .* within 2 tokens/);
    expect(() => promptExample({ kind: "prompt", prompt: "abcde" }, tokenizer, { maxLength: 5 })).toThrow(
      /prompt "abcde": .* no room for an answer within 5 tokens; .* a longer maximum length/,
    );
    const long = { kind: "prompt", prompt: "abcde" } as const;
    expect(promptExample(long, tokenizer, { maxLength: 8, answer: 3 }).ids.length).toBe(5);
    expect(() => promptExample(long, tokenizer, { maxLength: 8, answer: 4 })).toThrow(
      /5 tokens and leaves no room for an answer of 4 tokens within 8 tokens; .* ask for shorter answers/,
    );
    expect(() => promptExample({ kind: "prompt", prompt: "" }, tokenizer, { maxLength: 5 })).toThrow(
      /the prompt is empty/,
    );
  });

  it("can leave out records that are too long", () => {
    const records = [record, { ...record, prompt: "abcd" }, record];
    const make = (r: typeof record) => sftExample(r, tokenizer, { maxLength: 4 });
    const { examples, kept, skipped } = prepareAll(records as (typeof record)[], make, "skip");
    expect([examples.length, kept.length, skipped]).toEqual([2, 2, 1]);
    expect(() => prepareAll(records as (typeof record)[], make)).toThrow(/the prompt has 4 tokens/);
    expect(() => prepareAll([records[1]] as (typeof record)[], make, "skip")).toThrow(/all 1 prompts are too long/);
  });
});
