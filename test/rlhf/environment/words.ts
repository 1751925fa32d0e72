/** A tokenizer of whole words with a chat template of three marks, for tiny policies that act in environments. */
import { CausalLM, decoderConfig } from "webrlhf/nn";

type Message = { role: string; content?: unknown };

const MARKS = ["<user>", "<tool>", "<assistant>", "<end>"];

/** A word is a token; what is no word of the list is an error. Special tokens: the four marks. */
export function wordTokenizer(words: readonly string[]) {
  const tokens = [...MARKS, ...new Set(words)];
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const eosId = MARKS.indexOf("<end>");
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
        .map((word) => {
          const id = idOf.get(word);
          if (id === undefined) throw new Error(`no word: ${word}`);
          return id;
        }),
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
  { vocabSize, eosId }: { vocabSize: number; eosId: number },
  seed: number,
  size = {},
): CausalLM {
  const shape = { hiddenSize: 32, layers: 1, heads: 2, maxPositions: 64, ...size };
  const config = decoderConfig({ family: "llama", vocabSize, tieEmbeddings: false, eosId, padId: null, ...shape });
  return new CausalLM(config, "policy").initialize(seed);
}
