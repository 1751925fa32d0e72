/** What a tokenizer puts before and after a text. */
import { brief, isId, isObject, type Part } from "./description.ts";

/** Ids that stand before and after every text. */
export interface Around {
  prefix: number[];
  suffix: number[];
}

export function aroundText(part: Part | null): Around {
  if (!part) return { prefix: [], suffix: [] };
  switch (part.type) {
    case "ByteLevel":
      return { prefix: [], suffix: [] };
    case "BertProcessing":
    case "RobertaProcessing":
      return { prefix: [idOf(part, "cls")], suffix: [idOf(part, "sep")] };
    case "TemplateProcessing":
      return template(part);
    case "Sequence": {
      const adding = part
        .parts("processors")
        .map(aroundText)
        .filter((one) => one.prefix.length + one.suffix.length > 0);
      // What the Rust library makes of a template in a template is no template around the other.
      if (adding.length > 1) part.fail("has two processors that add tokens, which is not supported");
      return adding[0] ?? { prefix: [], suffix: [] };
    }
    default:
      return part.unknown();
  }
}

/** A token is a pair of its text and its id. */
function idOf(part: Part, key: string): number {
  const token = part.value(key);
  if (Array.isArray(token) && token.length === 2 && typeof token[0] === "string" && isId(token[1])) return token[1];
  return part.fail(`needs "${key}" as a token with its id, not ${brief(token)}`);
}

function template(part: Part): Around {
  const single = part.value("single");
  const special = part.value("special_tokens");
  if (!Array.isArray(single) || !isObject(special)) return part.fail('needs "single" as a list and "special_tokens"');
  const around: Around = { prefix: [], suffix: [] };
  let texts = 0;
  for (const piece of single) {
    const token = isObject(piece) && isObject(piece.SpecialToken) ? piece.SpecialToken.id : undefined;
    if (isObject(piece) && isObject(piece.Sequence) && piece.Sequence.id === "A") texts++;
    else if (typeof token === "string" && Object.hasOwn(special, token)) {
      const ids = isObject(special[token]) ? special[token].ids : undefined;
      if (!Array.isArray(ids) || !ids.every(isId)) return part.fail(`has no ids for ${brief(token)}`);
      for (const id of ids as number[]) around[texts === 0 ? "prefix" : "suffix"].push(id);
    } else return part.fail(`has ${brief(piece)} in its template`);
  }
  if (texts !== 1) part.fail(`has a template with ${texts} places for a text, not one`);
  return around;
}
