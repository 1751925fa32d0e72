/** Text to token ids and back, by the standard files tokenizer.json and tokenizer_config.json. */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { UserError } from "../runtime/errors.ts";
import type { TokenizerJson, TrainedTokenizer } from "./bpe.ts";

export interface EncodeOptions {
  /** Whether the tokenizer may add its own tokens (a beginning-of-text token, mostly); default false. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Whether special tokens are left out of the text; default true. */
  skipSpecialTokens?: boolean;
}

export class Tokenizer {
  /** One more than the largest id. */
  readonly vocabSize: number;
  /** Ids of the special tokens; undefined where the tokenizer has none. */
  readonly eosId: number | undefined;
  readonly bosId: number | undefined;
  readonly padId: number | undefined;
  readonly unkId: number | undefined;
  /** The tokens the tokenizer itself puts before a text, such as a beginning-of-text token. */
  readonly prefixIds: readonly number[];
  /** The files' contents, for writing them beside a model. */
  readonly json: Readonly<TokenizerJson>;
  readonly configJson: Readonly<Record<string, unknown>>;
  private readonly inner: HuggingFaceTokenizer;
  private readonly file: string;

  private constructor(
    inner: HuggingFaceTokenizer,
    json: TokenizerJson,
    configJson: Record<string, unknown>,
    file: string,
  ) {
    this.inner = inner;
    this.json = json;
    this.configJson = configJson;
    this.file = file;
    let largest = -1;
    for (const id of inner.get_vocab(true).values()) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
    const special = (key: string) => {
      const token = contentOf(configJson[key]);
      return token === undefined ? undefined : inner.token_to_id(token);
    };
    this.eosId = special("eos_token");
    this.bosId = special("bos_token");
    this.padId = special("pad_token");
    this.unkId = special("unk_token");
    const marked: number[] = inner.encode("a", { add_special_tokens: true }).ids;
    const plain: number[] = inner.encode("a", { add_special_tokens: false }).ids;
    const at = marked.findIndex((_, i) => plain.every((id, k) => marked[i + k] === id));
    this.prefixIds = marked.slice(0, Math.max(0, at));
  }

  /**
   * @param tokenizerJson content of tokenizer.json, parsed
   * @param configJson content of tokenizer_config.json, parsed; says which tokens are special
   * @param file where they came from, for error messages
   * @throws UserError when they describe no tokenizer this library can run
   */
  static fromJson(tokenizerJson: unknown, configJson: unknown = {}, file = "tokenizer.json"): Tokenizer {
    const model = isObject(tokenizerJson) ? tokenizerJson.model : undefined;
    if (!isObject(model) || (!isObject(model.vocab) && !Array.isArray(model.vocab))) {
      throw new UserError(`${file}: not a tokenizer.json: it has no "model" with a "vocab"`);
    }
    if (!isObject(configJson)) throw new UserError(`${file}: its tokenizer_config.json is not an object`);
    try {
      const inner = new HuggingFaceTokenizer(tokenizerJson as object, configJson);
      return new Tokenizer(inner, tokenizerJson as unknown as TokenizerJson, configJson, file);
    } catch (error) {
      throw new UserError(`${file}: cannot use this tokenizer: ${(error as Error).message}`, { cause: error });
    }
  }

  static fromTrained(trained: TrainedTokenizer): Tokenizer {
    return Tokenizer.fromJson(trained.tokenizerJson, trained.tokenizerConfigJson);
  }

  /** The ids of a text. Special tokens written out in the text become their ids. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    if (text === "" && !options.addSpecialTokens) return [];
    return this.inner.encode(text, { add_special_tokens: options.addSpecialTokens ?? false }).ids;
  }

  /** The text of some ids, exactly: spaces are not tidied up. */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    if (ids.length === 0) return "";
    for (let i = 0; i < ids.length; i++) {
      if (this.inner.id_to_token(ids[i]) === undefined) {
        throw new UserError(`${this.file}: cannot decode id ${ids[i]}, the vocabulary has ${this.vocabSize} entries`);
      }
    }
    return this.inner.decode(Array.from(ids), {
      skip_special_tokens: options.skipSpecialTokens ?? true,
      clean_up_tokenization_spaces: false,
    });
  }

  tokenToId(token: string): number | undefined {
    return this.inner.token_to_id(token);
  }

  idToToken(id: number): string | undefined {
    return this.inner.id_to_token(id);
  }

  /**
   * @param modelVocabSize rows of the model's embedding table
   * @throws UserError when some id would have no row
   */
  checkFits(modelVocabSize: number): void {
    if (this.vocabSize <= modelVocabSize) return;
    const token = this.inner.id_to_token(this.vocabSize - 1);
    throw new UserError(
      `${this.file}: the tokenizer's ids go up to ${this.vocabSize - 1} (${JSON.stringify(token)}), but the model's ` +
        `vocabulary has only ${modelVocabSize} entries; use the tokenizer that the model was trained with`,
    );
  }
}

/** Special tokens are written as a string or as an object with "content". */
function contentOf(token: unknown): string | undefined {
  if (typeof token === "string") return token;
  return isObject(token) && typeof token.content === "string" ? token.content : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
