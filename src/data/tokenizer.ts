/** Text to token ids and back, by the standard files tokenizer.json and tokenizer_config.json. */
import { isUserError, UserError } from "../runtime/errors.ts";
import type { TokenizerJson, TrainedTokenizer } from "./bpe.ts";
import { BYTE_TO_CHAR } from "./bytes.ts";
import type { ChatTemplate } from "./chat-template.ts";
import { TokenizerPipeline } from "./tokenizer-pipeline.ts";

/** How text becomes token ids. */
export interface EncodeOptions {
  /** Whether the tokenizer may add its own tokens (a beginning-of-text token, mostly); default false. */
  addSpecialTokens?: boolean;
  /**
   * Whether the text goes on from other text; default false. SentencePiece tokenizers put a space before a text, and
   * must not do so in the middle of one.
   */
  continued?: boolean;
  /** Stops as soon as there are so many ids or some more, for who only wants to know that a text is too long. */
  most?: number;
}

/** How token ids become text. */
export interface DecodeOptions {
  /** Whether special tokens are left out of the text; default true. */
  skipSpecialTokens?: boolean;
  /** Whether the ids go on from others, as a response from its prompt; default false. Then a space that comes first stays. */
  continued?: boolean;
}

/** A tokenizer as Hugging Face's tokenizer.json describes it. */
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
  /** How this model writes conversations, where known; the opener of its folder sets it. */
  chatTemplate: ChatTemplate | null = null;
  private readonly pipeline: TokenizerPipeline;
  private readonly file: string;

  private constructor(
    pipeline: TokenizerPipeline,
    json: TokenizerJson,
    configJson: Record<string, unknown>,
    file: string,
  ) {
    this.pipeline = pipeline;
    this.json = json;
    this.configJson = configJson;
    this.file = file;
    this.vocabSize = pipeline.size;
    this.prefixIds = pipeline.prefix;
    const special = (key: string) => {
      const token = contentOf(configJson[key]);
      return token === undefined ? undefined : pipeline.idOf(token);
    };
    this.eosId = special("eos_token");
    this.bosId = special("bos_token");
    this.padId = special("pad_token");
    this.unkId = special("unk_token");
    // What is of the wrong type shows itself at the latest when it is used, and that should be now.
    for (const continued of [false, true]) this.decode(this.encode("A b'1. \u00e9\n", { continued }));
  }

  /**
   * @param tokenizerJson content of tokenizer.json, parsed
   * @param configJson content of tokenizer_config.json, parsed; says which tokens are special
   * @param file where they came from, for error messages
   * @throws UserError when they describe no tokenizer this library can run
   */
  static fromJson(tokenizerJson: unknown, configJson: unknown = {}, file = "tokenizer.json"): Tokenizer {
    if (!isObject(configJson)) throw new UserError(`${file}: its tokenizer_config.json is not an object`);
    try {
      return new Tokenizer(
        new TokenizerPipeline(tokenizerJson, file),
        tokenizerJson as TokenizerJson,
        configJson,
        file,
      );
    } catch (error) {
      if (isUserError(error)) throw error;
      throw new UserError(`${file}: cannot use this tokenizer: ${(error as Error).message}`, { cause: error });
    }
  }

  static fromTrained(trained: TrainedTokenizer): Tokenizer {
    return Tokenizer.fromJson(trained.tokenizerJson, trained.tokenizerConfigJson);
  }

  /** The ids of a text. Special tokens written out in the text become their ids. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    // Half a surrogate pair is no text; everywhere else it becomes this mark as well.
    const whole = text.replace(/\p{Surrogate}/gu, "\ufffd");
    const ids = this.pipeline.encode(whole, options.continued ?? false, options.most);
    return options.addSpecialTokens ? [...this.pipeline.prefix, ...ids, ...this.pipeline.suffix] : ids;
  }

  /** The text of some ids, exactly: spaces are not tidied up. Ids for which there is no token have no text. */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    const skip = options.skipSpecialTokens ?? true;
    const tokens: string[] = [];
    for (let i = 0; i < ids.length; i++) {
      const token = this.idToToken(ids[i]);
      if (token !== undefined && !(skip && this.isSpecial(ids[i]))) tokens.push(token);
    }
    if (tokens.length === 0) return "";
    const { decoder } = this.pipeline;
    return options.continued ? decoder.decode(["x", ...tokens]).slice(1) : decoder.decode(tokens);
  }

  /** Whether the text of ids is the bytes of each in a row, so that ids can be decoded one at a time. */
  get isByteLevel(): boolean {
    return this.pipeline.decoder.bytes !== undefined;
  }

  /** The bytes of one id: of a byte-level tokenizer any id's, otherwise those of a byte to fall back on. */
  bytesOf(id: number): Uint8Array<ArrayBuffer> {
    const token = this.idToToken(id) ?? "";
    const { bytes } = this.pipeline.decoder;
    if (bytes) return bytes(token) as Uint8Array<ArrayBuffer>;
    const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    return Uint8Array.from(hex ? [Number.parseInt(hex[1], 16)] : []);
  }

  /** The bytes of the text that an id stands for wherever it comes; of a special token those of its name. */
  spelling(id: number): Uint8Array {
    const added = this.pipeline.added.get(id);
    const bytes = this.bytesOf(id);
    if (bytes.length > 0 && !added) return bytes;
    return new TextEncoder().encode(added?.content ?? (this.idToToken(id) ?? "").replaceAll("\u2581", " "));
  }

  /** Whether a byte is lost: a byte-level vocabulary learned from few texts may lack some. */
  drops(byte: number): boolean {
    return this.isByteLevel && this.tokenToId(BYTE_TO_CHAR[byte]) === undefined;
  }

  /** The text in the Unicode form that the tokenizer brings it to. */
  canonical(text: string): string {
    return this.pipeline.forms.reduce((now, form) => now.normalize(form), text.replace(/\p{Surrogate}/gu, "\ufffd"));
  }

  /** Whether it is one of the tokens that are no text, such as the end-of-text token. */
  isSpecial(id: number): boolean {
    return this.pipeline.added.get(id)?.special === true;
  }

  tokenToId(token: string): number | undefined {
    return this.pipeline.idOf(token);
  }

  /** Undefined beyond the vocabulary: a model's table may have more rows than there are tokens. */
  idToToken(id: number): string | undefined {
    if (!Number.isInteger(id) || id < 0)
      throw new UserError(`${this.file}: cannot decode ${id}, ids are whole numbers`);
    return this.pipeline.tokenOf(id);
  }

  /**
   * @param modelVocabSize rows of the model's embedding table
   * @throws UserError when some id would have no row
   */
  checkFits(modelVocabSize: number): void {
    if (this.vocabSize <= modelVocabSize) return;
    const token = this.idToToken(this.vocabSize - 1);
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
