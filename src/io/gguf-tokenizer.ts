/**
 * tokenizer.json and tokenizer_config.json out of a GGUF file's metadata. The metadata holds the vocabulary and the merges,
 * but only names of how text is normalised and cut into words; those rules are written down here.
 */

import { bpeModel } from "./bpe-model.ts";
import type { GgufMetadata } from "./gguf-metadata.ts";
import { impliedMerges } from "./merges.ts";

/** What tokenizer.json and tokenizer_config.json hold. */
export interface TokenizerFiles {
  json: Record<string, unknown>;
  config: Record<string, unknown>;
}

type Json = Record<string, unknown>;

/** Kinds of tokens, in ggml's numbers. */
export const UNKNOWN = 2;
export const CONTROL = 3;
export const USER_DEFINED = 4;

export function ggufTokenizer(meta: GgufMetadata): TokenizerFiles {
  const tokens = meta.texts("tokenizer.ggml.tokens");
  if (!tokens || tokens.length === 0) return meta.fail("it carries no tokenizer: name one with tokenizer_name_or_path");
  const kinds = meta.numbers("tokenizer.ggml.token_type");
  if (kinds && kinds.length !== tokens.length) {
    meta.fail(`tokenizer.ggml.token_type has ${kinds.length} entries for ${tokens.length} tokens`);
  }
  const model = meta.text("tokenizer.ggml.model");
  if (model !== "gpt2" && model !== "llama") {
    return meta.fail(`tokenizer.ggml.model ${JSON.stringify(model)} is not supported; "gpt2" and "llama" are`);
  }
  const graph = model === "gpt2" ? byteLevel(meta, tokens) : sentencePiece(meta, tokens);
  // What converters keep whole: a run of spaces is a token of the vocabulary's own, written with its sign for spaces.
  const added = tokens.flatMap((content, id) => {
    const kind = kinds?.[id];
    if (kind !== UNKNOWN && kind !== CONTROL && kind !== USER_DEFINED) return [];
    if (content === "" || (model === "llama" && isSpaces(content))) return [];
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, ...plain, special: kind !== USER_DEFINED }];
  });
  const special = (name: string): string | undefined => {
    const id = meta.optional(`tokenizer.ggml.${name}_token_id`);
    if (id !== undefined && tokens[id] === undefined) meta.fail(`tokenizer.ggml.${name}_token_id ${id} has no token`);
    return id === undefined ? undefined : tokens[id];
  };
  const bos = special("bos");
  const eos = special("eos");
  const addBos = meta.flag("tokenizer.ggml.add_bos_token") ?? (model === "llama" || isLlama3(meta));
  const addEos = meta.flag("tokenizer.ggml.add_eos_token") ?? false;
  const before = addBos && bos !== undefined ? bos : null;
  const after = addEos && eos !== undefined ? eos : null;
  const template = meta.text("tokenizer.chat_template");
  return {
    json: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      ...graph,
      post_processor: before === null && after === null ? null : surround(tokens, before, after),
    },
    config: {
      ...defined({ bos_token: bos, eos_token: eos, unk_token: special("unknown"), pad_token: special("padding") }),
      add_bos_token: before !== null,
      add_eos_token: after !== null,
      clean_up_tokenization_spaces: false,
      ...defined({ chat_template: template }),
      tokenizer_class: "PreTrainedTokenizerFast",
    },
  };
}

const defined = (entries: Record<string, string | undefined>): Json =>
  Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined));

const isSpaces = (token: string): boolean => /^ {2,}$/.test(token);

/** Puts tokens before and after a text. */
function surround(tokens: readonly string[], before: string | null, after: string | null): Json {
  const part = (token: string | null, type: number) =>
    token === null ? [] : [{ SpecialToken: { id: token, type_id: type } }];
  const around = (id: string, type: number) => [
    ...part(before, type),
    { Sequence: { id, type_id: type } },
    ...part(after, type),
  ];
  const used = [before, after].filter((token) => token !== null);
  return {
    type: "TemplateProcessing",
    single: around("A", 0),
    pair: [...around("A", 0), ...around("B", 1)],
    special_tokens: Object.fromEntries(
      used.map((token) => [token, { id: token, ids: [tokens.indexOf(token)], tokens: [token] }]),
    ),
  };
}

/** Ids by token. Texts that occur twice would lose an id. */
function vocabulary(meta: GgufMetadata, tokens: readonly string[]): Map<string, number> {
  const vocab = new Map<string, number>();
  tokens.forEach((token, id) => {
    const twin = vocab.get(token);
    if (twin !== undefined) meta.fail(`tokens ${twin} and ${id} are both ${JSON.stringify(token)}`);
    vocab.set(token, id);
  });
  return vocab;
}

/** The merges that the file lists, or undefined. */
function listedMerges(meta: GgufMetadata): [string, string][] | undefined {
  return meta.texts("tokenizer.ggml.merges")?.map((merge) => {
    const at = merge.indexOf(" ", 1); // the left part may itself be a space
    if (at < 1 || at === merge.length - 1)
      meta.fail(`tokenizer.ggml.merges has ${JSON.stringify(merge)}, not two tokens`);
    return [merge.slice(0, at), merge.slice(at + 1)];
  });
}

// --- SentencePiece ---

const SPACE = "▁";
const replaceSpaces = { type: "Replace", pattern: { String: " " }, content: SPACE };

