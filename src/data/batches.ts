/** Records as token ids. */
import { UserError } from "../runtime/errors.ts";
import { spanMask } from "./assistant-mask.ts";
import { shortenPair } from "./pair-truncation.ts";
import type { Preference, PromptCompletion, PromptOnly, TextRecord } from "./records.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** A sequence to learn; its loss counts from the token at `promptLength` on. */
export interface SftExample {
  ids: Uint32Array;
  promptLength: number;
  /** Where given, of those only the tokens with a 1 here. */
  learned?: Uint8Array;
}

/** A preference as token ids: both answers behind the same prompt, as whole sequences. */
export interface PreferenceExample {
  chosen: Uint32Array;
  rejected: Uint32Array;
  promptLength: number;
  /** Of the rejected sequence, where its beginning was cut differently. */
  rejectedPromptLength?: number;
  /** Where given, of the answers' tokens only those with a 1 here count (one entry per token of each sequence). */
  learned?: { chosen: Uint8Array; rejected: Uint8Array };
  /** By how much the chosen answer's reward should exceed the other's; none counts as 0. */
  margin?: number;
  /** Whether each answer by itself is safe. */
  safety?: { chosen: boolean; rejected: boolean };
}

/** A prompt as token ids. */
export interface PromptExample {
  ids: Uint32Array;
}

/** A prompt that leaves no room for an answer. */
export class PromptTooLongError extends UserError {}

/** How records become token ids. */
export interface PrepareOptions {
  /** The longest sequence the model may see, in tokens; what is longer is cut at its end. */
  maxLength: number;
  /**
   * Where preference pairs are cut instead: "left" keeps the end of the answer, which a reward model is read at, and drops
   * the beginning of the prompt; the token that begins every text stays. Default "right".
   */
  truncationSide?: "right" | "left";
  /**
   * Preference pairs that are too long lose their prompts first, down to this many tokens: see `shortenPair`. Prompts that
   * are answered once lose their beginnings above it, whatever the length of the answer.
   */
  maxPromptLength?: number | null;
  /** Whether answers end with the end-of-text token; default true. A cut answer has no end. */
  appendEos?: boolean;
  /** Called when a record's tokens are cut. */
  onCut?: () => void;
}

/**
 * Prompt and completion are tokenized apart and joined, so that a prompt has the same ids in training and in generation.
 * @throws UserError naming the record when its prompt leaves no room for an answer
 */
export function sftExample(record: PromptCompletion, tokenizer: Tokenizer, options: PrepareOptions): SftExample {
  if (record.whole) return wholeExample(record, tokenizer, options);
  if (record.answers) return answersExample(record, tokenizer, options);
  const prompt = shortPromptIds(record, tokenizer, options);
  return { ids: answerIds(prompt, record.completion, tokenizer, options, record), promptLength: prompt.length };
}

/** A prompt that loses its beginning where it is longer than `maxPromptLength`; the token that begins every text stays. */
function shortPromptIds(record: Prompted, tokenizer: Tokenizer, options: PrepareOptions): number[] {
  const { maxLength, maxPromptLength } = options;
  if (!maxPromptLength) return promptIds(record, tokenizer, maxLength);
  if (maxPromptLength >= maxLength) {
    throw new UserError(`max_prompt_length ${maxPromptLength} leaves no room for an answer within ${maxLength} tokens`);
  }
  const prompt = promptIds(record, tokenizer, Number.POSITIVE_INFINITY);
  if (prompt.length <= maxPromptLength) return prompt;
  const kept = prefixLength(prompt, tokenizer);
  return [...prompt.slice(0, kept), ...prompt.slice(kept + prompt.length - maxPromptLength)];
}

/** A whole conversation, all of which is learned. */
function wholeExample(record: PromptCompletion, tokenizer: Tokenizer, options: PrepareOptions): SftExample {
  const spelled = tokenizer.encode(record.prompt + record.completion);
  const ids = record.rendered ? spelled : [...tokenizer.prefixIds, ...spelled, ...eosIds(tokenizer, options)];
  return { ids: Uint32Array.from(ids.slice(0, options.maxLength)), promptLength: 0 };
}

