/** Tokenizers out of GGUF metadata, against the ids that the Rust library gives for the tokenizers they were made from. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isUserError, memoryFiles } from "webrlhf";
import { Tokenizer } from "webrlhf/data";
import { GgufMetadata } from "../../src/io/gguf-metadata.ts";
import { openGgufTokenizer } from "../../src/io/gguf-model.ts";
import { ggufTokenizer } from "../../src/io/gguf-tokenizer.ts";
import { tokenizerMetadata } from "../../src/io/gguf-tokenizer-write.ts";
import { headerOf } from "../../src/io/gguf-write.ts";
import { impliedMerges } from "../../src/io/merges.ts";
import { GgufWriter } from "./gguf-writer.ts";

interface Fixture {
  tokenizer: {
    added_tokens: { id: number; content: string; special: boolean }[];
    model: { vocab: Record<string, number>; merges: [string, string][]; unk_token: string | null };
  };
  rows: { text: string; ids: number[]; decoded: string }[];
}

const fixtureOf = (name: string): Fixture =>
  JSON.parse(readFileSync(new URL(`../data/fixtures/tokenizers/${name}.json`, import.meta.url), "utf8"));

/** What a converter to GGUF makes of a tokenizer.json. */
function metadata({ tokenizer }: Fixture, model: "gpt2" | "llama", more: (w: GgufWriter) => void): GgufWriter {
  const { vocab, merges } = tokenizer.model;
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  for (const { id, content } of tokenizer.added_tokens) tokens[id] = content;
  const kinds = Int32Array.from(tokens, (token) => (/^<0x[0-9A-F]{2}>$/.test(token) ? 6 : 1));
  for (const { id, special } of tokenizer.added_tokens) kinds[id] = special ? 3 : 4;
  const w = new GgufWriter();
  w.text("general.architecture", "llama");
  w.text("tokenizer.ggml.model", model);
  w.texts(
    "tokenizer.ggml.tokens",
    Array.from(tokens, (token, id) => token ?? `[PAD${id}]`),
  );
  w.numbers("tokenizer.ggml.token_type", kinds);
  if (model === "gpt2")
    w.texts(
      "tokenizer.ggml.merges",
      merges.map((pair) => pair.join(" ")),
    );
  more(w);
  return w;
}

async function open(w: GgufWriter): Promise<Tokenizer> {
  const files = memoryFiles();
  await files.writeFile("m.gguf", w.bytes());
  const { json, config } = await openGgufTokenizer(files, "m.gguf");
  return Tokenizer.fromJson(json, config, "m.gguf");
}

function compare(tokenizer: Tokenizer, { rows }: Fixture): void {
  for (const { text, ids, decoded } of rows) {
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
    expect(tokenizer.decode(ids, { skipSpecialTokens: false }), JSON.stringify(text)).toBe(decoded);
  }
  expect(rows.length).toBeGreaterThan(5);
}

describe("byte-level tokenizers", () => {
  it.each([
    ["gpt2", "gpt-2"],
    ["smollm", "smollm"],
    ["llama3", "llama-bpe"],
    ["qwen2", "qwen2"],
    ["neox", "olmo"],
  ])("%s, called %s", async (name, pre) => {
    const fixture = fixtureOf(name);
    compare(await open(metadata(fixture, "gpt2", (w) => w.text("tokenizer.ggml.pre", pre))), fixture);
  });
});

describe("SentencePiece tokenizers", () => {
  it.each([
    ["gemma", false],
    ["llama-normalizer", true],
  ])("%s", async (name, prefix) => {
    const fixture = fixtureOf(name);
    const { vocab, merges, unk_token: unknown } = fixture.tokenizer.model;
    // SentencePiece's scores fall in the order of the merges.
    const rank = new Map(merges.map(([a, b], i) => [a + b, i]));
    const count = 1 + Math.max(...Object.values(vocab), ...fixture.tokenizer.added_tokens.map(({ id }) => id));
    const scores = new Float32Array(count).fill(-1e6);
    for (const [token, id] of Object.entries(vocab)) scores[id] = -(rank.get(token) ?? 1e6);
    const w = metadata(fixture, "llama", (w) => {
      w.numbers("tokenizer.ggml.scores", scores);
      w.flag("tokenizer.ggml.add_space_prefix", prefix);
      w.flag("tokenizer.ggml.add_bos_token", false);
      w.u32("tokenizer.ggml.unknown_token_id", vocab[unknown ?? ""]);
    });
    compare(await open(w), fixture);
  });

  it("puts tokens together in every way that the vocabulary allows, the best first", () => {
    const vocab = new Map(["a", "b", "c", "ab", "bc", "abc", "🙂", "🙂a"].map((token, id) => [token, id]));
    expect(impliedMerges(vocab, [0, 0, 0, -2, -1, -3, 0, -1])).toEqual([
      ["b", "c"],
      ["🙂", "a"],
      ["a", "b"],
      ["ab", "c"],
      ["a", "bc"],
    ]);
  });
});

