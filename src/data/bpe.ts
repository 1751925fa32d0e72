/**
 * A trainer for byte-level BPE tokenizers (Sennrich et al. 2016, bytes as in GPT-2) that writes a standard
 * tokenizer.json. Merges, their order and all ids equal those of the Rust `tokenizers` trainer on the same text.
 */
import { bpeModel } from "../io/bpe-model.ts";
import { BYTE_TO_CHAR, toByteChars } from "./bytes.ts";

/** How `trainBpe` learns a vocabulary. */
export interface BpeOptions {
  /** Size of the vocabulary to reach, special tokens and alphabet included; fewer when no pair is left to merge. */
  vocabSize: number;
  /** First ids of the vocabulary, never split and never learned from. Default `<|endoftext|>`, `<|pad|>`. */
  specialTokens?: readonly string[];
  /** Pairs rarer than this are not merged; default 2. */
  minFrequency?: number;
  /** "bytes" (default) can encode any text; "seen" has only the bytes of the training texts and drops others. */
  alphabet?: "bytes" | "seen";
  /** End-of-text token; default the first special token. */
  eosToken?: string;
  /** Padding token; default `<|pad|>` if it is a special token, else the end-of-text token. */
  padToken?: string;
}

/** A trained tokenizer as the two files that Hugging Face's libraries read. */
export interface TrainedTokenizer {
  tokenizerJson: TokenizerJson;
  tokenizerConfigJson: Record<string, unknown>;
}

/** The parts of a tokenizer.json that this trainer writes. */
export interface TokenizerJson {
  version: string;
  added_tokens: { id: number; content: string; special: boolean; [flag: string]: unknown }[];
  model: { type: string; vocab: Record<string, number>; merges: [string, string][]; [option: string]: unknown };
  [part: string]: unknown;
}

/** GPT-2's split into words: contractions, letters, digits and signs, each with the space before it. */
const WORDS = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Trains a tokenizer. The same texts and options give the same tokenizer, whatever the runtime. */
export function trainBpe(texts: Iterable<string>, options: BpeOptions): TrainedTokenizer {
  const specialTokens = options.specialTokens ?? ["<|endoftext|>", "<|pad|>"];
  const words = countWords(texts, specialTokens);
  const vocab = new Vocabulary(specialTokens);
  const seen = new Set<string>();
  for (const word of words.keys()) for (const char of word) seen.add(char);
  const alphabet = options.alphabet === "seen" ? seen : new Set(BYTE_TO_CHAR);
  for (const char of [...alphabet].sort((a, b) => a.charCodeAt(0) - b.charCodeAt(0))) vocab.add(char);
  const merges = learnMerges(words, vocab, options.vocabSize, options.minFrequency ?? 2);
  return describe(vocab, merges, specialTokens, options);
}

class Vocabulary {
  readonly tokens: string[] = [];
  readonly ids = new Map<string, number>();

  constructor(specialTokens: readonly string[]) {
    for (const token of specialTokens) this.add(token);
  }

  /** The token's id, which is new unless the token is known. */
  add(token: string): number {
    const known = this.ids.get(token);
    if (known !== undefined) return known;
    this.ids.set(token, this.tokens.length);
    return this.tokens.push(token) - 1;
  }
}

