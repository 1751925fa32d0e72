import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chatCompletions } from "../../src/serve/chat.ts";
import { completions } from "../../src/serve/completions.ts";
import { ApiError } from "../../src/serve/errors.ts";
import { type TinyServer, tinyServer, tokenizer } from "./tiny-server.ts";

let server: TinyServer;
beforeAll(async () => {
  server = await tinyServer({}, { maxWaiting: 1000 });
});
afterAll(() => server.stop());

const nasty = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.double(),
  fc.maxSafeInteger(),
  fc.constantFrom<unknown>(null, true, "", "NaN", [], {}, -0, 1e308, 2 ** 53, "\ud800", "__proto__"),
);
const maybe = <T>(good: fc.Arbitrary<T>) =>
  fc.option(fc.oneof({ weight: 40, arbitrary: good }, nasty), { nil: undefined });

const sampling = {
  model: maybe(fc.constant("tiny")),
  max_tokens: maybe(fc.integer({ min: 0, max: 5 })),
  n: maybe(fc.integer({ min: 1, max: 3 })),
  temperature: maybe(fc.double({ min: 0, max: 3, noNaN: true })),
  top_p: maybe(fc.double({ min: 0, max: 1, noNaN: true })),
  top_k: maybe(fc.integer({ min: -1, max: 500 })),
  min_p: maybe(fc.double({ min: 0, max: 1, noNaN: true })),
  seed: maybe(fc.maxSafeInteger()),
  stop: maybe(fc.oneof(fc.string(), fc.array(fc.string(), { maxLength: 4 }))),
  logit_bias: maybe(fc.dictionary(fc.nat(400).map(String), fc.integer({ min: -100, max: 100 }), { maxKeys: 3 })),
  presence_penalty: maybe(fc.double({ min: -2, max: 2, noNaN: true })),
  frequency_penalty: maybe(fc.double({ min: -2, max: 2, noNaN: true })),
  repetition_penalty: maybe(fc.double({ min: 0.1, max: 3, noNaN: true })),
  min_tokens: maybe(fc.nat(8)),
  ignore_eos: maybe(fc.boolean()),
  stop_token_ids: maybe(fc.array(fc.nat(400), { maxLength: 9 })),
  stream: maybe(fc.boolean()),
  stream_options: maybe(fc.constant({ include_usage: true })),
  return_token_ids: maybe(fc.boolean()),
};
// Never empty: what the tiny vocabulary cannot say has no tokens.
const text = fc.string({ unit: "binary", maxLength: 30 }).map((s) => `Once ${s}`);
const ids = fc.array(fc.nat(tokenizer.vocabSize - 1), { minLength: 1, maxLength: 10 });
const prompt = fc.oneof(
  text,
  ids,
  fc.array(text, { minLength: 1, maxLength: 3 }),
  fc.array(ids, { minLength: 1, maxLength: 2 }),
);
const message = fc.record({
  role: fc.oneof({ weight: 9, arbitrary: fc.constantFrom("system", "user", "assistant", "developer") }, nasty),
  content: fc.oneof({ weight: 9, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) }, nasty),
});

/** Answers a body completely; errors must be the client's. Returns the texts, or the status of the error. */
async function answer(ask: typeof completions, body: unknown): Promise<string[] | number> {
  try {
    const result = await ask(server.model, JSON.parse(JSON.stringify(body)), new AbortController().signal);
    if ("json" in result) {
      const { choices } = JSON.parse(JSON.stringify(result.json)) as { choices: { finish_reason: string }[] };
      expect(choices.every((c) => ["stop", "length"].includes(c.finish_reason))).toBe(true);
      return choices.map((c) => JSON.stringify(c));
    }
    const texts: string[] = [];
    for await (const event of result.events) texts.push(JSON.stringify(event));
    return texts;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    expect([400, 404]).toContain(error.status);
    expect(error.message).not.toMatch(/undefined|\[object/);
    return error.status;
  }
}

describe("requests made of anything", () => {
  it("are answered, or refused as the client's mistake", async () => {
    let answered = 0;
    const body = fc.record(
      {
        prompt: maybe(prompt),
        echo: maybe(fc.boolean()),
        logprobs: maybe(fc.nat(20)),
        suffix: maybe(fc.constant("")),
        ...sampling,
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(body, async (body) => {
        if (Array.isArray(await answer(completions, body))) answered += 1;
      }),
      { numRuns: 100, seed: 3 },
    );
    expect(answered).toBeGreaterThan(3);
    const chat = fc.record(
      {
        messages: maybe(fc.array(message, { maxLength: 3 })),
        logprobs: maybe(fc.boolean()),
        top_logprobs: maybe(fc.nat(20)),
        max_completion_tokens: maybe(fc.integer({ min: 1, max: 5 })),
        tools: fc.option(nasty, { nil: undefined }),
        response_format: fc.option(nasty, { nil: undefined }),
        ...sampling,
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(chat, async (body) => void (await answer(chatCompletions, body))),
      { numRuns: 100, seed: 4 },
    );
    expect(server.model.engine.load).toEqual({ waiting: 0, active: 0 });
    expect(server.model.engine.failed).toBeNull();
  });

  it("are answered in any combination of options that is right", async () => {
    const good = (arbitrary: fc.Arbitrary<unknown>) => fc.option(arbitrary, { nil: undefined });
    const body = fc.record({
      prompt,
      max_tokens: fc.integer({ min: 1, max: 4 }),
      n: good(fc.integer({ min: 1, max: 3 })),
      temperature: good(fc.constantFrom(0, 0.01, 1, 50)),
      top_p: good(fc.constantFrom(0, 0.5, 1)),
      top_k: good(fc.constantFrom(-1, 0, 1, 1000)),
      min_p: good(fc.constantFrom(0, 0.5, 1)),
      logit_bias: good(fc.constantFrom({ 5: 100 }, { 5: -100, 7: 3 })),
      presence_penalty: good(fc.constantFrom(-2, 2)),
      repetition_penalty: good(fc.constantFrom(0.5, 2)),
      stop: good(fc.constantFrom("a", ["e", " "])),
      logprobs: good(fc.constantFrom(0, 1, 20)),
      echo: good(fc.boolean()),
      stream: good(fc.boolean()),
    });
    await fc.assert(
      fc.asyncProperty(body, async (body) => {
        expect(Array.isArray(await answer(completions, body))).toBe(true);
      }),
      { numRuns: 40, seed: 9 },
    );
  });
});
