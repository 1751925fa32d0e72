/** A tokenizer of whole words with a chat template of three marks, for tiny policies that act in environments. */
import { CausalLM, decoderConfig } from "webrlhf/nn";

type Message = { role: string; content?: unknown };

const MARKS = ["<user>", "<tool>", "<assistant>", "<end>"];

/**
 * A word is a token. Special tokens: the four marks.
 * @param other the word that stands for words that are not in the list, however many of them follow each other; without, they are an error
 */
export function wordTokenizer(words: readonly string[], other?: string) {
  const tokens = [...MARKS, ...new Set([...words, ...(other === undefined ? [] : [other])])];
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const eosId = MARKS.indexOf("<end>");
  const known = (word: string): string => {
    if (idOf.has(word)) return word;
    if (other === undefined) throw new Error(`no word: ${word}`);
    return other;
  };
  return {
    vocabSize: tokens.length,
    eosId,
    bosId: undefined,
    padId: undefined,
    encode: (text: string) =>
      text
        .replaceAll(/<\w+>/g, " $& ")
        .split(/\s+/)
        .filter((word) => word !== "")
        .map(known)
        .filter((word, i, all) => word !== other || all[i - 1] !== other)
        .map((word) => idOf.get(word) as number),
    decode: (ids: ArrayLike<number>, { skipSpecialTokens = true } = {}) =>
      Array.from(ids, (id) => tokens[id])
        .filter((token) => !skipSpecialTokens || !MARKS.includes(token))
        .join(" "),
    checkFits: () => {},
    chatTemplate: {
      render: (messages: readonly Message[], { addGenerationPrompt = false } = {}) =>
        messages.map(({ role, content }) => `<${role}>${content}<end>`).join("") +
        (addGenerationPrompt ? "<assistant>" : ""),
    },
  };
}

/** A policy from scratch for such a tokenizer. */
export function wordPolicy(
  { vocabSize, eosId }: { vocabSize: number; eosId?: number | undefined },
  seed: number,
  size = {},
): CausalLM {
  const shape = { hiddenSize: 32, layers: 1, heads: 2, maxPositions: 64, ...size };
  const config = decoderConfig({
    family: "llama",
    vocabSize,
    tieEmbeddings: false,
    eosId: eosId ?? null,
    padId: null,
    ...shape,
  });
  return new CausalLM(config, "policy").initialize(seed);
}
