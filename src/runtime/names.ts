/** One name in the ways it is written. */

/** `klCoef` is `kl_coef` on the command line, in files and in requests. */
export const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** `kl_coef` and `kl-coef` are `klCoef` in code. */
export const camelCase = (name: string): string =>
  name.replace(/[-_]+([a-z0-9])/gi, (_, letter: string) => letter.toUpperCase());
