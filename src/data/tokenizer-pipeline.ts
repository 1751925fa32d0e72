/**
 * The way from text to ids: added tokens are found, the text between them is normalized, cut into words and encoded by the
 * model. The parts of the way are the JavaScript library's; how they follow each other is the Rust library's.
 */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { type AddedToken, TokenFinder } from "./added-tokens.ts";
import { type TokenDecoder, tokenDecoder } from "./token-decoder.ts";
import { unicodeForms, withoutPrefix } from "./tokenizer-graph.ts";

type Json = Record<string, unknown>;
type Normalize = (text: string) => string;
type Words = (text: string, first: boolean) => string[];
interface Front {
  normalize: Normalize;
  words: Words;
  normalizedTokens: TokenFinder;
}

export class TokenizerPipeline {
  /** One more than the largest id. */
  readonly size: number;
  readonly added: ReadonlyMap<number, AddedToken>;
  readonly decoder: TokenDecoder;
  /** What the post-processor puts before and after a text. */
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
  /** The Unicode forms that the normalizer brings a text to, one after the other. */
  readonly forms: readonly string[];
  private readonly library: HuggingFaceTokenizer;
  private readonly ids: ReadonlyMap<string, number>;
  private readonly rawTokens: TokenFinder;
  private readonly whole: Front;
  private readonly continued: Front;

  /** @param graph a checked tokenizer.json, from `tokenizerGraph` */
  constructor(graph: Json) {
    const tokens = (graph.added_tokens as AddedToken[]).map((token) => ({
      ...token,
      normalized: token.normalized ?? !token.special,
    }));
    this.library = new HuggingFaceTokenizer({ ...graph, added_tokens: [] }, {});
    this.added = new Map(tokens.map((token) => [token.id, token]));
    this.ids = new Map(tokens.map((token) => [token.content, token.id]));
    this.rawTokens = new TokenFinder(tokens.filter((token) => !token.normalized));
    const normalized = tokens.filter((token) => token.normalized);
    this.whole = front(this.library, normalized);
    this.continued = front(
      new HuggingFaceTokenizer({ ...withoutPrefix(graph), model: NO_MODEL, added_tokens: [] }, {}),
      normalized,
    );
    this.decoder = tokenDecoder(graph.decoder) ?? {
      decode: (list) => (this.library.decoder as unknown as { decode(tokens: string[]): string }).decode([...list]),
    };
    let size = this.library.model.vocab.length;
    for (const id of this.added.keys()) size = Math.max(size, id + 1);
    this.size = size;
    this.forms = unicodeForms(graph.normalizer);
    [this.prefix, this.suffix] = this.aroundText();
  }

  encode(text: string, continued: boolean, most = Number.POSITIVE_INFINITY): number[] {
    const { normalize, words, normalizedTokens } = continued ? this.continued : this.whole;
    const ids: number[] = [];
    for (const [i, piece] of this.rawTokens.split(text).entries()) {
      if (ids.length >= most) break;
      if (typeof piece === "number") ids.push(piece);
      else
        for (const [k, part] of normalizedTokens.split(normalize(piece)).entries()) {
          if (typeof part === "number") ids.push(part);
          else
            for (const word of words(part, i === 0 && k === 0)) {
              if (ids.length >= most) break;
              this.encodeWord(word, ids);
            }
        }
    }
    return ids;
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token) ?? this.library.model.tokens_to_ids.get(token);
  }

  tokenOf(id: number): string | undefined {
    return this.added.get(id)?.content ?? this.library.model.vocab[id];
  }

  private encodeWord(word: string, ids: number[]): void {
    const { model } = this.library;
    for (const token of (model as unknown as (words: string[]) => string[])([word])) {
      const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
      if (id !== undefined && id !== null) ids.push(id);
    }
  }

  /** Runs the post-processor over a text that stands for any other. */
  private aroundText(): [number[], number[]] {
    const process = this.library.post_processor as unknown as
      | ((tokens: string[], pair: null, addSpecial: boolean) => { tokens: string[] })
      | null;
    if (!process) return [[], []];
    const text = "\u0000text";
    const { tokens } = process([text], null, true);
    const at = tokens.indexOf(text);
    const idsOf = (list: string[]) => list.map((token) => this.idOf(token)).filter((id) => id !== undefined);
    return at < 0 ? [[], []] : [idsOf(tokens.slice(0, at)), idsOf(tokens.slice(at + 1))];
  }
}

const NO_MODEL = { type: "BPE", vocab: {}, merges: [] };

function front(library: HuggingFaceTokenizer, normalized: readonly AddedToken[]): Front {
  const normalizer = library.normalizer as unknown as Normalize | null;
  const preTokenizer = library.pre_tokenizer as unknown as
    | ((text: string, options: { section_index: number }) => string[])
    | null;
  const normalize: Normalize = (text) => (normalizer ? normalizer(text) : text);
  return {
    normalize,
    words: (text, first) => (preTokenizer ? preTokenizer(text, { section_index: first ? 0 : 1 }) : [text]),
    normalizedTokens: new TokenFinder(normalized, normalize),
  };
}
