/** The language that a text is written in. */
import { UserError } from "../../runtime/errors.ts";

/** What is in no language: code, formulas, tags, addresses. */
const SPEECHLESS = /```[\s\S]*?(?:```|$)|`[^`\n]*`|\$\$[^$]*\$\$|\$[^$\n]*\$|\\[a-zA-Z]+|<\/?\w+>|https?:\/\/\S+/g;

/**
 * Prepares a judge of languages (n-grams, by tinyld).
 * @param wanted ISO 639-1 codes, of which one is to be the text's
 * @param among the only languages that a text may be in; null thinks of all that are known: short texts are then often mistaken
 * @throws UserError for a code that is not known
 */
export async function inLanguage(
  wanted: readonly string[],
  among: readonly string[] | null,
): Promise<(text: string) => boolean> {
  const { detect, supportedLanguages, toISO2 } = await import("tinyld");
  const known = new Set(supportedLanguages.map(toISO2));
  const unknown = [...wanted, ...(among ?? [])].find((code) => !known.has(code));
  if (unknown !== undefined) {
    throw new UserError(
      `"${unknown}" is no language that is known: they go by two letters (ISO 639-1), ${[...known].sort().join(", ")}`,
    );
  }
  const outside = among && wanted.find((code) => !among.includes(code));
  if (outside) throw new UserError(`"${outside}" is wanted, and not among ${among.join(", ")}`);
  return (text) => {
    const spoken = text.replace(SPEECHLESS, " ").slice(0, 4000);
    return wanted.includes(detect(spoken, among ? { only: [...among] } : {}));
  };
}
