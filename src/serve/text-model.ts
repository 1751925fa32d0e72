import { HUMAN, type Message, renderTurn } from "../data/messages.ts";
import { StreamDecoder } from "../data/stream-decoder.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { DecoderConfig } from "../nn/config.ts";
import { Engine, type EngineOptions } from "../nn/engine.ts";
import type { CausalLM } from "../nn/models.ts";
import { eachChoice, type SamplingParams } from "../nn/sampling.ts";
import { UserError } from "../runtime/errors.ts";
import type { TextCodec, TextModel } from "./model.ts";

export interface TextModelOptions extends EngineOptions {
  name: string;
  /** The model's generation_config.json, for the requests' defaults. */
  generationConfig?: Readonly<Record<string, unknown>>;
}

/** A model and its tokenizer, ready to be asked in text. The caller closes `engine`, then destroys the model. */
export function textModel(model: CausalLM, tokenizer: Tokenizer, options: TextModelOptions): TextModel {
  const engine = new Engine(model, options);
  return {
    ...textCodec(tokenizer, model.config, engine.capacity),
    name: options.name,
    engine,
    defaults: samplingDefaults(options.generationConfig ?? {}),
  };
}

/**
 * A tokenizer as generation needs it. Conversations are written by its chat template, without one as a transcript of
 * "Human" and "Assistant".
 * @param capacity tokens that fit; texts that are far too long are refused before they are tokenised
 */
export function textCodec(
  tokenizer: Tokenizer,
  { vocabSize, eosIds }: Pick<DecoderConfig, "vocabSize" | "eosIds">,
  capacity: number,
): TextCodec {
  const longest = MOST_CHARACTERS * capacity;
  const checkLength = (characters: number) => {
    if (characters <= longest) return;
    throw new UserError(`the prompt has ${characters} characters, far more than ${capacity} tokens can hold`);
  };
  const encode = (text: string, raw = false): number[] => {
    checkLength(text.length);
    // One more than fits is enough to know that it does not.
    return [...(raw ? [] : tokenizer.prefixIds), ...tokenizer.encode(text, { most: capacity + 1 })];
  };
  return {
    vocabSize,
    endIds: eosIds,
    encode,
    decode: (ids) => tokenizer.decode(ids),
    decoder: (context) => new StreamDecoder(tokenizer, { context }),
    token(id) {
      const text = tokenizer.decode([id], { skipSpecialTokens: false, continued: true });
      const bytes = tokenizer.isByteLevel && !tokenizer.isSpecial(id) ? tokenizer.bytesOf(id) : utf8(text);
      return { text, bytes: Array.from(bytes) };
    },
    chat(messages) {
      checkLength(messages.reduce((sum, { content }) => sum + content.length, 0));
      const { chatTemplate } = tokenizer;
      if (chatTemplate) {
        const text = chatTemplate.render(messages, { addGenerationPrompt: true });
        return { ids: encode(text, true), stop: [] }; // the template writes the special tokens itself
      }
      return { ids: encode(renderTurn(messages as readonly Message[], []).prompt), stop: [HUMAN] };
    },
  };
}

/** Characters per token, at most: a context full of English has four, one full of code hardly more. */
const MOST_CHARACTERS = 32;

const utf8 = (text: string) => new TextEncoder().encode(text);

/** The sampling options of a generation_config.json; what makes no sense there is left out. */
function samplingDefaults(config: Readonly<Record<string, unknown>>): Partial<SamplingParams> {
  return Object.fromEntries(
    eachChoice.flatMap(
      ([
        name,
        snake,
        {
          asked: [min, max],
        },
      ]) => {
        const value = config[snake];
        return typeof value === "number" && value >= min && value <= max ? [[name, value]] : [];
      },
    ),
  );
}
