/** Models of whole words: BERT's WordPiece, which takes the longest token each time, and plain lists of words. */
import { UserError } from "../../runtime/errors.ts";
import { brief, type Part } from "./description.ts";
import type { TokenModel } from "./token-model.ts";

export class WordPiece implements TokenModel {
  readonly ids: ReadonlyMap<string, number>;
  readonly size: number;
  private readonly unknown: string;
  private readonly prefix: string;
  private readonly longestWord: number;
  private readonly longestToken: number;

  constructor(model: Part, ids: Map<string, number>) {
    this.ids = ids;
    this.size = ids.size;
    this.unknown = model.text("unk_token");
    this.prefix = model.text("continuing_subword_prefix");
    this.longestWord = model.count("max_input_chars_per_word");
    this.longestToken = [...ids.keys()].reduce((most, token) => Math.max(most, token.length), 0);
  }

  encode(word: string, ids: number[]): void {
    const found = [...word].length > this.longestWord ? null : this.tokens(word);
    if (found) for (const id of found) ids.push(id);
    else ids.push(unknownId(this.ids, this.unknown));
  }

  private tokens(word: string): number[] | null {
    const found: number[] = [];
    for (let at = 0; at < word.length; ) {
      let end = Math.min(word.length, at + this.longestToken);
      let id: number | undefined;
      for (; end > at; end--) {
        id = this.ids.get((at > 0 ? this.prefix : "") + word.slice(at, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return null;
      found.push(id);
      at = end;
    }
    return found;
  }
}

export class WordLevel implements TokenModel {
  readonly ids: ReadonlyMap<string, number>;
  readonly size: number;
  private readonly unknown: string;

  constructor(model: Part, ids: Map<string, number>) {
    this.ids = ids;
    this.size = ids.size;
    this.unknown = model.text("unk_token");
  }

  encode(word: string, ids: number[]): void {
    ids.push(this.ids.get(word) ?? unknownId(this.ids, this.unknown));
  }
}

function unknownId(ids: ReadonlyMap<string, number>, unknown: string): number {
  const id = ids.get(unknown);
  if (id !== undefined) return id;
  throw new UserError(`the tokenizer's unknown token ${brief(unknown)} has no id`);
}