/** A whole conversation, of which parts are learned. It is tokenized as one text, as the template wrote it. */
function answersExample(record: PromptCompletion, tokenizer: Tokenizer, options: PrepareOptions): SftExample {
  const text = record.prompt + record.completion;
  const spelled = tokenizer.encode(text);
  const prefix = record.rendered ? [] : tokenizer.prefixIds;
  const end = record.rendered ? [] : eosIds(tokenizer, options);
  const mask = spanMask(tokenizer, text, spelled, record.answers ?? []);
  const whole = [...prefix, ...spelled, ...end];
  if (whole.length > options.maxLength) options.onCut?.();
  const ids = Uint32Array.from(whole).slice(0, options.maxLength);
  const learned = Uint8Array.from([...prefix.map(() => 0), ...mask, ...end.map(() => 1)]).slice(0, options.maxLength);
  const promptLength = learned.indexOf(1);
  if (promptLength < 0) {
    throw new PromptTooLongError(
      `${record.where ?? "a conversation"}: the assistant says nothing within the first ${options.maxLength} tokens; ` +
        "shorten or remove it, or use a longer maximum length",
    );
  }
  return { ids, promptLength, learned };
}

/**
 * Tokenizes a preference pair and cuts it to its limits as the options say.
 * @throws UserError naming the record when its prompt leaves no room for an answer
 */
export function preferenceExample(
  record: Preference,
  tokenizer: Tokenizer,
  options: PrepareOptions,
): PreferenceExample {
  const besides = {
    ...(record.margin !== undefined && { margin: record.margin }),
    ...(record.safety && { safety: record.safety }),
  };
  if (options.maxPromptLength) return { ...cutInTwoSteps(record, tokenizer, options), ...besides };
  if (options.truncationSide === "left") return { ...cutAtTheLeft(record, tokenizer, options), ...besides };
  const prompt = promptIds(record, tokenizer, options.maxLength);
  return {
    chosen: answerIds(prompt, record.chosen, tokenizer, options, record),
    rejected: answerIds(prompt, record.rejected, tokenizer, options, record),
    promptLength: prompt.length,
    ...besides,
  };
}

/** A pair whose prompt is cut before its answers are. */
function cutInTwoSteps(record: Preference, tokenizer: Tokenizer, options: PrepareOptions): PreferenceExample {
  const { maxLength, truncationSide: side = "right" } = options;
  const maxPromptLength = options.maxPromptLength as number;
  if (maxPromptLength >= maxLength) {
    throw new UserError(`max_prompt_length ${maxPromptLength} leaves no room for an answer within ${maxLength} tokens`);
  }
  const unlimited = { ...options, maxLength: Number.POSITIVE_INFINITY };
  const prompt = promptIds(record, tokenizer, unlimited.maxLength);
  const pair = {
    chosen: answerIds(prompt, record.chosen, tokenizer, unlimited, record),
    rejected: answerIds(prompt, record.rejected, tokenizer, unlimited, record),
    promptLength: prompt.length,
  };
  const cut = shortenPair(pair, { maxLength, maxPromptLength, side, kept: prefixLength(prompt, tokenizer) });
  if (cut !== pair) options.onCut?.();
  return cut;
}

/** Tokens that begin every text, where the prompt begins with them. */
const prefixLength = (prompt: readonly number[], { prefixIds }: Tokenizer): number =>
  prefixIds.every((id, i) => prompt[i] === id) ? prefixIds.length : 0;

/** A pair whose sequences lose their beginnings where they are too long: each as much as it must. */
function cutAtTheLeft(record: Preference, tokenizer: Tokenizer, options: PrepareOptions): PreferenceExample {
  const side = (completion: string) => answerExample({ ...record, completion }, tokenizer, options);
  const [chosen, rejected] = [side(record.chosen), side(record.rejected)];
  return {
    chosen: chosen.ids,
    rejected: rejected.ids,
    promptLength: chosen.promptLength,
    ...(rejected.promptLength !== chosen.promptLength && { rejectedPromptLength: rejected.promptLength }),
  };
}

/** An answer to be scored, cut at its end or its beginning as `truncationSide` says. */
export function answerExample(
  record: Prompted & { completion: string },
  tokenizer: Tokenizer,
  options: PrepareOptions,
): { ids: Uint32Array; promptLength: number } {
  const left = options.truncationSide === "left";
  const { maxLength } = options;
  const unlimited = { ...options, maxLength: left ? Number.POSITIVE_INFINITY : maxLength };
  const prompt = promptIds(record, tokenizer, unlimited.maxLength);
  const ids = answerIds(prompt, record.completion, tokenizer, unlimited, record);
  const cut = ids.length - maxLength;
  if (!left || cut <= 0) return { ids, promptLength: prompt.length };
  options.onCut?.();
  const kept = prefixLength(prompt, tokenizer);
  const whole = Uint32Array.from([...ids.subarray(0, kept), ...ids.subarray(kept + cut)]);
  return { ids: whole, promptLength: Math.max(kept, prompt.length - cut) };
}

