/**
 * Patterns that published tokenizers cut words with and that JavaScript's own matcher runs in time that grows with the text:
 * each was measured on texts that make others slow (scripts/tokenizer-time.mjs).
 */
const LETTERS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const SIGNS = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";
const SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";

export const KNOWN_PATTERNS: ReadonlySet<string> = new Set([
  // GPT-2
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  // Llama 3, Qwen 2 and 3, SmolLM 3, GPT-4
  ...["\\p{N}{1,3}", "\\p{N}", "\\p{N}+"].map((digits) => `${ENDINGS}|${LETTERS}|${digits}|${SIGNS}|${SPACES}`),
  `'(?i:[sdmt]|ll|ve|re)|${LETTERS}|\\p{N}{1,3}|${SIGNS}|${SPACES}`,
  // GPT-4o, and those that follow it
  ...["\\p{N}{1,3}", "\\p{N}"].map((digits) =>
    [
      `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`,
      `[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?`,
      digits,
      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*",
      SPACES,
    ].join("|"),
  ),
  // DeepSeek
  "\\p{N}{1,3}",
  "[\\r\\n]",
  "\\p{N}",
  "\\p{N}+",
  "[一-龥ࠀ-一가-퟿]+",
  "[一-龥぀-ゟ゠-ヿ]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
]);