describe("tokenizers written as metadata", () => {
  const noTokens = { bosId: null, eosIds: [], padId: null };

  /** The tokenizer, through a file's metadata and back. */
  function again(name: string, more: Record<string, unknown> = {}): Tokenizer {
    const json = fixtureOf(name).tokenizer as unknown as Record<string, unknown>;
    const rows = 1000;
    const metadata = tokenizerMetadata({ json, config: { ...more } }, rows, noTokens, name);
    metadata.set("general.architecture", name === "gemma" ? "gemma" : "llama");
    const read = ggufTokenizer(new GgufMetadata(headerOf(metadata, []), name));
    expect(metadata.get("tokenizer.ggml.tokens")).toHaveLength(rows);
    return Tokenizer.fromJson(read.json, read.config, name);
  }

  it.each(["gpt2", "smollm", "llama3", "qwen2", "neox", "gemma", "llama-normalizer"])("%s", (name) => {
    compare(again(name), fixtureOf(name));
  });

  it("llama-metaspace, as far as texts without special tokens go", () => {
    const fixture = fixtureOf("llama-metaspace");
    const special = fixture.tokenizer.added_tokens.map(({ content }) => content);
    const rows = fixture.rows.filter(({ text }) => !special.some((token) => text.includes(token)));
    expect(rows.length).toBeGreaterThan(3);
    const tokenizer = again("llama-metaspace");
    for (const { text, ids } of rows) expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
  });

  it.each([
    ["t5", /its model is "Unigram" and not BPE, which a GGUF file cannot say/],
    ["bert", /its model is "WordPiece"/],
    ["gpt2-prefix-space", /it cuts text in a way .* that has no name/],
    ["deepseek", /it cuts text in a way/],
    ["metaspace-split", /it prepares text in a way/],
  ])("%s is refused", (name, message) => {
    expect(() => again(name)).toThrow(message);
  });

  it("says which tokens come before a text", () => {
    const { tokenizer } = fixtureOf("llama3");
    const before = again("llama3", { bos_token: tokenizer.added_tokens[0].content });
    expect(before.prefixIds).toEqual([tokenizer.added_tokens[0].id]);
    expect(again("gpt2", { bos_token: "<|endoftext|>" }).prefixIds).toEqual([]);
    expect(again("gpt2", { bos_token: "<|endoftext|>", add_bos_token: true }).prefixIds).toHaveLength(1);
  });

  it("refuses a token beyond the model's rows", () => {
    const json = fixtureOf("gpt2").tokenizer as unknown as Record<string, unknown>;
    expect(() => tokenizerMetadata({ json, config: {} }, 100, noTokens, "x")).toThrow(
      /x: token ".*" is \d+, but the model has 100/,
    );
  });
});

describe("what goes around", () => {
  const tokens = ["<unk>", "<s>", "</s>", "▁", "a", "▁a", "  "];
  const base = (more: (w: GgufWriter) => void) => {
    const w = new GgufWriter();
    w.text("general.architecture", "llama");
    w.text("tokenizer.ggml.model", "llama");
    w.texts("tokenizer.ggml.tokens", tokens);
    w.numbers("tokenizer.ggml.token_type", Int32Array.of(2, 3, 3, 1, 1, 1, 4));
    w.numbers("tokenizer.ggml.scores", Float32Array.of(0, 0, 0, -1, -2, -3, -4));
    w.u32("tokenizer.ggml.bos_token_id", 1);
    w.u32("tokenizer.ggml.eos_token_id", 2);
    more(w);
    return w;
  };

  it("adds a beginning unless the file says not to, and an end where it says so", async () => {
    expect((await open(base(() => {}))).encode("a", { addSpecialTokens: true })).toEqual([1, 5]);
    const without = await open(base((w) => w.flag("tokenizer.ggml.add_bos_token", false)));
    expect(without.encode("a", { addSpecialTokens: true })).toEqual([5]);
    const ends = await open(base((w) => w.flag("tokenizer.ggml.add_eos_token", true)));
    expect(ends.encode("a", { addSpecialTokens: true })).toEqual([1, 5, 2]);
    expect([ends.bosId, ends.eosId]).toEqual([1, 2]);
  });

  it("keeps the chat template", async () => {
    const files = memoryFiles();
    await files.writeFile("m.gguf", base((w) => w.text("tokenizer.chat_template", "{{ messages }}")).bytes());
    expect((await openGgufTokenizer(files, "m.gguf")).config.chat_template).toBe("{{ messages }}");
  });

  it.each<[string, GgufWriter, RegExp]>([
    ["no tokenizer", new GgufWriter(), /carries no tokenizer/],
    ["another kind", base((w) => w.set("tokenizer.ggml.model", "t5")), /tokenizer\.ggml\.model "t5" is not supported/],
    [
      "an unknown split",
      base((w) => w.set("tokenizer.ggml.model", "gpt2")),
      /tokenizer\.ggml\.pre null is not supported; gpt-2,/,
    ],
    [
      "a special token that is not there",
      base((w) => w.u32("tokenizer.ggml.padding_token_id", 99)),
      /padding_token_id 99 has no token/,
    ],
    [
      "too few scores",
      base((w) => {
        w.drop("tokenizer.ggml.scores");
        w.numbers("tokenizer.ggml.scores", Float32Array.of(1));
      }),
      /scores has 1 entries for 7 tokens/,
    ],
    [
      "a token twice",
      base((w) => {
        w.drop("tokenizer.ggml.tokens");
        w.texts("tokenizer.ggml.tokens", ["a", "a", "b", "c", "d", "e", "f"]);
      }),
      /tokens 0 and 1 are both "a"/,
    ],
    ["half a merge", base((w) => w.texts("tokenizer.ggml.merges", ["ab"])), /merges has "ab", not two tokens/],
  ])("refuses %s", async (_, w, message) => {
    const error = await open(w).catch((e) => e);
    expect(isUserError(error), error.stack).toBe(true);
    expect(error.message).toMatch(message);
  });
});
