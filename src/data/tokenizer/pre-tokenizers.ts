/** How a tokenizer cuts a text into words, piece by piece as the Rust library does it. */
import { toByteChars } from "../bytes.ts";
import type { Part } from "./description.ts";
import { type Find, finder, native } from "./patterns.ts";

/** The words of a text; `first` says that the text begins here. */
export type Words = (text: string, first: boolean) => string[];

/** GPT-2's split into words as the Rust library knows it; \s is Unicode's White_Space. */
const GPT2_WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/u;
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const PUNCTUATION = /[\p{P}\u0021-\u002F\u003A-\u0040\u005B-\u0060\u007B-\u007E]/u;
const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
type Behavior = (typeof BEHAVIORS)[number];

/**
 * @param continued whether the text goes on from other text: then no space is put before it
 * @param startKept whether what the words are cut from still begins as the text did
 */
export function wordsOf(part: Part | null, continued: boolean, startKept: boolean): Words {
  const steps = part ? flatten(part) : [];
  const cuts = steps.map((step, i) => {
    const isFirst = i === 0 && startKept;
    if (step.type === "Metaspace" && step.value("prepend_scheme") === "first" && !isFirst) {
      step.fail(
        'with "prepend_scheme": "first" after something that may change where the text starts is not supported',
      );
    }
    return cutOf(step, continued);
  });
  return (text, first) =>
    cuts.reduce<string[]>(
      (pieces, cut) => pieces.flatMap((piece, i) => cut(piece, first && i === 0)).filter((piece) => piece !== ""),
      text === "" ? [] : [text],
    );
}

const flatten = (part: Part): Part[] =>
  part.type === "Sequence" ? part.parts("pretokenizers").flatMap(flatten) : [part];

function cutOf(part: Part, continued: boolean): Words {
  switch (part.type) {
    case "ByteLevel": {
      const prefixed = part.flag("add_prefix_space");
      const words: Words = part.flag("use_regex", true) ? split(native(GPT2_WORDS), "Isolated") : (text) => [text];
      return (text, first) => words(prefixed && !text.startsWith(" ") ? ` ${text}` : text, first).map(toByteChars);
    }
    case "Metaspace":
      return metaspace(part, continued);
    case "Split":
      return splitAs(part);
    case "CharDelimiterSplit":
      return split(literally(part.char("delimiter")), "Removed");
    case "Digits":
      return split(native(/\p{N}/u), part.flag("individual_digits") ? "Isolated" : "Contiguous");
    case "Punctuation":
      return split(native(PUNCTUATION), part.choice("behavior", BEHAVIORS, "Isolated"));
    case "WhitespaceSplit":
      return split(native(/\p{White_Space}/u), "Removed");
    case "Whitespace":
      return split(native(new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, "u")), "Removed", true);
    case "BertPreTokenizer": {
      const spaces = split(native(/\p{White_Space}/u), "Removed");
      const signs = split(native(PUNCTUATION), "Isolated");
      return (text) => spaces(text, false).flatMap((piece) => signs(piece, false));
    }
    default:
      return part.unknown();
  }
}

function metaspace(part: Part, continued: boolean): Words {
  const mark = part.char("replacement", "\u2581");
  // Files of older versions say add_prefix_space instead.
  const older = part.has("add_prefix_space") && !part.flag("add_prefix_space") ? "never" : "always";
  const scheme = part.choice("prepend_scheme", ["first", "never", "always"], older);
  if (older === "never" && scheme !== "never")
    part.fail('contradicts itself in "add_prefix_space" and "prepend_scheme"');
  const words = part.flag("split", true)
    ? split(literally(mark), "MergedWithNext")
    : (text: string): string[] => [text];
  return (text, first) => {
    const marked = text.replaceAll(" ", () => mark);
    const prefixed = !continued && (scheme === "always" || (scheme === "first" && first)) && !marked.startsWith(mark);
    return words(prefixed ? mark + marked : marked, first);
  };
}

function splitAs(part: Part): Words {
  const pattern = part.pattern();
  const find = "text" in pattern ? literally(pattern.text) : finder(pattern.regex, (reason) => part.fail(reason));
  return split(find, part.choice("behavior", BEHAVIORS), part.flag("invert"));
}

/** Every place of a text, from left to right. */
const literally = (needle: string): Find =>
  function* (text) {
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + needle.length)) {
      yield [at, at + needle.length];
    }
  };

/**
 * Cuts a text at the matches, which stay by themselves, go to a neighbour or vanish.
 * @param invert whether what lies between the matches is treated so instead
 */
function split(find: Find, behavior: Behavior, invert = false): Words {
  return (text) => {
    /** Ends of the pieces, and whether each is a match. */
    const ends: number[] = [];
    const isMatch: boolean[] = [];
    let done = 0;
    for (const [start, end] of find(text)) {
      if (start > done) {
        ends.push(start);
        isMatch.push(invert);
      }
      ends.push(end);
      isMatch.push(!invert);
      done = end;
    }
    if (done < text.length) {
      ends.push(text.length);
      isMatch.push(invert);
    }
    const pieces: string[] = [];
    let from = 0;
    for (let i = 0; i < ends.length; i++) {
      if (behavior === "Removed" && isMatch[i]) {
        from = ends[i];
        continue;
      }
      if (i + 1 < ends.length && staysOpen(behavior, isMatch[i], isMatch[i + 1])) continue;
      pieces.push(text.slice(from, ends[i]));
      from = ends[i];
    }
    return pieces;
  };
}

/** Whether the next piece goes on in the same word. */
function staysOpen(behavior: Behavior, now: boolean, next: boolean): boolean {
  if (behavior === "Contiguous") return now === next;
  if (behavior === "MergedWithPrevious") return next && !now;
  return behavior === "MergedWithNext" && now && !next;
}
