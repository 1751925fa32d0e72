/** Damaged tokenizer.json files: other options, and parts of other kinds of tokenizers. */
import { readdirSync, readFileSync } from "node:fs";
import { RandomStream } from "../../src/runtime/rng.ts";
import { damage, type Pairs, pick, type Tree, treeOf, written } from "./json-tree.ts";

const folder = new URL("../data/fixtures/tokenizers/", import.meta.url);
type Graph = Record<string, unknown> & { model: Record<string, unknown> };
const graphs: Graph[] = readdirSync(folder)
  .filter((name) => name !== "strings.json")
  .map((name) => JSON.parse(readFileSync(new URL(name, folder), "utf8")).tokenizer);

/** Texts that are encoded, in the order of the reference's rows. */
export const TEXTS = [
  "",
  " ",
  "the ranks went on it",
  "  Hello,  World! ",
  "don't I'm WE'LL they've",
  "a\tb\r\n\n c\n",
  "naïve café Ünïcode ﬁ Å",
  "12 345 1234567 3.14 ½ ²",
  "日本語 中文テキスト 한국어",
  "🙂👍🏽 👩‍👩‍👧 x",
  "▁ ▁▁ _ __ Ġ",
  "<s> </s> <unk> <pad> <bos> [MASK] [CLS]",
  "<|endoftext|>x<|im_start|> <think>y</think>",
  "$& \\ {} () [] // == != ...",
  "مرحبا שלום हिन्दी ไทย",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "\u00a0\u200b\u3000\ufeff\u2028x\u0085",
  "é e\u0301 \u1e9b\u0323",
  "ΑΣ ΣΑΣ İ ß",
  "The quick brown fox. Jumps?  Over, it's   lazy!",
];

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"];
const split = (pattern: object) =>
  BEHAVIORS.flatMap((behavior) => [true, false].map((invert) => ({ type: "Split", pattern, behavior, invert })));
