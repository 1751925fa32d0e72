/** Text from token ids as they come, one at a time. */
import type { Tokenizer } from "./tokenizer.ts";

/** How a `StreamDecoder` turns token ids into text. */
export interface StreamOptions {
  /** Whether special tokens are left out of the text; default true. */
  skipSpecialTokens?: boolean;
  /**
   * Ids that stand before the first one, mostly the prompt's. With them a SentencePiece tokenizer knows that a word which
   * follows begins with a space; without them that space is taken for the start of the text and dropped.
   */
  context?: ArrayLike<number>;
}

/**
 * Gives out text as soon as it is certain: the bytes of an unfinished character wait for the rest. For byte-level
 * tokenizers what comes out is exactly `decode` of all ids. With byte fallback a run of stray bytes is judged as far as
 * it has come, where `decode` judges it as a whole.
 */
export class StreamDecoder {
  private readonly tokenizer: Tokenizer;
  private readonly skipSpecialTokens: boolean;
  private readonly bytes: TextDecoder | null;
  /** Ids whose text went out last and decides how the next ones look, then ids whose text is still held back. */
  private window: number[];
  private shown: number;
  /** The bytes of a character of which some are still to come. */
  private open: number[] = [];

  constructor(tokenizer: Tokenizer, options: StreamOptions = {}) {
    this.tokenizer = tokenizer;
    this.skipSpecialTokens = options.skipSpecialTokens ?? true;
    this.bytes = tokenizer.isByteLevel ? new TextDecoder("utf-8", { ignoreBOM: true }) : null;
    this.window = Array.from(options.context ?? []);
    this.shown = this.window.length;
  }

  /** The text that is certain now that this id has come; often "". */
  push(id: number): string {
    if (this.skipSpecialTokens && this.tokenizer.isSpecial(id)) return "";
    if (this.bytes) return this.bytes.decode(this.tokenizer.bytesOf(id), { stream: true });
    this.window.push(id);
    this.open = [...this.open, ...this.tokenizer.bytesOf(id)];
    if (this.tokenizer.bytesOf(id).length > 0 && isUnfinished(this.open)) return "";
    this.open = [];
    return this.show(this.text(this.window));
  }

  /** What was held back. */
  end(): string {
    return this.bytes ? this.bytes.decode() : this.show(this.text(this.window));
  }

  private text(ids: readonly number[]): string {
    return this.tokenizer.decode(ids, { skipSpecialTokens: this.skipSpecialTokens });
  }

  private show(text: string): string {
    const before = this.text(this.window.slice(0, this.shown));
    const fresh = text.slice(before.length);
    if (fresh !== "") this.window = this.window.slice(this.shown);
    this.shown = this.window.length;
    return fresh;
  }
}

/** Whether more bytes could still make a character of them. */
function isUnfinished(bytes: readonly number[]): boolean {
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return decoder.decode(Uint8Array.from(bytes), { stream: true }) === "";
  } catch {
    return false;
  }
}
