/** Where in a response its answer stands. */

/** The content of the last `\boxed{...}`, whose braces may hold others; null without one, or where it does not end. */
export function boxed(text: string): string | null {
  const start = Math.max(text.lastIndexOf("\\boxed{"), text.lastIndexOf("\\fbox{"));
  if (start < 0) return null;
  const from = text.indexOf("{", start) + 1;
  for (let at = from, depth = 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "{") depth++;
    else if (text[at] === "}" && --depth === 0) return text.slice(from, at);
  }
  return null;
}

const last = (text: string, pattern: RegExp): string | null => [...text.matchAll(pattern)].at(-1)?.[1] ?? null;

/**
 * The answer as a response marks it: in `\boxed{}`, between `<answer>` tags, after `####` (GSM8K's mark), or after "the answer is".
 * The last mark counts; null without any.
 */
export function markedAnswer(text: string): string | null {
  const found =
    boxed(text) ??
    last(text, /<answer>([\s\S]*?)<\/answer>/gi) ??
    last(text, /####[ \t]*([^\n]+)/g) ??
    last(text, /\banswer(?: is|:)[ \t]*:?[ \t]*([^\n]+)/gi)?.replace(/[.。]\s*$/, "");
  return found?.trim() ?? null;
}

/** What stands between mathematical delimiters, the last first tried; null without any. */
export const lastFormula = (text: string): string | null =>
  last(text, /\$\$([^$]{1,2000})\$\$/g) ??
  last(text, /\\\[([\s\S]{1,2000}?)\\\]/g) ??
  last(text, /\\\(([\s\S]{1,2000}?)\\\)/g) ??
  last(text, /\$([^$\n]{1,2000})\$/g);

/** A number as people write it: sign, thousands' commas, decimals, an exponent; null without one. */
export function lastNumber(text: string): number | null {
  const found = [...text.matchAll(/[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+)?(?:(?<=\d)[eE][-+]?\d+)?/g)]
    .map(([match]) => match)
    .filter((match) => /\d/.test(match))
    .at(-1);
  if (found === undefined) return null;
  const value = Number(found.replaceAll(",", "").replace("−", "-"));
  return Number.isFinite(value) ? value : null;
}

/** A text for comparison: letters' case, spaces and a full stop at its end do not count. */
export const plain = (text: string): string => text.trim().replace(/\s+/g, " ").replace(/\.$/, "").toLowerCase();