function sentencePiece(meta: GgufMetadata, tokens: readonly string[]): Json {
  const vocab = vocabulary(
    meta,
    tokens.map((token) => (isSpaces(token) ? SPACE.repeat(token.length) : token)),
  );
  const scores = meta.numbers("tokenizer.ggml.scores");
  const isGemma = meta.text("general.architecture")?.startsWith("gemma") ?? false;
  if (scores && scores.length !== tokens.length) {
    meta.fail(`tokenizer.ggml.scores has ${scores.length} entries for ${tokens.length} tokens`);
  }
  // Gemma's scores are not in the order of its merges; the order of its tokens is.
  const rank = isGemma
    ? tokens.map((_, id) => -id)
    : (scores ?? meta.fail("metadata tokenizer.ggml.scores is missing"));
  const merges = listedMerges(meta) ?? impliedMerges(vocab, rank);
  const unknown = tokens[meta.optional("tokenizer.ggml.unknown_token_id") ?? 0] ?? null;
  const prefix = meta.flag("tokenizer.ggml.add_space_prefix") ?? true;
  const back = [
    { type: "Replace", pattern: { String: SPACE }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  return {
    normalizer: prefix
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: SPACE }, replaceSpaces] }
      : replaceSpaces,
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: prefix ? [...back, { type: "Strip", content: " ", start: 1, stop: 0 }] : back,
    },
    model: bpeModel(vocab, merges, { unk_token: unknown, fuse_unk: true, byte_fallback: true }),
  };
}

// --- byte-level BPE ---

const bytes = (useRegex: boolean) => ({
  type: "ByteLevel",
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});
const sequence = (...pretokenizers: Json[]): Json => ({ type: "Sequence", pretokenizers });
const split = (pattern: string): Json =>
  sequence({ type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false }, bytes(false));

const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN2 = LLAMA3.replace("\\p{N}{1,3}", "\\p{N}");

interface Words {
  pre_tokenizer: Json;
  normalizer?: Json;
  /** A word that is a token is that token, whatever the merges say. */
  ignoreMerges?: boolean;
}

const gpt2Words: Words = { pre_tokenizer: bytes(true) };
const digits: Words = { pre_tokenizer: sequence({ type: "Digits", individual_digits: true }, bytes(true)) };
const llama3: Words = { pre_tokenizer: split(LLAMA3), ignoreMerges: true };
const qwen2: Words = { pre_tokenizer: split(QWEN2), normalizer: { type: "NFC" } };
const neox: Words = { pre_tokenizer: bytes(true), normalizer: { type: "NFC" } };

/** How text is cut into words, by `tokenizer.ggml.pre`. */
const words: Readonly<Record<string, Words>> = {
  "gpt-2": gpt2Words,
  olmo: neox,
  smollm: digits,
  starcoder: digits,
  refact: digits,
  codeshell: digits,
  "llama-bpe": llama3,
  llama3,
  "llama-v3": llama3,
  falcon3: llama3,
  qwen2,
  "deepseek-r1-qwen": qwen2,
};

/** The first name that says how a tokenizer.json cuts text into words; null where none does. */
export function nameOfWords({ normalizer, pre_tokenizer, model }: Json): string | null {
  const ignoreMerges = (model as Json | undefined)?.ignore_merges === true;
  const wanted = rule({ normalizer, pre_tokenizer, ignoreMerges });
  return Object.keys(words).find((name) => rule(words[name]) === wanted) ?? null;
}

/** What counts of it, whichever way it is written. */
function rule({ normalizer, pre_tokenizer, ignoreMerges = false }: { [K in keyof Words]?: unknown }): string {
  const step = (part: unknown): unknown[] => {
    if (!part) return [];
    const { type, pretokenizers, normalizers, ...rest } = part as Json & { [K in `${string}s`]?: unknown[] };
    if (type === "Sequence") return ((pretokenizers ?? normalizers) as unknown[]).flatMap(step);
    if (type !== "ByteLevel") return [[type, Object.entries(rest).sort()]];
    return [[type, rest.add_prefix_space ?? true, rest.use_regex ?? true]]; // offsets do not count
  };
  return JSON.stringify([step(normalizer), step(pre_tokenizer), ignoreMerges]);
}

const isLlama3 = (meta: GgufMetadata): boolean => words[meta.text("tokenizer.ggml.pre") ?? ""] === llama3;

function byteLevel(meta: GgufMetadata, tokens: readonly string[]): Json {
  const pre = meta.text("tokenizer.ggml.pre");
  const byArchitecture: Record<string, Words> = { gpt2: gpt2Words, gptneox: neox };
  const arch = meta.text("general.architecture") ?? "";
  // Older files do not say how; for these models there is only one way.
  const unsaid = pre === undefined || pre === "default" ? byArchitecture[arch] : undefined;
  const rules = unsaid ?? (Object.hasOwn(words, pre ?? "") ? words[pre as string] : undefined);
  if (!rules) {
    return meta.fail(
      `tokenizer.ggml.pre ${JSON.stringify(pre ?? null)} is not supported; ${Object.keys(words).join(", ")} are. ` +
        "Name another tokenizer with tokenizer_name_or_path",
    );
  }
  const merges = listedMerges(meta) ?? meta.fail("metadata tokenizer.ggml.merges is missing");
  return {
    normalizer: rules.normalizer ?? null,
    pre_tokenizer: rules.pre_tokenizer,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: bpeModel(vocabulary(meta, tokens), merges, { ignore_merges: rules.ignoreMerges ?? false }),
  };
}
