/**
 * Regular expressions of tokenizer.json files. They are written for Oniguruma, which `@huggingface/tokenizers` knows how to
 * say in JavaScript. A backtracking matcher can take for ever on a hostile pattern, so only the known ones, which were
 * measured (scripts/tokenizer-time.mjs), run on JavaScript's own; all others on one whose time grows with the text alone.
 */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { KNOWN_PATTERNS } from "./known-patterns.ts";
import { LinearRegex } from "./linear-regex.ts";

/** The places of a text where a pattern matches, from the first on. */
export type Find = (text: string) => Iterable<readonly [start: number, end: number]>;

/** @param fail says that the pattern cannot be used */
export function finder(pattern: string, fail: (reason: string) => never): Find {
  // The library takes these for patterns that may give back what they took, or leaves them out.
  if (!KNOWN_PATTERNS.has(pattern) && /\(\?>|[*+?}]\+|\\[GK]/.test(pattern)) {
    return fail("has a pattern with an atomic group, a possessive quantifier, \\G or \\K, which are not supported");
  }
  let regex: RegExp;
  try {
    regex = inJavaScript(folded(pattern));
  } catch (error) {
    return fail(`has a pattern that is not supported (${(error as Error).message})`);
  }
  if (KNOWN_PATTERNS.has(pattern)) return native(regex);
  try {
    const linear = new LinearRegex(regex.source);
    return matches((text) => {
      const run = linear.over(text);
      return (from) => run.find(from);
    });
  } catch (error) {
    return fail(`has a pattern that is not supported (${(error as Error).message})`);
  }
}

/** The library's pre-tokenizer says the pattern in JavaScript. */
function inJavaScript(pattern: string): RegExp {
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  const none = { normalizer: null, decoder: null, post_processor: null, added_tokens: [] };
  const model = { type: "BPE", vocab: {}, merges: [] };
  const { pre_tokenizer: made } = new HuggingFaceTokenizer({ ...none, model, pre_tokenizer: split }, {});
  return (made as unknown as { pattern: RegExp }).pattern;
}

/** A pattern that is known to be harmless, on JavaScript's own matcher. */
export function native(regex: RegExp): Find {
  const global = new RegExp(regex.source, "gu");
  return matches((text) => (from) => {
    global.lastIndex = from;
    const found = global.exec(text);
    return found && [found.index, found.index + found[0].length];
  });
}

type Next = (from: number) => readonly [number, number] | null;

/** A match of nothing right after another match does not count. */
function matches(search: (text: string) => Next): Find {
  return function* (text) {
    const next = search(text);
    for (let from = 0, last = -1; from <= text.length; ) {
      const found = next(from);
      if (!found) return;
      const [start, end] = found;
      if (start === end) from = end + ((text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1);
      else from = end;
      if (start === end && end === last) continue;
      last = end;
      yield found;
    }
  };
}

/** Where case does not matter, s is also the long s and k the Kelvin sign; the library folds ASCII only. */
function folded(regex: string): string {
  return regex.replace(/\(\?i:([^()[\]\\]*)\)/g, (_, inside: string) => {
    return `(?i:${inside.replace(/s/gi, "(?:s|\u017f)").replace(/k/gi, "(?:k|\u212a)")})`;
  });
}