/** How often each word occurs, in the byte alphabet. */
function countWords(texts: Iterable<string>, specialTokens: readonly string[]): Map<string, number> {
  const special = specialTokens.map((token) => token.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|");
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const part of special ? text.split(new RegExp(special, "u")) : [text]) {
      for (const word of part.match(WORDS) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return new Map([...counts].map(([word, count]) => [toByteChars(word), count]));
}

interface Word {
  ids: number[];
  count: number;
}

interface Pair {
  count: number;
  /** Words that contain the pair, or did once. */
  words: Set<Word>;
}

/** A pair of ids as one number that sorts like the pair. */
const SHIFT = 2 ** 24;
const keyOf = (a: number, b: number) => a * SHIFT + b;

/**
 * Merges the most frequent pair (of equals the one with the smaller ids) again and again. Only the words that hold the
 * merged pair are looked at, so the cost does not grow with the number of merges times the size of the text.
 */
function learnMerges(
  counts: Map<string, number>,
  vocab: Vocabulary,
  vocabSize: number,
  minFrequency: number,
): [string, string][] {
  const pairs = new Map<number, Pair>();
  const queue = new PairQueue();

  /** Adds (sign 1) or takes away (sign -1) the pairs of a word. */
  const tally = (word: Word, sign: number, grown?: Set<number>) => {
    for (let i = 1; i < word.ids.length; i++) {
      const key = keyOf(word.ids[i - 1], word.ids[i]);
      let pair = pairs.get(key);
      if (!pair) {
        pair = { count: 0, words: new Set() };
        pairs.set(key, pair);
      }
      pair.count += sign * word.count;
      if (sign > 0) {
        pair.words.add(word);
        grown?.add(key);
      }
    }
  };

  for (const [text, count] of counts) {
    tally({ ids: Array.from(text, (char) => vocab.ids.get(char) as number), count }, 1);
  }
  for (const [key, pair] of pairs) queue.push(pair.count, key);

  const merges: [string, string][] = [];
  while (vocab.tokens.length < vocabSize) {
    const top = queue.pop();
    if (!top) break;
    const pair = pairs.get(top.key) as Pair;
    if (pair.count !== top.count) {
      // The entry is out of date: put it back where it belongs now.
      if (pair.count > 0) queue.push(pair.count, top.key);
      continue;
    }
    if (top.count < Math.max(1, minFrequency)) break;
    const a = Math.floor(top.key / SHIFT);
    const b = top.key % SHIFT;
    merges.push([vocab.tokens[a], vocab.tokens[b]]);
    const merged = vocab.add(vocab.tokens[a] + vocab.tokens[b]);
    const grown = new Set<number>();
    for (const word of pair.words) {
      const ids = replacePair(word.ids, a, b, merged);
      if (ids.length === word.ids.length) continue;
      tally(word, -1);
      word.ids = ids;
      tally(word, 1, grown);
    }
    pairs.delete(top.key);
    // Pairs that only shrank keep their place in the queue and are put right when they come up.
    for (const key of grown) {
      const changed = pairs.get(key);
      if (changed && (Math.floor(key / SHIFT) === merged || key % SHIFT === merged)) queue.push(changed.count, key);
    }
  }
  return merges;
}

function replacePair(ids: number[], a: number, b: number, merged: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === a && ids[i + 1] === b) {
      out.push(merged);
      i++;
    } else out.push(ids[i]);
  }
  return out;
}

/** A binary heap of pairs: highest count first, then lowest key. */
class PairQueue {
  private readonly heap: { count: number; key: number }[] = [];

  push(count: number, key: number): void {
    const heap = this.heap;
    const item = { count, key };
    let at = heap.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(item, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = item;
  }

  pop(): { count: number; key: number } | undefined {
    const heap = this.heap;
    const top = heap[0];
    const item = heap.pop();
    if (!item || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], item)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = item;
    return top;
  }
}

function before(x: { count: number; key: number }, y: { count: number; key: number }): boolean {
  return x.count > y.count || (x.count === y.count && x.key < y.key);
}

function describe(
  vocab: Vocabulary,
  merges: [string, string][],
  specialTokens: readonly string[],
  options: BpeOptions,
): TrainedTokenizer {
  const eos = options.eosToken ?? specialTokens[0];
  const pad = options.padToken ?? (specialTokens.includes("<|pad|>") ? "<|pad|>" : eos);
  return {
    tokenizerJson: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [...new Set(specialTokens)].map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      post_processor: null,
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: bpeModel(vocab.ids, merges),
    },
    tokenizerConfigJson: {
      tokenizer_class: "PreTrainedTokenizerFast",
      eos_token: eos,
      pad_token: pad,
      clean_up_tokenization_spaces: false,
      model_max_length: 1e30,
    },
  };
}
