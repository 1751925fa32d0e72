/** Byte pair encoding: the symbols of a word are merged, of all possible merges always the earliest learned one. */
import { UserError } from "../../runtime/errors.ts";
import { brief, MOST_IDS, type Part } from "./description.ts";
import type { TokenModel } from "./token-model.ts";

const encoder = new TextEncoder();
/** Words whose ids are remembered, and how long they may be. */
const MOST_KNOWN = 20_000;
const LONGEST_KNOWN = 64;
/** Places in a word, for queue entries that hold a rank and a place in one number. */
const PLACES = 2 ** 30;

export class Bpe implements TokenModel {
  readonly ids: ReadonlyMap<string, number>;
  readonly size: number;
  /** The rank of a merge by its pair of ids, and what each merge makes. */
  private readonly ranks = new Map<number, number>();
  private readonly made: number[] = [];
  private readonly known = new Map<string, number[]>();
  private readonly byteFallback: boolean;
  private readonly fuseUnknown: boolean;
  private readonly ignoreMerges: boolean;
  private readonly unknown: string | null;
  private readonly prefix: string;
  private readonly suffix: string;

  constructor(model: Part, ids: Map<string, number>) {
    this.ids = ids;
    this.size = ids.size;
    const optional = (key: string) => (model.has(key) ? model.text(key) : "");
    this.unknown = model.has("unk_token") ? model.text("unk_token") : null;
    this.prefix = optional("continuing_subword_prefix");
    this.suffix = optional("end_of_word_suffix");
    this.byteFallback = model.flag("byte_fallback", false);
    this.fuseUnknown = model.flag("fuse_unk", false);
    this.ignoreMerges = model.flag("ignore_merges", false);
    const dropout = model.value("dropout") ?? 0;
    if (dropout !== 0) model.fail(`has "dropout": ${brief(dropout)}; merges are not left out by chance here`);
    this.learn(model);
  }

  private learn(model: Part): void {
    const merges = model.value("merges");
    if (!Array.isArray(merges)) model.fail('needs "merges" as a list');
    const list = merges as unknown[];
    const kind = typeof list[0];
    for (const merge of list) {
      const pair = typeof merge === "string" ? merge.split(" ") : merge;
      if (typeof merge !== kind) model.fail('has "merges" of two kinds');
      if (!Array.isArray(pair) || pair.length !== 2 || pair.some((part) => typeof part !== "string")) {
        model.fail(`has the merge ${brief(merge)}, which is not two tokens`);
      }
      const [a, b] = pair as [string, string];
      const merged = a + b.slice(this.prefix.length);
      for (const token of [a, b, merged]) {
        if (!this.ids.has(token)) model.fail(`has the merge ${brief(pair)}, which needs ${brief(token)}: no token`);
      }
      const [left, right, id] = [a, b, merged].map((token) => this.ids.get(token) as number);
      // Of equal merges the last one counts, in its place.
      this.ranks.set(left * MOST_IDS + right, this.made.length);
      this.made.push(id);
    }
  }

  encode(word: string, ids: number[]): void {
    if (this.ignoreMerges) {
      const whole = this.ids.get(word);
      if (whole !== undefined) {
        ids.push(whole);
        return;
      }
    }
    const isShort = word.length <= LONGEST_KNOWN;
    let found = isShort ? this.known.get(word) : undefined;
    if (!found) {
      found = this.merge(this.symbols(word));
      if (isShort) {
        if (this.known.size >= MOST_KNOWN) this.known.clear();
        this.known.set(word, found);
      }
    }
    for (const id of found) ids.push(id);
  }

  /** The ids of a word's characters, or of their bytes where a character has none. */
  private symbols(word: string): number[] {
    const symbols: number[] = [];
    let isUnknown = false;
    const unknownId = (): number => {
      const id = this.ids.get(this.unknown as string);
      if (id === undefined) throw new UserError(`the tokenizer's unknown token ${brief(this.unknown)} has no id`);
      return id;
    };
    const close = () => {
      if (isUnknown) symbols.push(unknownId());
      isUnknown = false;
    };
    for (let at = 0; at < word.length; ) {
      const char = String.fromCodePoint(word.codePointAt(at) as number);
      const start = at;
      at += char.length;
      const written = (start > 0 ? this.prefix : "") + char + (at === word.length ? this.suffix : "");
      const id = this.ids.get(written);
      if (id !== undefined) {
        close();
        symbols.push(id);
        continue;
      }
      const bytes = this.byteFallback ? bytesOf(written, this.ids) : null;
      if (bytes) symbols.push(...bytes);
      else if (this.unknown !== null) {
        if (!this.fuseUnknown) close();
        isUnknown = true;
        unknownId();
      }
    }
    close();
    return symbols;
  }

  /** A queue of the merges that are possible, by rank and then place; each merge makes at most two new ones possible. */
  private merge(symbols: number[]): number[] {
    const n = symbols.length;
    if (n < 2) return symbols;
    const next = Int32Array.from({ length: n }, (_, i) => (i + 1 < n ? i + 1 : -1));
    const before = Int32Array.from({ length: n }, (_, i) => i - 1);
    const gone = new Uint8Array(n);
    const queue = new Queue();
    const rankAt = (at: number): number | undefined =>
      next[at] < 0 ? undefined : this.ranks.get(symbols[at] * MOST_IDS + symbols[next[at]]);
    const offer = (at: number) => {
      const rank = at < 0 ? undefined : rankAt(at);
      if (rank !== undefined) queue.push(rank * PLACES + at);
    };
    for (let at = 0; at + 1 < n; at++) offer(at);
    for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
      const at = entry % PLACES;
      const rank = rankAt(at);
      const made = this.made[(entry - at) / PLACES];
      if (gone[at] || rank === undefined || this.made[rank] !== made) continue; // the pair is no more
      const right = next[at];
      symbols[at] = made;
      gone[right] = 1;
      next[at] = next[right];
      if (next[at] >= 0) before[next[at]] = at;
      offer(before[at]);
      offer(at);
    }
    const merged: number[] = [];
    for (let at = 0; at >= 0; at = next[at]) merged.push(symbols[at]);
    return merged;
  }
}

/** The ids of a text's bytes as <0x..>, or null where one has none. */
export function bytesOf(text: string, ids: ReadonlyMap<string, number>): number[] | null {
  const found: number[] = [];
  for (const byte of encoder.encode(text)) {
    const id = ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id === undefined) return null;
    found.push(id);
  }
  return found;
}

/** A binary heap of numbers, smallest first. */
class Queue {
  private readonly heap: number[] = [];

  push(item: number): void {
    const { heap } = this;
    let at = heap.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (item >= heap[parent]) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = item;
  }

  pop(): number | undefined {
    const { heap } = this;
    const top = heap[0];
    const item = heap.pop();
    if (item === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= item) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = item;
    return top;
  }
}
