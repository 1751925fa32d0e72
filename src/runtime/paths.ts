/** Paths as text, for code that also runs where there is no disk: "/" parts, and URLs as they are. */

/** A file's path within a folder. */
export const join = (folder: string, name: string): string => `${folder.replace(/(?<=.)[/\\]+$/, "")}/${name}`;

/** The last part of a path: "tokenizer.json" of "model/tokenizer.json". */
export const basename = (path: string): string =>
  path
    .replace(/[/\\]+$/, "")
    .split(/[/\\]/)
    .at(-1) || path;

/** The folder that a path stands in: "." for a name alone. */
export function dirname(path: string): string {
  const plain = path.replace(/(?<=.)[/\\]+$/, "");
  const cut = Math.max(plain.lastIndexOf("/"), plain.lastIndexOf("\\"));
  return cut < 0 ? "." : plain.slice(0, cut) || "/";
}

/** Whether a text is an address with a scheme (https://..., blob:..., file:...), not a path on a disk. */
export const isAddress = (path: string): boolean => /^[a-z][a-z0-9+.-]+:/i.test(path);

/** Whether a text is the address of a server. */
export const isServer = (path: string): boolean => /^https?:\/\//i.test(path);

/** One text for all ways to write a path: absolute from the working folder where there is one, without "." and "..". */
export function absolute(path: string): string {
  if (isAddress(path)) return path;
  const isWhole = /^([A-Za-z]:)?[/\\]/.test(path);
  const here = isWhole ? "" : (globalThis.process?.cwd?.() ?? "");
  const parts: string[] = [];
  for (const part of `${here}/${path}`.split(/[/\\]+/)) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  const whole = parts.join("/");
  return /^[A-Za-z]:/.test(whole) ? whole : `/${whole}`;
}
