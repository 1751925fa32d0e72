/**
 * What the trainers read, whatever the file looked like. `where` says where a record came from ("pairs.jsonl:12").
 * `rendered` says that a chat template wrote the text: the tokens that begin and end it stand in it, none are to be added.
 */
import type { ChatMessage, Span } from "./chat-template.ts";

/** Where a record came from. */
export interface Origin {
  where?: string;
  /** The row it was made of, with all of its columns. */
  row?: Readonly<Record<string, unknown>>;
}

/** Running text. */
export interface TextRecord extends Origin {
  kind: "text";
  text: string;
}

/** A prompt and the answer to learn; the model sees `prompt + completion`. */
export interface PromptCompletion extends Origin {
  kind: "prompt_completion";
  prompt: string;
  completion: string;
  /** The parts of `prompt + completion` to learn, where that is not the completion as a whole. */
  answers?: Span[];
  /** Everything is learned, whatever stands before the completion. */
  whole?: boolean;
  rendered?: boolean;
}

/** The last answer of a conversation that is learned as a whole, with all before it as the prompt; another record as it is. */
export function lastTurn<R extends Pick<PromptCompletion, "prompt" | "completion" | "answers">>(record: R): R {
  const { prompt, completion, answers, ...rest } = record;
  const last = answers?.at(-1);
  if (!last) return record;
  const text = prompt + completion;
  return { ...rest, prompt: text.slice(0, last[0]), completion: text.slice(...last) } as R;
}

/** Two answers to one prompt, the better one first. */
export interface Preference extends Origin {
  kind: "preference";
  prompt: string;
  chosen: string;
  rejected: string;
  /** By how much the better answer's reward should exceed the other's. */
  margin?: number;
  /** Whether each answer by itself is safe; then `chosen` is the safer one. */
  safety?: { chosen: boolean; rejected: boolean };
  /** The part of its dataset it belongs to. */
  subset?: string;
  rendered?: boolean;
}

/** A prompt with an answer that was found good or bad by itself. */
export interface Labelled extends Origin {
  kind: "labelled";
  prompt: string;
  completion: string;
  /** True for a good answer. */
  label: boolean;
  rendered?: boolean;
}

/** A prompt to answer. */
export interface PromptOnly extends Origin {
  kind: "prompt";
  prompt: string;
  /** The answer that the data has, for rewards that compare with it. */
  target?: string;
  /** The conversation that was written as `prompt`, where there was one. */
  messages?: ChatMessage[];
  rendered?: boolean;
}

/** A record of a dataset, of any kind. */
export type DataRecord = TextRecord | PromptCompletion | Preference | Labelled | PromptOnly;
/** The kinds of records, by their field `kind`. */
export type RecordKind = DataRecord["kind"];
/** The records of one kind. */
export type RecordOf<K extends RecordKind> = Extract<DataRecord, { kind: K }>;
