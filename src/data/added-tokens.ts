/** Finds added tokens (special ones, mostly) written out in a text, as the Rust `tokenizers` library does. */
import { UserError } from "../runtime/errors.ts";

export interface AddedToken {
  id: number;
  content: string;
  /** A special token is no text: decoding leaves it out. */
  special: boolean;
  /** Whether it is looked for in the normalized text, and itself normalized, rather than in the text as it is. */
  normalized: boolean;
  /** Whether it takes the white space before or after it along. */
  lstrip: boolean;
  rstrip: boolean;
  /** Whether it counts only where no letter or digit touches it. */
  single_word: boolean;
}

interface Node {
  next: Map<number, Node>;
  token?: AddedToken;
}

const SPACE = /\p{White_Space}/u;
const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]/u;

export class TokenFinder {
  private readonly root: Node = { next: new Map() };

  /**
   * @param write how a token is written in the texts to be searched
   * @throws UserError where two are written alike: the Rust library finds one of them by chance then
   */
  constructor(tokens: readonly AddedToken[], file: string, write: (content: string) => string = (content) => content) {
    for (const token of tokens) {
      const content = write(token.content);
      if (content === "") continue;
      let node = this.root;
      for (let i = 0; i < content.length; i++) {
        const code = content.charCodeAt(i);
        let next = node.next.get(code);
        if (!next) {
          next = { next: new Map() };
          node.next.set(code, next);
        }
        node = next;
      }
      if (node.token) {
        const both = [node.token, token].map((one) => JSON.stringify(one.content)).join(" and ");
        throw new UserError(`${file}: the added tokens ${both} are one and the same to its normalizer`);
      }
      node.token = token;
    }
  }

  /** The text cut at its tokens: pieces of text, none of them empty, and ids. The longest of several tokens wins. */
  split(text: string): (string | number)[] {
    const pieces: (string | number)[] = [];
    let done = 0;
    let at = 0;
    while (at < text.length) {
      const found = this.longestAt(text, at);
      if (!found) {
        at++;
        continue;
      }
      const { token, end } = found;
      const from = at;
      at = end;
      if (
        token.single_word &&
        (WORD_BEFORE.test(text.slice(Math.max(0, from - 2), from)) || WORD_AFTER.test(text.slice(end, end + 2)))
      )
        continue;
      const start = token.lstrip ? Math.max(done, spacesBefore(text, from)) : from;
      const stop = token.rstrip ? spacesAfter(text, end) : end;
      if (done < start) pieces.push(text.slice(done, start));
      // Where the one before took this one's spaces along, nothing may be left of it.
      if (start < stop) pieces.push(token.id);
      done = stop;
    }
    if (done < text.length) pieces.push(text.slice(done));
    return pieces;
  }

  private longestAt(text: string, start: number): { token: AddedToken; end: number } | null {
    let found: { token: AddedToken; end: number } | null = null;
    let node: Node | undefined = this.root;
    for (let at = start; node; at++) {
      if (node.token) found = { token: node.token, end: at };
      node = at < text.length ? node.next.get(text.charCodeAt(at)) : undefined;
    }
    return found;
  }
}

/** Where the white space that ends here begins. */
function spacesBefore(text: string, end: number): number {
  let at = end;
  while (at > 0 && SPACE.test(text[at - 1])) at--;
  return at;
}

/** Where the white space that begins here ends. */
function spacesAfter(text: string, start: number): number {
  let at = start;
  while (at < text.length && SPACE.test(text[at])) at++;
  return at;
}