const NORMALIZERS: unknown[] = [
  null,
  ...["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"].map((type) => ({ type })),
  { type: "Strip", strip_left: true, strip_right: true },
  { type: "Strip", strip_left: true, strip_right: false },
  { type: "Prepend", prepend: "▁" },
  { type: "Replace", pattern: { String: " " }, content: "▁" },
  { type: "Replace", pattern: { Regex: "\\s+" }, content: " " },
  { type: "Replace", pattern: { String: "a" }, content: "$&" },
  { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
];
const PRE_TOKENIZERS: unknown[] = [
  null,
  ...["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts"].map((type) => ({ type })),
  { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
  ...["always", "first", "never"].map((prepend_scheme) => ({
    type: "Metaspace",
    replacement: "▁",
    prepend_scheme,
    split: prepend_scheme !== "first",
  })),
  ...BEHAVIORS.map((behavior) => ({ type: "Punctuation", behavior })),
  { type: "Digits", individual_digits: true },
  { type: "Digits", individual_digits: false },
  { type: "CharDelimiterSplit", delimiter: " " },
  { type: "FixedLength", length: 3 },
  ...split({ String: " " }),
  ...split({ String: "aa" }),
  ...split({ Regex: "\\s+|\\d" }),
  ...split({ Regex: "[^\\s]+?(?=a|$)" }),
  ...split({ Regex: "a*" }),
  ...split({ Regex: "(?i:the)|\\p{Lu}\\p{Ll}*|(?<=\\s)\\S" }),
];
const DECODERS: unknown[] = [
  null,
  ...["ByteLevel", "ByteFallback", "Fuse"].map((type) => ({ type })),
  { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
  { type: "WordPiece", prefix: "##", cleanup: true },
  { type: "BPEDecoder", suffix: "</w>" },
  { type: "CTC", pad_token: "<pad>", word_delimiter_token: "|", cleanup: true },
  { type: "Replace", pattern: { String: "▁" }, content: " " },
  { type: "Replace", pattern: { Regex: "[aeiou]" }, content: "" },
  { type: "Strip", content: " ", start: 1, stop: 0 },
];
const POST: unknown[] = [
  null,
  { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  { type: "BertProcessing", sep: ["b", 3], cls: ["a", 2] },
  { type: "RobertaProcessing", sep: ["b", 3], cls: ["a", 2], trim_offsets: true, add_prefix_space: true },
  {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "a", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { a: { id: "a", ids: [2, 5], tokens: ["a", "b"] } },
  },
];
const ODD: readonly Tree[] = [
  ...[...BEHAVIORS, "first", "always", "never", "BPE", "Unigram", "WordPiece", "WordLevel"],
  ...[NORMALIZERS, PRE_TOKENIZERS, DECODERS, POST].flatMap((list) => list.slice(0, 9)).map(treeOf),
];

/** A part of a tokenizer: by itself, or in a sequence with others or with the one that was there. */
function drawn(random: RandomStream, list: readonly unknown[], key: string, before: unknown): unknown {
  const one = pick(random, list);
  const kind = random.int(4);
  if (kind < 2 || one === null) return one;
  const other = kind === 2 && before ? before : pick(random, list.filter(Boolean));
  return { type: "Sequence", [key]: random.int(2) ? [one, other] : [other, one] };
}

export function tokenizerCase(seed: number): Uint8Array {
  const random = new RandomStream(seed);
  const graph: Graph = structuredClone(pick(random, graphs));
  const from: Graph = pick(random, graphs);
  const tokens = graph.added_tokens as Record<string, unknown>[];
  for (let i = 1 + random.int(2); i > 0; i--) {
    switch (random.int(10)) {
      case 0:
        graph.normalizer = drawn(random, [...NORMALIZERS, from.normalizer], "normalizers", graph.normalizer);
        break;
      case 1:
      case 2:
        graph.pre_tokenizer = drawn(
          random,
          [...PRE_TOKENIZERS, from.pre_tokenizer],
          "pretokenizers",
          graph.pre_tokenizer,
        );
        break;
      case 3:
        graph.decoder = drawn(random, [...DECODERS, from.decoder], "decoders", graph.decoder);
        break;
      case 4:
        graph.post_processor = drawn(random, [...POST, from.post_processor], "processors", graph.post_processor);
        break;
      case 5: {
        const changes: Record<string, unknown[]> = {
          byte_fallback: [true, false],
          fuse_unk: [true, false],
          ignore_merges: [true, false],
          unk_token: [null, "a", "<unk>", "nothing"],
          dropout: [null, 0, 0.1],
          continuing_subword_prefix: [null, "", "##"],
          end_of_word_suffix: [null, "", "</w>", "s"],
          type: ["BPE", undefined, "Unigram", "WordLevel", "WordPiece"],
          unk_id: [null, 0, 3, 5000],
          max_input_chars_per_word: [5, 100],
        };
        const key = pick(random, Object.keys(changes));
        graph.model[key] = pick(random, changes[key]);
        break;
      }
      case 6: {
        const token = pick(random, tokens);
        const changes: Record<string, unknown[]> = {
          id: [0, 1, 7, 600, Number(token.id) + 1],
          content: ["a", " a", "the", "\n", "▁", "1"],
          single_word: [true, false],
          lstrip: [true, false],
          rstrip: [true, false],
          normalized: [token.special !== true],
          special: [false],
        };
        const key = pick(random, Object.keys(changes));
        token[key] = pick(random, changes[key]);
        break;
      }
      case 7: {
        const id = Math.max(...tokens.map(({ id }) => Number(id))) + 1;
        const flags = ["single_word", "lstrip", "rstrip", "normalized"].map((flag) => [flag, random.int(3) === 0]);
        tokens.push({
          id,
          content: pick(random, ["the", " ", "é", "ab", "Hello", "\n\n"]),
          special: false,
          ...Object.fromEntries(flags),
        });
        break;
      }
      default:
        damagePart(graph, random);
    }
  }
  return new TextEncoder().encode(written(treeOf(graph)));
}

/** Any damage, seldom to the vocabulary, which is most of the file. */
function damagePart(graph: Graph, random: RandomStream): void {
  const keys = Object.keys(graph).filter((key) => key !== "model");
  const { vocab, merges, ...flags } = graph.model;
  const holder = random.int(4)
    ? pick(
        random,
        keys.map((key) => ({ [key]: graph[key] })),
      )
    : random.int(3)
      ? flags
      : { vocab, merges };
  const tree = treeOf(holder) as Pairs;
  damage(tree, random, ODD);
  const changed = JSON.parse(written(tree).replaceAll("1e400", "1e300"));
  if (holder === flags) graph.model = { ...changed, vocab, merges };
  else if ("vocab" in holder) graph.model = { ...flags, ...changed };
  else Object.assign(graph, changed);
}
