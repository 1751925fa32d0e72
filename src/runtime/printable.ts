/** Texts of unknown origin, made fit for eyes and files. */

/** A text in which addresses have no passwords: `http://name:word@host` is `http://***@host`. */
export const withoutPassword = (text: string): string =>
  text.replace(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/?#@]+@/gi, "$1***@");
