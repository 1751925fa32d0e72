/** What a tokenizer changes in a text before it cuts it: Unicode forms, case, accents, spaces. As the Rust library does it. */
import { CharsMap } from "./chars-map.ts";
import type { Part } from "./description.ts";
import { finder } from "./patterns.ts";

export interface Normalizer {
  normalize(text: string): string;
  /** The Unicode forms that it brings a text to, one after the other. */
  forms: string[];
  /** Whether what comes first in the text comes first in the result. */
  keepsStart: boolean;
}

type Change = (text: string) => string;

/** @param continued whether the text goes on from other text: then nothing is put before it */
export function normalizerOf(part: Part | null, continued: boolean): Normalizer {
  const steps = part ? flatten(part) : [];
  const changes = steps.filter(({ type }) => !(continued && type === "Prepend")).map(changeOf);
  return {
    normalize: (text) => changes.reduce((now, change) => change(now), text),
    forms: steps.map(({ type }) => type).filter((type) => FORM.test(type)),
    keepsStart: steps.every((step) => FORM.test(step.type) || keepsStart(step)),
  };
}

const FORM = /^NFK?[CD]$/;

const flatten = (part: Part): Part[] =>
  part.type === "Sequence" ? part.parts("normalizers").flatMap(flatten) : [part];

function keepsStart(step: Part): boolean {
  if (step.type === "Replace") return "text" in step.pattern() && step.text("content") !== "";
  return step.type === "Prepend" || step.type === "Lowercase";
}

function changeOf(part: Part): Change {
  if (FORM.test(part.type)) return (text) => text.normalize(part.type);
  switch (part.type) {
    case "Lowercase":
      return lowercase;
    case "StripAccents":
      return (text) => text.replace(/\p{M}+/gu, "");
    case "Strip":
      return strip(part.flag("strip_left"), part.flag("strip_right"));
    case "Prepend": {
      const before = part.text("prepend");
      return (text) => (text === "" ? text : before + text);
    }
    case "Replace":
      return replace(part);
    case "BertNormalizer":
      return bert(part);
    case "Precompiled": {
      const map = CharsMap.from(part.text("precompiled_charsmap"), (reason) => part.fail(reason));
      return (text) => map.normalize(text);
    }
    default:
      return part.unknown();
  }
}

/** Of each character by itself: a sigma at the end of a word stays an ordinary one. */
const lowercase: Change = (text) => text.replace(/Σ/g, "σ").toLowerCase();

function strip(left: boolean, right: boolean): Change {
  return (text) => {
    const from = left ? (/^\p{White_Space}+/u.exec(text)?.[0].length ?? 0) : 0;
    let to = text.length;
    while (right && to > from && /\p{White_Space}/u.test(text[to - 1])) to--;
    return text.slice(from, to);
  };
}

function replace(part: Part): Change {
  const content = part.text("content");
  const pattern = part.pattern();
  if ("text" in pattern) return (text) => text.split(pattern.text).join(content);
  const find = finder(pattern.regex, (reason) => part.fail(reason));
  return (text) => {
    let out = "";
    let done = 0;
    for (const [start, end] of find(text)) {
      out += text.slice(done, start) + content;
      done = end;
    }
    return out + text.slice(done);
  };
}

const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bert(part: Part): Change {
  const isLower = part.flag("lowercase");
  const noAccents = part.has("strip_accents") ? part.flag("strip_accents") : isLower;
  const steps: Change[] = [];
  if (part.flag("clean_text")) {
    steps.push((text) =>
      text.replace(/(?![\t\n\r])[\ufffd\p{Cc}\p{Cf}\p{Co}]/gu, "").replace(/\p{White_Space}/gu, " "),
    );
  }
  if (part.flag("handle_chinese_chars")) steps.push((text) => text.replace(CHINESE, " $& "));
  if (noAccents) steps.push((text) => text.normalize("NFD").replace(/\p{Mn}+/gu, ""));
  if (isLower) steps.push(lowercase);
  return (text) => steps.reduce((now, step) => step(now), text);
}
