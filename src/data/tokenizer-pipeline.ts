/**
 * The way from text to ids: added tokens are found, the text between them is normalized, cut into words and encoded by the
 * model, as the Rust library does it.
 */
import { type AddedToken, TokenFinder } from "./added-tokens.ts";
import { type TokenDecoder, tokenDecoder } from "./token-decoder.ts";
import { type Front as FrontParts, readGraph } from "./tokenizer/graph.ts";
import type { TokenModel } from "./tokenizer/token-model.ts";

interface Front extends FrontParts {
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
  private readonly model: TokenModel;
  private readonly tokens: string[] = [];
  private readonly ids: ReadonlyMap<string, number>;
  private readonly rawTokens: TokenFinder;
  private readonly whole: Front;
  private readonly continued: Front;

  /** @throws UserError for what is no tokenizer.json that can be run */
  constructor(json: unknown, file: string) {
    const graph = readGraph(json, file);
    this.model = graph.model;
    this.added = new Map(graph.added.map((token) => [token.id, token]));
    this.ids = new Map(graph.added.map((token) => [token.content, token.id]));
    this.rawTokens = new TokenFinder(
      graph.added.filter((token) => !token.normalized),
      file,
    );
    const normalized = graph.added.filter((token) => token.normalized);
    const front = (parts: FrontParts): Front => ({
      ...parts,
      normalizedTokens: new TokenFinder(normalized, file, parts.normalizer.normalize),
    });
    this.whole = front(graph.whole);
    this.continued = front(graph.continued);
    this.decoder = tokenDecoder(graph.decoder, file);
    for (const [token, id] of graph.model.ids) this.tokens[id] = token;
    this.size = Math.max(this.tokens.length, ...graph.added.map(({ id }) => id + 1));
    this.forms = graph.whole.normalizer.forms;
    this.prefix = graph.around.prefix;
    this.suffix = graph.around.suffix;
  }

  /** @param most stops when there are so many ids or some more */
  encode(text: string, continued: boolean, most = Number.POSITIVE_INFINITY): number[] {
    const { normalizer, words, normalizedTokens } = continued ? this.continued : this.whole;
    const ids: number[] = [];
    for (const [i, piece] of this.rawTokens.split(text).entries()) {
      if (ids.length >= most) break;
      if (typeof piece === "number") ids.push(piece);
      else
        for (const [k, part] of normalizedTokens.split(normalizer.normalize(piece)).entries()) {
          if (typeof part === "number") ids.push(part);
          else
            for (const word of words(part, i === 0 && k === 0)) {
              if (ids.length >= most) break;
              this.model.encode(word, ids);
            }
        }
    }
    return ids;
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token) ?? this.model.ids.get(token);
  }

  tokenOf(id: number): string | undefined {
    return this.added.get(id)?.content ?? this.tokens[id];
  }
}