/**
 * A prompt as it is answered.
 * @param options.maxLength tokens of prompt and answer together at most
 * @param options.answer tokens that must be left for the answer; default 1
 */
export function promptExample(
  record: PromptOnly,
  tokenizer: Tokenizer,
  options: { maxLength: number; answer?: number },
): PromptExample {
  return { ids: Uint32Array.from(promptIds(record, tokenizer, options.maxLength, options.answer)) };
}

/**
 * Running text as sequences of at most maxLength tokens, all of which are learned. The end-of-text token follows the last
 * piece; pieces of a single token are dropped, since nothing precedes what they would teach.
 */
export function textExamples(record: TextRecord, tokenizer: Tokenizer, options: PrepareOptions): SftExample[] {
  const prefix = tokenizer.prefixIds;
  const ids = [...prefix, ...tokenizer.encode(record.text), ...eosIds(tokenizer, options)];
  const examples: SftExample[] = [];
  for (let at = 0; at < ids.length - 1; at += options.maxLength) {
    const piece = ids.slice(at, at + options.maxLength);
    if (piece.length > 1) examples.push({ ids: Uint32Array.from(piece), promptLength: 1 });
  }
  return examples;
}

/**
 * Prepares many records, e.g. `prepareAll(records, (record) => sftExample(record, tokenizer, { maxLength }))`.
 * @param tooLong what happens to a record whose prompt is too long: an error (default), or it is left out
 * @throws UserError when nothing is left
 */
export function prepareAll<R, E>(
  records: readonly R[],
  prepare: (record: R) => E,
  tooLong: "error" | "skip" = "error",
): { examples: E[]; kept: R[]; skipped: number } {
  const examples: E[] = [];
  const kept: R[] = [];
  for (const record of records) {
    try {
      examples.push(prepare(record));
      kept.push(record);
    } catch (error) {
      if (tooLong === "error" || !(error instanceof PromptTooLongError)) throw error;
    }
  }
  if (records.length > 0 && kept.length === 0) {
    throw new UserError(`all ${records.length} prompts are too long; use a longer maximum length`);
  }
  return { examples, kept, skipped: records.length - kept.length };
}

/** A record with a prompt, of any kind. */
export interface Prompted {
  prompt: string;
  rendered?: boolean;
  where?: string;
}

function promptIds(record: Prompted, tokenizer: Tokenizer, maxLength: number, answer = 1): number[] {
  const spelled = tokenizer.encode(record.prompt);
  // A text that a template wrote elsewhere may begin with the tokens of a beginning already: one such beginning is enough.
  const begun = record.rendered || tokenizer.prefixIds.every((id, i) => spelled[i] === id);
  const ids = [...(begun ? [] : tokenizer.prefixIds), ...spelled];
  const name = record.where ?? `prompt ${JSON.stringify(record.prompt.slice(0, 40))}`;
  if (ids.length + answer > maxLength) {
    const [room, way] =
      answer > 1 ? [` of ${answer} tokens`, "ask for shorter answers"] : ["", "use a longer maximum length"];
    throw new PromptTooLongError(
      `${name}: the prompt has ${ids.length} tokens and leaves no room for an answer${room} within ${maxLength} tokens; ` +
        `shorten or remove it, or ${way}`,
    );
  }
  if (ids.length === 0) throw new UserError(`${name}: the prompt is empty`);
  return ids;
}

function answerIds(
  prompt: number[],
  answer: string,
  tokenizer: Tokenizer,
  options: PrepareOptions,
  { rendered }: Prompted,
): Uint32Array {
  const spelled = tokenizer.encode(answer, { continued: true });
  const end = rendered ? [] : eosIds(tokenizer, options);
  const ended = end.length > 0 && spelled.at(-1) === end[0]; // an answer that spells its end has one already
  const whole = [...prompt, ...spelled, ...(ended ? [] : end)];
  if (whole.length > options.maxLength) options.onCut?.();
  return Uint32Array.from(whole.slice(0, options.maxLength));
}

function eosIds(tokenizer: Tokenizer, options: PrepareOptions): number[] {
  if (options.appendEos === false) return [];
  if (tokenizer.eosId === undefined) throw new UserError("the tokenizer has no end-of-text token (eos_token)");
  return [tokenizer.eosId];
}
