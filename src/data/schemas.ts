/**
 * Row schemas: how the columns of a row become a record. The first row of a file decides which schema the file has; every
 * other row must have the same columns. The door for further ones is `registerSchema`.
 */
import { UserError } from "../runtime/errors.ts";
import { ASSISTANT, checkMessages, type Message, renderTurn } from "./messages.ts";
import type { DataRecord, Preference } from "./records.ts";

export type Columns = Record<string, unknown>;

export interface SchemaOptions {
  /** "plain" (default) keeps strings as they are; "turns" makes a prompt a human turn and an answer an assistant's turn. */
  template?: "plain" | "turns";
}

export interface RowSchema {
  name: string;
  /** The columns it needs; a schema with more of them is tried first. */
  columns: readonly string[];
  /** The row's record, or the reason why it is left out. */
  read(row: Columns, where: string, options: SchemaOptions): DataRecord | { skip: string };
}

const schemas: RowSchema[] = [];

/** Adds a schema. Of schemas that fit a row the one with most columns is taken, of those the one registered last. */
export function registerSchema(schema: RowSchema): void {
  schemas.unshift(schema);
  schemas.sort((a, b) => b.columns.length - a.columns.length);
}

/** Columns that hold something: Arrow-made files write null for "not there". */
export function columnsOf(row: Columns): string[] {
  return Object.keys(row).filter((key) => row[key] !== null && row[key] !== undefined);
}

/** The schema of a row. */
export function schemaOf(row: Columns, where: string): RowSchema {
  const found = columnsOf(row);
  const schema = schemas.find((candidate) => candidate.columns.every((column) => found.includes(column)));
  if (schema) return schema;
  const known = schemas.map((candidate) => candidate.columns.join(" + ")).join("; ");
  throw new UserError(`${where}: no known columns (found: ${found.join(", ") || "none"}); known are ${known}`);
}

registerSchema({
  name: "text",
  columns: ["text"],
  read: (row, where) => ({ kind: "text", text: text(row, "text", where), where }),
});

registerSchema({
  name: "prompt",
  columns: ["prompt"],
  read(row, where, options) {
    if (typeof row.prompt === "string" && options.template !== "turns")
      return { kind: "prompt", prompt: row.prompt, where };
    return { kind: "prompt", prompt: renderTurn(turns(row, "prompt", "user", where), []).prompt, where };
  },
});

registerSchema({
  name: "messages",
  columns: ["messages"],
  read(row, where) {
    const messages = checkMessages(row.messages, "messages", where);
    if (messages.at(-1)?.role !== "assistant") return { skip: "its last message is not the assistant's" };
    return { kind: "prompt_completion", ...renderTurn(messages.slice(0, -1), messages.slice(-1)), where };
  },
});

registerSchema({
  name: "prompt_completion",
  columns: ["prompt", "completion"],
  read: (row, where, options) => ({ kind: "prompt_completion", ...answer(row, "completion", where, options), where }),
});

registerSchema({
  name: "preference",
  columns: ["prompt", "chosen", "rejected"],
  read(row, where, options) {
    // Some sets repeat the question inside the answers.
    const full = [row.chosen, row.rejected].every((list) => Array.isArray(list) && list[0]?.role !== "assistant");
    if (full) return implicitMessages(row, where);
    const chosen = answer(row, "chosen", where, options);
    const rejected = answer(row, "rejected", where, options);
    return pair(chosen.prompt, chosen.completion, rejected.completion, where);
  },
});

registerSchema({
  name: "implicit_preference",
  columns: ["chosen", "rejected"],
  read: (row, where) => (Array.isArray(row.chosen) ? implicitMessages(row, where) : transcripts(row, where)),
});

function pair(prompt: string, chosen: string, rejected: string, where: string): Preference | { skip: string } {
  if (chosen === rejected) return { skip: "both answers are the same" };
  return { kind: "preference", prompt, chosen, rejected, where };
}

/** Two conversations: what they begin with alike is the prompt. */
function implicitMessages(row: Columns, where: string): Preference | { skip: string } {
  const chosen = checkMessages(row.chosen, "chosen", where);
  const rejected = checkMessages(row.rejected, "rejected", where);
  let common = 0;
  while (common < Math.min(chosen.length, rejected.length) && same(chosen[common], rejected[common])) common++;
  if (common === chosen.length && common === rejected.length) return { skip: "both answers are the same" };
  if (chosen[common]?.role !== "assistant" || rejected[common]?.role !== "assistant") {
    return { skip: "the conversations do not part at an assistant's message" };
  }
  const prompt = chosen.slice(0, common);
  const better = renderTurn(prompt, chosen.slice(common));
  return pair(better.prompt, better.completion, renderTurn(prompt, rejected.slice(common)).completion, where);
}

/**
 * Two transcripts ("\n\nHuman: ...\n\nAssistant: ..."): the prompt is their longest common start, cut back to the last
 * mark of the assistant; the answers are the rests and begin with a space.
 */
function transcripts(row: Columns, where: string): Preference | { skip: string } {
  const chosen = text(row, "chosen", where);
  const rejected = text(row, "rejected", where);
  if (chosen === rejected) return { skip: "both answers are the same" };
  let common = 0;
  while (common < chosen.length && chosen[common] === rejected[common]) common++;
  const mark = chosen.slice(0, common).lastIndexOf(ASSISTANT);
  if (mark < 0) {
    throw new UserError(
      `${where}: no "prompt" column, and "chosen" and "rejected" do not begin as one transcript with "\\n\\nAssistant:"`,
    );
  }
  const cut = mark + ASSISTANT.length;
  return pair(chosen.slice(0, cut), chosen.slice(cut), rejected.slice(cut), where);
}

/** A prompt with one of its answers; either may be a string or messages. */
function answer(
  row: Columns,
  column: string,
  where: string,
  options: SchemaOptions,
): { prompt: string; completion: string } {
  const { prompt, [column]: completion } = row;
  if (typeof prompt === "string" && typeof completion === "string" && options.template !== "turns") {
    return { prompt, completion };
  }
  return renderTurn(turns(row, "prompt", "user", where), turns(row, column, "assistant", where));
}

/** The messages of a column; a string is one message of the given role. */
function turns(row: Columns, column: string, role: Message["role"], where: string): Message[] {
  const value = row[column];
  if (typeof value === "string") return [{ role, content: value }];
  if (Array.isArray(value)) return checkMessages(value, column, where);
  throw new UserError(`${where}: "${column}" must be a string or a list of messages`);
}

function text(row: Columns, column: string, where: string): string {
  const value = row[column];
  if (typeof value !== "string") throw new UserError(`${where}: "${column}" must be a string`);
  return value;
}

function same(a: Message, b: Message): boolean {
  return a.role === b.role && a.content === b.content;
}
