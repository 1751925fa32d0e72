/** From words to ids: the models of a tokenizer.json. */
import { Bpe } from "./bpe-model.ts";
import { brief, isBroken, isId, isObject, type Json, MOST_IDS, Part } from "./description.ts";
import { LONGEST_TOKEN, type TokenModel } from "./token-model.ts";
import { Unigram } from "./unigram.ts";
import { WordLevel, WordPiece } from "./word-models.ts";

/** @throws UserError for a model that is not known or contradicts itself */
export function modelOf(json: Json, file: string): TokenModel {
  const model = new Part({ ...json, type: json.type ?? untyped(json) }, "model", file);
  switch (model.type) {
    case "BPE":
      return new Bpe(model, vocabulary(model));
    case "WordPiece":
      return new WordPiece(model, vocabulary(model));
    case "WordLevel":
      return new WordLevel(model, vocabulary(model));
    case "Unigram":
      return new Unigram(model, scored(model));
    default:
      return model.unknown();
  }
}

/** Files of older versions do not name their model. */
function untyped(json: Json): string {
  if (Array.isArray(json.vocab)) return "Unigram";
  if (json.merges !== undefined) return "BPE";
  return json.max_input_chars_per_word !== undefined ? "WordPiece" : "WordLevel";
}

function vocabulary(model: Part): Map<string, number> {
  const vocab = model.value("vocab");
  if (!isObject(vocab)) return model.fail('needs "vocab" as an object');
  const ids = new Map<string, number>();
  const seen = new Set<number>();
  for (const [token, id] of Object.entries(vocab)) {
    if (!isId(id)) return model.fail(`gives ${brief(token)} the id ${brief(id)}, not a whole number below ${MOST_IDS}`);
    if (seen.has(id)) return model.fail(`has two tokens with the id ${id}, one of them ${brief(token)}`);
    checkToken(model, token);
    seen.add(id);
    ids.set(token, id);
  }
  if (ids.size === 0) model.fail("has no tokens");
  return ids;
}

function scored(model: Part): [string, number][] {
  const vocab = model.value("vocab");
  if (!Array.isArray(vocab) || vocab.length === 0 || vocab.length > MOST_IDS) {
    return model.fail('needs "vocab" as a list of tokens with scores');
  }
  for (const entry of vocab) {
    if (!Array.isArray(entry) || entry.length !== 2 || typeof entry[0] !== "string" || !Number.isFinite(entry[1])) {
      return model.fail(`has the token ${brief(entry)}, which is not a text with a score`);
    }
    checkToken(model, entry[0]);
  }
  return vocab as [string, number][];
}

function checkToken(model: Part, token: string): void {
  if (token.length > LONGEST_TOKEN) model.fail(`has a token of ${token.length} characters (at most ${LONGEST_TOKEN})`);
  if (isBroken(token)) model.fail(`has the token ${brief(token)} with half a surrogate pair`);
}
