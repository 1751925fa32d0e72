/**
 * The normalizer, pre-tokenizer and model of a tokenizer.json, checked and put into terms that the JavaScript library runs
 * exactly as the Rust `tokenizers` library does. Where the two differ, a part is written as others that mean the same.
 */
import { UserError } from "../runtime/errors.ts";

type Json = Record<string, unknown>;

/** GPT-2's split into words as the Rust library knows it; \s is Unicode's White_Space. */
const GPT2_WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/** More ids than any known vocabulary has; one wrong digit must not make lists of billions. */
const MOST_IDS = 1 << 22;
const LONGEST_PATTERN = 20_000;

/** @throws UserError for what is no tokenizer.json, or one that would be read wrongly */
export function tokenizerGraph(json: unknown, file: string): Json {
  const fail = (what: string): never => {
    throw new UserError(`${file}: ${what}`);
  };
  if (!isObject(json) || !isObject(json.model)) return fail('not a tokenizer.json: it has no "model" with a "vocab"');
  const { model } = json;
  if (!isObject(model.vocab) && !Array.isArray(model.vocab)) {
    return fail('not a tokenizer.json: it has no "model" with a "vocab"');
  }
  const added = json.added_tokens ?? [];
  if (!Array.isArray(added)) return fail('"added_tokens" must be a list');
  for (const token of added) {
    if (!isObject(token) || typeof token.content !== "string" || !isId(token.id)) {
      return fail(`an added token must have text and an id below ${MOST_IDS}, not ${brief(token)}`);
    }
  }
  if (Array.isArray(model.vocab)) checkUnigram(model, fail);
  else checkVocab(model, fail);
  return {
    ...json,
    added_tokens: added,
    normalizer: normalizer(json.normalizer, fail),
    pre_tokenizer: preTokenizer(json.pre_tokenizer, fail),
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
  };
}

/** The same tokenizer for text that goes on from other text: nothing is put before it. */
export function withoutPrefix(graph: Json): Json {
  const normalizers = parts(graph.normalizer, "normalizers").filter((part) => part.type !== "Prepend");
  const preTokenizers = parts(graph.pre_tokenizer, "pretokenizers").map((part) =>
    part.type === "Metaspace" ? { ...part, prepend_scheme: "never" } : part,
  );
  return {
    ...graph,
    normalizer: { type: "Sequence", normalizers },
    pre_tokenizer: { type: "Sequence", pretokenizers: preTokenizers },
  };
}

/** NFC and the like, in the order in which a normalizer applies them. */
export function unicodeForms(normalizer: unknown): string[] {
  return parts(normalizer, "normalizers").flatMap(({ type }) =>
    /^NFK?[CD]$/.test(String(type)) ? [String(type)] : [],
  );
}

type Fail = (what: string) => never;

function checkVocab(model: Json, fail: Fail): void {
  const vocab = model.vocab as Record<string, unknown>;
  const seen = new Set<number>();
  for (const [token, id] of Object.entries(vocab)) {
    if (!isId(id)) fail(`the id of ${brief(token)} must be a whole number below ${MOST_IDS}, not ${brief(id)}`);
    if (seen.has(id as number)) fail(`two tokens have the id ${id}, one of them ${brief(token)}`);
    seen.add(id as number);
  }
  if (seen.size === 0) fail("its vocabulary is empty");
  if (model.merges === undefined) return;
  if (!Array.isArray(model.merges)) fail('"merges" must be a list');
  const prefix = typeof model.continuing_subword_prefix === "string" ? model.continuing_subword_prefix.length : 0;
  const suffix = typeof model.continuing_subword_suffix === "string";
  const listed = Array.isArray((model.merges as unknown[])[0]);
  for (const merge of model.merges as unknown[]) {
    const pair = typeof merge === "string" && !listed ? merge.split(" ") : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((part) => typeof part !== "string")) {
      fail(`a merge must be two tokens, not ${brief(merge)}`);
    }
    const [a, b] = pair as [string, string];
    const merged = suffix ? a : a + b.slice(prefix);
    for (const token of [a, b, merged]) {
      if (!Object.hasOwn(vocab, token)) fail(`the merge ${brief(pair)} needs ${brief(token)}, which is no token`);
    }
  }
}

function checkUnigram(model: Json, fail: Fail): void {
  const vocab = model.vocab as unknown[];
  if (vocab.length === 0 || vocab.length > MOST_IDS) fail(`a vocabulary of ${vocab.length} tokens`);
  for (const entry of vocab) {
    if (!Array.isArray(entry) || typeof entry[0] !== "string" || typeof entry[1] !== "number") {
      fail(`a token must have text and a score, not ${brief(entry)}`);
    }
  }
  const { unk_id: unknown } = model;
  if (unknown !== null && unknown !== undefined && !(isId(unknown) && unknown < vocab.length)) {
    fail(`"unk_id" must be the id of a token, not ${brief(unknown)}`);
  }
}

