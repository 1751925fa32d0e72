/** JSON from strangers: what is too large, too deep or no JSON is said in the words of the person whose file it is. */
import { UserError } from "./errors.ts";

/** Characters of one JSON text. JavaScript's own limit is twice that, and its message says nothing of a file. */
export const LONGEST_JSON = 2 ** 28;
/** Lists and objects within each other; what walks through them takes a step of the stack for each. */
const DEEPEST = 512;

/**
 * Parses a JSON text.
 * @param where it stands, for error messages
 */
export function readJson(text: string, where: string): unknown {
  if (text.length > 2 * DEEPEST && depthOf(text) > DEEPEST) {
    throw new UserError(`${where}: not valid JSON here: lists and objects are nested more than ${DEEPEST} deep`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${where}: not valid JSON: ${(error as Error).message}`, { cause: error });
  }
}

const [QUOTE, BACKSLASH, OPEN, CLOSE, BEGIN, END] = ['"', "\\", "[", "]", "{", "}"].map((c) => c.charCodeAt(0));

/** How deep the lists and objects of a text are nested, or one more than the limit. */
function depthOf(text: string): number {
  let depth = 0;
  let most = 0;
  for (let i = 0; i < text.length && most <= DEEPEST; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) {
      for (i++; i < text.length && text.charCodeAt(i) !== QUOTE; i++) if (text.charCodeAt(i) === BACKSLASH) i++;
    } else if (code === OPEN || code === BEGIN) most = Math.max(most, ++depth);
    else if (code === CLOSE || code === END) depth--;
  }
  return most;
}
