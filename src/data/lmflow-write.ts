/** Records as LMFlow's containers, or back as rows of JSON lines. */
import { UserError } from "../runtime/errors.ts";
import { isObject, type LmflowType, sideMessages } from "./lmflow.ts";
import { checkMessages, type Message } from "./messages.ts";
import type { Entry } from "./readers.ts";
import type { DataRecord } from "./records.ts";
import type { Columns } from "./schemas.ts";
import { parseTranscript } from "./transcripts.ts";

/** A transcript with LMFlow's marks: "\n\nHuman: Hi!" is "###Human: Hi!". */
export const lmflowMarks = (transcript: string): string =>
  transcript.replaceAll(/\n\n(Human|Assistant):/g, (_, role) => `###${role}:`);

/** Types that records can be written as. */
export const writtenTypes = [
  "text_only",
  "text2text",
  "conversation",
  "paired_conversation",
  "paired_text_to_text",
] as const satisfies readonly LmflowType[];
export type WrittenType = (typeof writtenTypes)[number];

/**
 * Records as the text of a container. Of a pair that is written as text_only, text2text or conversation only the chosen
 * answer is left.
 * @param marks how transcripts mark who speaks: as they are, or as "###Human:" and "###Assistant:"
 * @throws UserError naming the record that has not what the type needs
 */
export function containerText(entries: readonly Entry[], type: WrittenType, marks: "keep" | "lmflow"): string {
  const write = marks === "lmflow" ? lmflowMarks : (text: string) => text;
  const instances = entries.map((entry) => instanceOf(entry, type, write));
  // The type comes first: LMFlow looks for it in the first and the last 100 characters.
  return `${JSON.stringify({ type, instances }, null, 1)}\n`;
}

function instanceOf(entry: Entry, type: WrittenType, write: (text: string) => string): object {
  const { record } = entry;
  const lacks = (what: string) => new UserError(`${record.where}: ${type} needs ${what}, and there is none in it`);
  const answered = () => {
    if (record.kind === "prompt_completion") return [record.prompt, record.completion];
    if (record.kind === "preference") return [record.prompt, record.chosen];
    throw lacks("an answer");
  };
  switch (type) {
    case "text_only":
      if (record.kind === "text") return { text: write(record.text) };
      return { text: write(record.kind === "prompt" ? record.prompt : answered().join("")) };
    case "text2text": {
      const [input, output] = answered();
      return { input: write(input), output: write(output) };
    }
    case "conversation":
      return conversationOf(entry) ?? { messages: asMessages(...(answered() as [string, string])) };
    case "paired_text_to_text":
    case "paired_conversation": {
      if (record.kind !== "preference") throw lacks("a chosen and a rejected answer");
      const { prompt, chosen, rejected, margin } = record;
      const besides = margin === undefined ? {} : { margin };
      if (type === "paired_conversation") {
        return {
          chosen: { messages: asMessages(prompt, chosen) },
          rejected: { messages: asMessages(prompt, rejected) },
          ...besides,
        };
      }
      return { prompt: write(prompt), chosen: write(chosen), rejected: write(rejected), ...besides };
    }
  }
}

/** The messages of a row that has them. */
function conversationOf({ row, record }: Entry): object | null {
  const { system, ...columns } = (isObject(row.value) ? row.value : {}) as Columns;
  const name = ["messages", "conversations", "conversation"].find((column) => Array.isArray(columns[column]));
  if (name === undefined) return null;
  const messages = checkMessages(columns[name], name, record.where ?? "a conversation");
  return { ...(typeof system === "string" && { system }), messages };
}

/** A transcript's messages, or prompt and answer as one message each. */
function asMessages(prompt: string, answer: string): Message[] {
  if (/\n\n(Human|Assistant):/.test(prompt)) return parseTranscript(prompt + answer);
  return [
    { role: "user", content: prompt },
    { role: "assistant", content: answer.trim() },
  ];
}

/**
 * The columns under which a row can be read again from JSON lines: its own, where they say by themselves what it is, or
 * else those of the record.
 */
export function columnsToWrite({ row, record }: Entry, asRecord: boolean): Columns {
  const value = row.value as Columns;
  const type = row.schema?.name;
  if (!asRecord && (type === undefined || type === "dialogue")) return value;
  if (!asRecord && type === "conversation") return { messages: sideMessages(value, "", record.where ?? "") };
  if (!asRecord && type === "paired_conversation") {
    const side = (name: string) => sideMessages(value[name], name, record.where ?? "");
    return { chosen: side("chosen"), rejected: side("rejected") };
  }
  const { kind: _, where: __, rendered: ___, ...fields } = record as DataRecord & { rendered?: boolean };
  if (!("safety" in fields) || !fields.safety) return fields as Columns;
  const { safety, ...rest } = fields;
  return { ...rest, chosen_is_safe: safety.chosen, rejected_is_safe: safety.rejected };
}
