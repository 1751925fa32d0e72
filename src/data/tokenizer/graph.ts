/** A tokenizer.json, checked: its added tokens, and its parts made ready to run. */
import { UserError } from "../../runtime/errors.ts";
import type { AddedToken } from "../added-tokens.ts";
import { brief, isBroken, isId, isObject, type Json, MOST_IDS, Part } from "./description.ts";
import { modelOf } from "./models.ts";
import { type Normalizer, normalizerOf } from "./normalizers.ts";
import { type Around, aroundText } from "./post-processors.ts";
import { type Words, wordsOf } from "./pre-tokenizers.ts";
import { LONGEST_TOKEN, type TokenModel } from "./token-model.ts";

/** The way from text to words. */
export interface Front {
  normalizer: Normalizer;
  words: Words;
}

/** The parts of a tokenizer. */
export interface Graph {
  added: AddedToken[];
  model: TokenModel;
  /** For a whole text, and for one that goes on from other text. */
  whole: Front;
  continued: Front;
  around: Around;
  decoder: unknown;
}

/** @throws UserError for what is no tokenizer.json, or one that would be read otherwise than by the Rust library */
export function readGraph(json: unknown, file: string): Graph {
  if (!isObject(json) || !isObject(json.model)) {
    throw new UserError(`${file}: not a tokenizer.json: it has no "model" with a "vocab"`);
  }
  const { added_tokens: _, model: description, ...parts } = json;
  const { vocab: __, merges: ___, ...options } = description as Json;
  const broken = brokenText({ ...parts, options });
  if (broken !== undefined) throw new UserError(`${file}: the text ${brief(broken)} has half a surrogate pair`);
  const part = (key: string, what: string) => {
    const value = json[key];
    return value === null || value === undefined ? null : new Part(value, what, file);
  };
  if (json.version !== undefined && json.version !== "1.0") {
    throw new UserError(`${file}: version ${brief(json.version)} of tokenizer.json is not known, "1.0" is`);
  }
  const model = modelOf(json.model, file);
  const [normalizer, preTokenizer] = [part("normalizer", "normalizer"), part("pre_tokenizer", "pre-tokenizer")];
  const front = (continued: boolean): Front => {
    const made = normalizerOf(normalizer, continued);
    return { normalizer: made, words: wordsOf(preTokenizer, continued, made.keepsStart) };
  };
  return {
    added: addedTokens(json, model, file),
    model,
    whole: front(false),
    continued: front(true),
    around: aroundText(part("post_processor", "post-processor")),
    decoder: json.decoder ?? null,
  };
}

/** A text with half a surrogate pair, anywhere. */
function brokenText(value: unknown): string | undefined {
  if (typeof value === "string") return isBroken(value) ? value : undefined;
  if (typeof value !== "object" || value === null) return undefined;
  for (const entry of Object.entries(value).flat()) {
    const found = brokenText(entry);
    if (found !== undefined) return found;
  }
  return undefined;
}

const FLAGS = ["single_word", "lstrip", "rstrip", "normalized", "special"] as const;

/** Each has the id of its text in the vocabulary, or the next free one: the Rust library gives it no other. */
function addedTokens(json: Json, model: TokenModel, file: string): AddedToken[] {
  const fail = (what: string): never => {
    throw new UserError(`${file}: ${what}`);
  };
  const list = json.added_tokens ?? [];
  if (!Array.isArray(list)) return fail('"added_tokens" must be a list');
  const ids = new Map<string, number>();
  let largest = -1;
  return list.map((token: unknown) => {
    if (!isObject(token) || typeof token.content !== "string" || token.content === "" || !isId(token.id)) {
      return fail(`an added token must have text and an id below ${MOST_IDS}, not ${brief(token)}`);
    }
    const { content, id } = token;
    if (isBroken(content)) fail(`the added token ${brief(content)} has half a surrogate pair`);
    if (content.length > LONGEST_TOKEN)
      fail(`an added token of ${content.length} characters (at most ${LONGEST_TOKEN})`);
    if (ids.has(content)) fail(`the added token ${brief(content)} is there twice`);
    for (const flag of FLAGS) {
      const value = token[flag] ?? false;
      if (typeof value !== "boolean") fail(`the added token ${brief(content)} has "${flag}": ${brief(value)}`);
    }
    const expected = model.ids.get(content) ?? (largest >= model.size ? largest + 1 : model.size);
    if (id !== expected) {
      fail(`the added token ${brief(content)} has the id ${id}, but by its place and the vocabulary it is ${expected}`);
    }
    ids.set(content, id);
    largest = Math.max(largest, id);
    const special = token.special === true;
    return {
      id,
      content,
      special,
      normalized: (token.normalized as boolean | undefined) ?? !special,
      lstrip: token.lstrip === true,
      rstrip: token.rstrip === true,
      single_word: token.single_word === true,
    };
  });
}
