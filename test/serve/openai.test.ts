import OpenAI, { type APIError, AuthenticationError, BadRequestError, NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CONTEXT, type TinyServer, tinyServer, tokenizer } from "./tiny-server.ts";

let server: TinyServer;
let client: OpenAI;

beforeAll(async () => {
  server = await tinyServer({ apiKey: "secret key" });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "secret key", maxRetries: 0 });
});
afterAll(() => server.stop());

const prompt = "Once there was a cat";
const fixed = { model: "tiny", max_tokens: 12, seed: 5, temperature: 1 };
/** Options of vLLM that the client's types do not know. */
const extra = <T extends object>(options: T) => options as object;

describe("OpenAI's client", () => {
  it("lists the model", async () => {
    const models = await client.models.list();
    expect(models.data.map((m) => m.id)).toEqual(["tiny"]);
    expect((await client.models.retrieve("tiny")).id).toBe("tiny");
    await expect(client.models.retrieve("other")).rejects.toThrow(NotFoundError);
  });

  it("completes text, the same for the same seed", async () => {
    const ask = () => client.completions.create({ ...fixed, prompt });
    const [a, b] = await Promise.all([ask(), ask()]);
    expect(a.choices[0].text).toBe(b.choices[0].text);
    expect(a.object).toBe("text_completion");
    expect(a.choices[0].finish_reason).toMatch(/stop|length/);
    expect(a.usage?.prompt_tokens).toBe(tokenizer.prefixIds.length + tokenizer.encode(prompt).length);
    expect(a.usage?.total_tokens).toBe((a.usage?.prompt_tokens ?? 0) + (a.usage?.completion_tokens ?? 0));
    const other = await client.completions.create({ ...fixed, prompt, seed: 6 });
    expect(other.choices[0].text).not.toBe(a.choices[0].text);
  });

  it("completes several prompts, texts or ids, several times each", async () => {
    const ids = [...tokenizer.prefixIds, ...tokenizer.encode(prompt)];
    const text = await client.completions.create({ ...fixed, prompt: [prompt, "The dog"], n: 2 });
    const tokens = await client.completions.create({ ...fixed, prompt: [ids], n: 2 });
    const single = await client.completions.create({ ...fixed, prompt: ids });
    expect(text.choices.map((c) => c.index)).toEqual([0, 1, 2, 3]);
    expect(tokens.choices.map((c) => c.text)).toEqual(text.choices.slice(0, 2).map((c) => c.text));
    expect(single.choices[0].text).toBe(text.choices[0].text);
    expect(text.choices[0].text).not.toBe(text.choices[1].text);
  });

  it("returns token ids as vLLM does", async () => {
    const response = await client.completions.create({ ...fixed, prompt, ...extra({ return_token_ids: true }) });
    const choice = response.choices[0] as unknown as { token_ids: number[]; prompt_token_ids: number[]; text: string };
    expect(choice.token_ids.length).toBe(response.usage?.completion_tokens);
    expect(tokenizer.decode(choice.token_ids)).toBe(choice.text);
    expect(choice.prompt_token_ids).toEqual([...tokenizer.prefixIds, ...tokenizer.encode(prompt)]);
  });

  it("gives log-probabilities, of an echoed prompt too", async () => {
    const response = await client.completions.create({ ...fixed, prompt, logprobs: 3, echo: true, temperature: 0 });
    const [choice] = response.choices;
    expect(choice.text.startsWith(prompt)).toBe(true);
    const { tokens = [], token_logprobs = [], top_logprobs = [], text_offset = [] } = choice.logprobs ?? {};
    expect(tokens.length).toBe(response.usage?.total_tokens);
    expect(token_logprobs[0]).toBeNull();
    expect(token_logprobs.slice(1).every((p) => p < 0)).toBe(true);
    expect(Object.keys(top_logprobs[3] ?? {}).length).toBeGreaterThanOrEqual(3);
    tokens.slice(0, -1).forEach((token, i) => {
      expect(text_offset[i + 1] - text_offset[i]).toBe(token.length);
    });
    // Greedy: what was chosen is the most probable.
    const chosen = tokens.length - 1;
    expect(Math.max(...Object.values(top_logprobs[chosen] ?? {}))).toBe(token_logprobs[chosen]);
    // Scoring alone, as evaluation harnesses do.
    const scored = await client.completions.create({ model: "tiny", prompt, max_tokens: 0, echo: true, logprobs: 1 });
    expect(scored.choices[0].text).toBe(prompt);
    expect(scored.choices[0].logprobs?.token_logprobs).toEqual(token_logprobs.slice(0, response.usage?.prompt_tokens));
    expect(scored.usage?.completion_tokens).toBe(0);
  });

  it("streams the same text", async () => {
    const whole = await client.completions.create({ ...fixed, prompt, n: 2, logprobs: 0 });
    const stream = await client.completions.create({
      ...fixed,
      prompt,
      n: 2,
      logprobs: 0,
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts = ["", ""];
    const logProbs: number[][] = [[], []];
    const finish: (string | null)[] = [null, null];
    let usage: unknown;
    for await (const chunk of stream) {
      for (const { index, text, finish_reason, logprobs } of chunk.choices) {
        texts[index] += text;
        logProbs[index].push(...(logprobs?.token_logprobs ?? []));
        finish[index] = finish_reason ?? finish[index];
      }
      usage = chunk.usage ?? usage;
    }
    expect(texts).toEqual(whole.choices.map((c) => c.text));
    expect(finish).toEqual(whole.choices.map((c) => c.finish_reason));
    expect(logProbs.map((l) => l.length)).toEqual(whole.choices.map((c) => c.logprobs?.tokens?.length));
    expect(usage).toEqual(whole.usage);
  });

  it("stops at stop strings, also across tokens, and never shows them", async () => {
    const whole = await client.completions.create({ ...fixed, prompt, max_tokens: 40 });
    const text = whole.choices[0].text;
    const stop = text.slice(10, 14);
    const at = text.indexOf(stop);
    const request = { ...fixed, prompt, max_tokens: 40, stop: ["never occurs", stop] };
    const cut = await client.completions.create(request);
    expect(cut.choices[0]).toMatchObject({ text: text.slice(0, at), finish_reason: "stop", stop_reason: stop });
    expect(cut.usage?.completion_tokens).toBeLessThan(whole.usage?.completion_tokens ?? 0);
    let streamed = "";
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      streamed += chunk.choices[0].text;
    }
    expect(streamed).toBe(text.slice(0, at));
  });

  it("bends the distribution as asked", async () => {
    const ids = async (options: object) => {
      const response = await client.completions.create({
        ...fixed,
        prompt,
        ...extra({ return_token_ids: true, ignore_eos: true, ...options }),
      });
      return (response.choices[0] as unknown as { token_ids: number[] }).token_ids;
    };
    expect(new Set(await ids({ logit_bias: { 300: 100 } }))).toEqual(new Set([300]));
    const greedy = await ids({ temperature: 0 });
    expect(await ids({ top_k: 1 })).toEqual(greedy);
    expect(await ids({ min_p: 1 })).toEqual(greedy);
    expect(await ids({ top_p: 0 })).toEqual(greedy);
    const penalised = await ids({ temperature: 0, frequency_penalty: 2, presence_penalty: 2, max_tokens: 30 });
    expect(new Set(penalised).size).toBe(30);
    const ended = await client.completions.create({
      ...fixed,
      prompt,
      ...extra({ stop_token_ids: [greedy[0]], top_k: 1 }),
    });
    expect(ended).toMatchObject({ choices: [{ text: "", finish_reason: "stop" }], usage: { completion_tokens: 1 } });
  });

  it("chats, whole and streamed, with log-probabilities", async () => {
    const messages = [
      { role: "system" as const, content: "Be kind." },
      { role: "user" as const, content: [{ type: "text" as const, text: "Hello" }] },
    ];
    const request = {
      model: "tiny",
      messages,
      max_completion_tokens: 9,
      seed: 1,
      logprobs: true,
      top_logprobs: 2,
      n: 2,
    };
    const whole = await client.chat.completions.create(request);
    expect(whole.object).toBe("chat.completion");
    for (const choice of whole.choices) {
      expect(choice.message.role).toBe("assistant");
      const content = choice.logprobs?.content ?? [];
      const counted = new Blob(content.map((c) => new Uint8Array(c.bytes ?? []))).size;
      expect(counted).toBeGreaterThan(0);
      expect(content.every((c) => c.top_logprobs.length === 2 && c.logprob <= 0)).toBe(true);
      expect(content.every((c) => c.top_logprobs[0].logprob >= c.top_logprobs[1].logprob)).toBe(true);
    }
    const texts = ["", ""];
    const roles: string[] = [];
    let usage: unknown;
    const stream = await client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      for (const { index, delta } of chunk.choices) {
        texts[index] += delta.content ?? "";
        if (delta.role) roles.push(delta.role);
      }
      usage = chunk.usage ?? usage;
    }
    expect(texts).toEqual(whole.choices.map((c) => c.message.content));
    expect(roles).toEqual(["assistant", "assistant"]);
    expect(usage).toEqual(whole.usage);
  });

  it("fills the rest of the context when a chat names no length", async () => {
    const response = await client.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: "Hello" }],
      ...extra({ ignore_eos: true }),
    });
    expect(response.usage?.total_tokens).toBe(CONTEXT);
    expect(response.choices[0].finish_reason).toBe("length");
  });

  const complete = (more: object) => client.completions.create({ model: "tiny", prompt, max_tokens: 4, ...more });
  const user = { role: "user" as const, content: "Hi" };
  const chat = (more: object) => client.chat.completions.create({ model: "tiny", messages: [user], ...more });
  it.each<[string, () => Promise<unknown>, RegExp, string | null]>([
    ["a wrong type", () => complete({ temperature: "hot" }), /temperature must be a number/, "temperature"],
    ["a wrong range", () => complete({ top_p: 1.5 }), /top_p must be a number from 0 to 1/, "top_p"],
    ["a wrong count", () => complete({ n: 0 }), /n must be an integer/, "n"],
    ["a wrong prompt", () => complete({ prompt: [[1.5]] }), /prompt must be/, "prompt"],
    ["a foreign token", () => complete({ prompt: [99999] }), /99999/, "prompt"],
    ["an empty prompt", () => complete({ prompt: "" }), /empty/, "prompt"],
    ["a foreign bias", () => complete({ logit_bias: { 99999: 1 } }), /logit_bias/, "logit_bias"],
    ["too strong a bias", () => complete({ logit_bias: { 5: 200 } }), /-100 to 100/, "logit_bias"],
    [
      "an unknown field",
      () => complete({ temprature: 1 }),
      /Unrecognized request argument supplied: temprature/,
      "temprature",
    ],
    ["what is not offered", () => complete({ best_of: 5 }), /best_of 5 is not supported/, "best_of"],
    ["too many tokens", () => complete({ max_tokens: 500 }), /maximum context length is 128 tokens/, "messages"],
    ["too long a text", () => complete({ prompt: "a ".repeat(40000) }), /characters/, null],
    ["usage without a stream", () => complete({ stream_options: {} }), /stream: true/, "stream_options"],
    ["no messages", () => chat({ messages: [] }), /at least one message/, "messages"],
    ["a foreign role", () => chat({ messages: [{ role: "cat", content: "x" }] }), /role must be/, "messages[0].role"],
    [
      "an image",
      () => chat({ messages: [{ role: "user", content: [{ type: "image_url" }] }] }),
      /only parts of type "text"/,
      "messages[0].content",
    ],
    ["tools", () => chat({ tools: [{ type: "function" }] }), /tools .* is not supported/, "tools"],
    ["alternatives alone", () => chat({ top_logprobs: 2 }), /logprobs: true/, "top_logprobs"],
  ])("is told about %s", async (_, ask, message, param) => {
    const error = await ask().then(
      () => null,
      (e: APIError) => e,
    );
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({ status: 400, type: "invalid_request_error", param });
    expect(error?.message).toMatch(message);
  });

  it("is told about wrong models and keys", async () => {
    await expect(complete({ model: "gpt-4" })).rejects.toMatchObject({ status: 404, code: "model_not_found" });
    for (const apiKey of ["wrong", "secret ke", "secret key2"]) {
      const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
      await expect(stranger.models.list()).rejects.toThrow(AuthenticationError);
    }
  });

  it("may hang up in the middle: the slot is free again", async () => {
    const stream = await client.completions.create({
      model: "tiny",
      prompt,
      max_tokens: 100,
      stream: true,
      ...extra({ ignore_eos: true }),
    });
    for await (const _ of stream) break;
    await expect.poll(() => server.model.engine.load).toEqual({ waiting: 0, active: 0 });
    expect((await complete({ seed: 1 })).choices.length).toBe(1);
  });
});
