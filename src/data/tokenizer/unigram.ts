/** SentencePiece's unigram model: of all ways to write a word as tokens the one whose scores have the largest sum. */
import { UserError } from "../../runtime/errors.ts";
import { bytesOf } from "./bpe-model.ts";
import { brief, isCount, type Part } from "./description.ts";
import type { TokenModel } from "./token-model.ts";

/** What an unknown character costs more than the worst token. */
const UNKNOWN_COST = 10;

export class Unigram implements TokenModel {
  readonly ids: ReadonlyMap<string, number>;
  readonly size: number;
  private readonly scores: readonly number[];
  private readonly unknownScore: number;
  private readonly unknownId: number | null;
  private readonly byteFallback: boolean;
  /** The trie of the tokens: the node after a node and a code unit, and the token that ends at each. */
  private readonly nodes = new Map<number, number>();
  private readonly ends: number[] = [-1];

  constructor(model: Part, vocab: [string, number][]) {
    this.size = vocab.length;
    this.ids = new Map(vocab.map(([token], id) => [token, id]));
    this.scores = vocab.map(([, score]) => score);
    this.unknownScore = this.scores.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) - UNKNOWN_COST;
    const unknown = model.value("unk_id") ?? null;
    if (unknown !== null && !(isCount(unknown) && unknown < vocab.length)) {
      model.fail(`has "unk_id": ${brief(unknown)}, which is no token's`);
    }
    this.unknownId = unknown as number | null;
    this.byteFallback = model.flag("byte_fallback", false);
    for (const [token, id] of this.ids) this.add(token, id);
  }

  private add(token: string, id: number): void {
    let node = 0;
    for (let i = 0; i < token.length; i++) {
      const key = node * 0x10000 + token.charCodeAt(i);
      const known = this.nodes.get(key);
      node = known ?? this.ends.push(-1) - 1;
      if (known === undefined) this.nodes.set(key, node);
    }
    if (node > 0) this.ends[node] = id;
  }

  encode(word: string, ids: number[]): void {
    for (const piece of this.pieces(word)) {
      const id = this.ids.get(piece);
      if (id !== undefined) ids.push(id);
      else {
        const bytes = this.byteFallback ? bytesOf(piece, this.ids) : null;
        for (const one of bytes ?? [this.needUnknown()]) ids.push(one);
      }
    }
  }

  private needUnknown(): number {
    return this.unknownId ?? this.fail();
  }

  private fail(): never {
    throw new UserError("the tokenizer has no token for a character of the text, and none for the unknown");
  }

  /** The best way through the word, unknown characters in a row as one piece. */
  private pieces(word: string): string[] {
    const n = word.length;
    const best = new Float64Array(n + 1).fill(Number.NaN);
    const from = new Int32Array(n + 1);
    const token = new Int32Array(n + 1);
    best[0] = 0;
    const reach = (start: number, end: number, score: number, id: number) => {
      const sum = best[start] + score;
      if (!(Number.isNaN(best[end]) || sum > best[end])) return;
      best[end] = sum;
      from[end] = start;
      token[end] = id;
    };
    for (let at = 0; at < n; ) {
      const width = (word.codePointAt(at) as number) > 0xffff ? 2 : 1;
      let hasSingle = false;
      let node: number | undefined = 0;
      for (let end = at; end < n; ) {
        node = this.nodes.get(node * 0x10000 + word.charCodeAt(end++));
        if (node === undefined) break;
        const id = this.ends[node];
        if (id < 0) continue;
        reach(at, end, this.scores[id], id);
        if (end - at === width) hasSingle = true;
      }
      if (!hasSingle) reach(at, at + width, this.unknownScore, this.needUnknown());
      at += width;
    }
    const pieces: string[] = [];
    for (let end = n; end > 0; ) {
      let start = from[end];
      if (token[end] === this.unknownId) while (start > 0 && token[start] === this.unknownId) start = from[start];
      pieces.push(word.slice(start, end));
      end = start;
    }
    return pieces.reverse();
  }
}
