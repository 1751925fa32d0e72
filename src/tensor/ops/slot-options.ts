/** How a sequence in a slot is sampled, as the host says it and as the kernels read it. */
import { SLOT_ENDS, SLOT_FIELDS, SLOT_WORDS } from "../../shaders/sample.wgsl.ts";
import { type Tensor, tensor } from "../core.ts";

/** In the place of a token: the row had ended before this step. */
export const NO_TOKEN = 0xffffffff;
/** End tokens a sequence may have. */
export const MAX_ENDS = SLOT_ENDS;

/** How one sequence is sampled. Numbers are checked where requests come in, not here. */
export interface SlotOptions {
  /** An integer of up to 53 bits; with `stream` it names the random numbers. */
  seed: number;
  stream: number;
  /** 0 is greedy. */
  temperature: number;
  /** 0 keeps all. */
  topK: number;
  topP: number;
  /** Tokens must have this share of the most probable one's probability; 0 keeps all. */
  minP: number;
  /** Divides positive and multiplies negative logits of tokens in the prompt or the response; 1 is neutral. */
  repetitionPenalty: number;
  /** Taken off the logits of tokens in the response, once, and per occurrence; 0 is neutral. */
  presencePenalty: number;
  frequencyPenalty: number;
  minNewTokens: number;
  maxNewTokens: number;
  /** At most MAX_ENDS. */
  endIds: readonly number[];
  /** Added to the logits of single tokens. */
  logitBias?: ReadonlyMap<number, number>;
}

export const isPenalised = (o: SlotOptions): boolean =>
  o.repetitionPenalty !== 1 || o.presencePenalty !== 0 || o.frequencyPenalty !== 0;

/** A slot's state as the kernels read it. */
export function stateWords(options: SlotOptions | null): Uint32Array {
  const words = new Uint32Array(SLOT_WORDS);
  const floats = new Float32Array(words.buffer);
  const at = (name: (typeof SLOT_FIELDS)[number]) => SLOT_FIELDS.indexOf(name);
  words.fill(NO_TOKEN, SLOT_FIELDS.length);
  if (!options) {
    words[at("done")] = 1;
    return words;
  }
  const { seed, temperature, endIds } = options;
  const greedy = temperature === 0;
  words[at("stream")] = options.stream;
  words[at("minNew")] = options.minNewTokens;
  words[at("maxNew")] = options.maxNewTokens;
  words[at("seed0")] = seed >>> 0;
  words[at("seed1")] = Math.floor(seed / 2 ** 32) >>> 0;
  words[at("greedy")] = greedy ? 1 : 0;
  words[at("penalised")] = isPenalised(options) ? 1 : 0;
  floats[at("it")] = greedy ? 1 : 1 / temperature;
  floats[at("topK")] = options.topK;
  floats[at("topP")] = options.topP;
  floats[at("logMinP")] = options.minP > 0 ? Math.log(options.minP) : -1e30;
  floats[at("repetition")] = options.repetitionPenalty;
  floats[at("presence")] = options.presencePenalty;
  floats[at("frequency")] = options.frequencyPenalty;
  if (endIds.length > SLOT_ENDS) throw new Error(`at most ${SLOT_ENDS} end tokens, got ${endIds.length}`);
  words.set(endIds, SLOT_FIELDS.length);
  return words;
}

const scratch = new Float32Array(1);
function floatBits(value: number): number {
  scratch[0] = value;
  return new Uint32Array(scratch.buffer)[0];
}

/**
 * Entries of single logits to change, for logits rows 0, 1, ... with the given options; null if there are none.
 * @param early false when every row has its `minNewTokens`
 */
export function slotBiases(rows: readonly (SlotOptions | null)[], early = true): Tensor | null {
  const words: number[] = [];
  rows.forEach((options, row) => {
    if (!options) return;
    const waiting = new Set(early && options.minNewTokens > 0 ? options.endIds : []);
    const bias = options.logitBias ?? new Map<number, number>();
    for (const id of new Set([...waiting, ...bias.keys()])) {
      words.push(row, id, floatBits(bias.get(id) ?? 0), waiting.has(id) ? 1 : 0);
    }
  });
  return words.length === 0 ? null : tensor(Uint32Array.from(words), [words.length / 4, 4]);
}