function normalizer(description: unknown, fail: Fail): unknown {
  if (description === null || description === undefined) return null;
  const part = asPart(description, "normalizer", fail);
  if (part.type === "Sequence") {
    const inner = asList(part.normalizers, "normalizers", fail);
    return { ...part, normalizers: inner.map((one) => normalizer(one, fail)) };
  }
  if (part.type !== "Replace") return part;
  checkPattern(part, fail);
  // The content is inserted by JavaScript's replaceAll, where $ has a meaning.
  return { ...part, content: String(part.content ?? "").replaceAll("$", "$$$$") };
}

function preTokenizer(description: unknown, fail: Fail): unknown {
  if (description === null || description === undefined) return null;
  const part = asPart(description, "pre-tokenizer", fail);
  switch (part.type) {
    case "Sequence": {
      const inner = asList(part.pretokenizers, "pretokenizers", fail);
      return { ...part, pretokenizers: inner.map((one) => preTokenizer(one, fail)) };
    }
    case "ByteLevel": {
      const steps: Json[] = [];
      if (part.add_prefix_space === true) steps.push({ type: "Metaspace", replacement: " ", prepend_scheme: "always" });
      if (part.use_regex !== false) steps.push(split(GPT2_WORDS));
      return sequence([...steps, { ...part, add_prefix_space: false, use_regex: false }]);
    }
    case "Digits":
      return split(part.individual_digits === true ? "\\p{N}" : "\\p{N}+");
    case "Metaspace": {
      const mark = part.replacement ?? "\u2581";
      if (typeof mark !== "string" || [...mark].length !== 1) return fail("Metaspace needs a mark of one character");
      // Files of older versions say add_prefix_space instead.
      const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? "never" : "always");
      const metaspace = { ...part, replacement: mark, prepend_scheme: scheme };
      return part.split === false ? metaspace : sequence([metaspace, split(`${escaped(mark)}[^${escaped(mark)}]*`)]);
    }
    case "Split":
      return splitAs(part, fail);
    default:
      return part;
  }
}

/** The library knows matches that are pieces of their own ("Isolated") or that vanish; others are patterns of these. */
function splitAs(part: Json, fail: Fail): unknown {
  const { String: text, Regex } = checkPattern(part, fail);
  const regex = Regex === undefined ? undefined : folded(Regex);
  if (typeof part.behavior !== "string") return fail(`a Split's behavior must be a name, not ${brief(part.behavior)}`);
  const behavior = part.behavior.toLowerCase();
  if (behavior === "isolated") return regex === undefined ? { ...part, invert: false } : split(regex);
  if (behavior === "removed") return part;
  const single = text !== undefined && [...text].length === 1 && part.invert !== true;
  // The second branch takes a text without the mark whole: searching for it again from each letter would be quadratic.
  if (behavior === "mergedwithprevious" && single) {
    return split(`[^${escaped(text)}]*${escaped(text)}|[^${escaped(text)}]+`);
  }
  if (behavior === "mergedwithnext" && single) return split(`${escaped(text)}[^${escaped(text)}]*`);
  if (behavior === "contiguous" && part.invert !== true) return split(`(?:${regex ?? escaped(text as string)})+`);
  return fail(`the pre-tokenizer Split with behavior ${brief(part.behavior)} is not supported for this pattern`);
}

function checkPattern(part: Json, fail: Fail): { String?: string; Regex?: string } {
  const pattern = isObject(part.pattern) ? part.pattern : {};
  const source = pattern.Regex ?? pattern.String;
  if (typeof source !== "string") return fail(`${part.type} needs a pattern, not ${brief(part.pattern)}`);
  if (source.length > LONGEST_PATTERN) return fail(`${part.type} has a pattern of ${source.length} characters`);
  return pattern as { String?: string; Regex?: string };
}

/** Where case does not matter, s is also the long s and k the Kelvin sign; the library folds ASCII only. */
function folded(regex: string): string {
  return regex.replace(/\(\?i:([^()[\]\\]*)\)/g, (_, inside: string) => {
    return `(?i:${inside.replace(/s/gi, "(?:s|\u017f)").replace(/k/gi, "(?:k|\u212a)")})`;
  });
}

const split = (regex: string): Json => ({
  type: "Split",
  pattern: { Regex: regex },
  behavior: "Isolated",
  invert: false,
});

function sequence(pretokenizers: Json[]): Json {
  return pretokenizers.length === 1 ? pretokenizers[0] : { type: "Sequence", pretokenizers };
}

/** The parts of a sequence, or the one part there is. */
function parts(part: unknown, key: "normalizers" | "pretokenizers"): Json[] {
  if (!isObject(part)) return [];
  return part.type === "Sequence" ? (part[key] as unknown[]).flatMap((one) => parts(one, key)) : [part];
}

function asPart(value: unknown, what: string, fail: Fail): Json {
  return isObject(value) && typeof value.type === "string" ? value : fail(`a ${what} must have a type`);
}

function asList(value: unknown, what: string, fail: Fail): unknown[] {
  return Array.isArray(value) ? value : fail(`"${what}" must be a list`);
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
const isId = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) < MOST_IDS;
const brief = (value: unknown) => String(JSON.stringify(value)).slice(0, 60);

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
