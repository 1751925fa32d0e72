/** What the trainers read, whatever the file looked like. `where` says where a record came from ("pairs.jsonl:12"). */

/** Running text. */
export interface TextRecord {
  kind: "text";
  text: string;
  where?: string;
}

/** A prompt and the answer to learn; the model sees `prompt + completion`. */
export interface PromptCompletion {
  kind: "prompt_completion";
  prompt: string;
  completion: string;
  where?: string;
}

/** Two answers to one prompt, the better one first. */
export interface Preference {
  kind: "preference";
  prompt: string;
  chosen: string;
  rejected: string;
  where?: string;
}

/** A prompt to answer. */
export interface PromptOnly {
  kind: "prompt";
  prompt: string;
  where?: string;
}

export type DataRecord = TextRecord | PromptCompletion | Preference | PromptOnly;
export type RecordKind = DataRecord["kind"];
export type RecordOf<K extends RecordKind> = Extract<DataRecord, { kind: K }>;
