/** Texts of unknown origin, made fit for eyes and files. */

/** A text in which addresses have no passwords: `http://name:word@host` is `http://***@host`. */
export const withoutPassword = (text: string): string =>
  text.replace(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/?#@]+@/gi, "$1***@");

/**
 * A text without what a terminal would obey: escape sequences, other control characters and marks that turn the direction of
 * writing stand as `\\u001b` and the like, as in JSON. Line ends and tabs stay.
 */
export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
