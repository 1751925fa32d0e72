/** Files of answers to prompts, one a row, as policies and other programs leave them. */
import { UserError } from "../runtime/errors.ts";
import type { ChatMessage } from "./chat-template.ts";
import { questionOf } from "./question.ts";
import { type DataSource, readRows } from "./readers.ts";
import type { DataRecord } from "./records.ts";
import type { Columns } from "./schemas.ts";

/** An answer with the prompt it belongs to. */
export interface PromptAnswer {
  /** Messages where the row has them. */
  prompt: string | readonly ChatMessage[];
  text: string;
  row: Readonly<Columns>;
}

/** Answers by their prompts: see `promptKey`. */
export type Answers = ReadonlyMap<string, PromptAnswer>;

/** What tells prompts apart: a single message of the user is the same prompt as its text, and spaces around it do not count. */
export function promptKey(prompt: PromptAnswer["prompt"]): string {
  if (typeof prompt === "string") return prompt.trim();
  const turns = prompt.map(({ role, content }) => [role, typeof content === "string" ? content.trim() : content]);
  return turns.length === 1 && turns[0][0] === "user" && typeof turns[0][1] === "string"
    ? turns[0][1]
    : JSON.stringify(turns);
}

/** The prompt of a record as it was asked: messages or text of its row where that has them, else as the record has it. */
export function askedIn({
  row,
  where,
  prompt,
}: Pick<DataRecord, "row" | "where"> & { prompt: string }): PromptAnswer["prompt"] {
  const question = row && questionOf({ kind: "text", text: "", row, ...(where !== undefined && { where }) });
  return question ?? (typeof row?.prompt === "string" ? row.prompt : prompt);
}

/**
 * Reads rows of `prompt` (or `instruction`) with one answer: `response`, `completion`, `output`, or `responses` with a single one. Of
 * rows with the same prompt the last counts.
 * @throws UserError naming the row
 */
export async function readAnswers(source: DataSource): Promise<Answers> {
  const answers = new Map<string, PromptAnswer>();
  for await (const { value, where } of readRows(source)) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new UserError(`${where}: a row must be an object with a prompt and its answer`);
    }
    const one = answerOf(value as Columns, where);
    answers.set(promptKey(one.prompt), one);
  }
  if (answers.size > 0) return answers;
  throw new UserError(`${typeof source === "string" ? source : source.name}: there are no answers in here`);
}

function answerOf(row: Columns, where: string): PromptAnswer {
  const asked = row.prompt ?? row.instruction;
  const prompt = typeof asked === "string" ? asked : questionOf({ kind: "text", text: "", row, where });
  if (prompt === null) throw new UserError(`${where}: it has no "prompt" (or "instruction")`);
  const several = row.responses;
  if (Array.isArray(several) && several.length !== 1) {
    throw new UserError(`${where}: it has ${several.length} responses, and one is compared: leave one in each row`);
  }
  const given = Array.isArray(several) ? several[0] : (row.response ?? row.completion ?? row.output ?? row.messages);
  const text = Array.isArray(given) ? (given as ChatMessage[]).at(-1)?.content : given;
  if (typeof text === "string") return { prompt, text, row };
  throw new UserError(
    `${where}: it has no answer: "response", "completion", "output", or "responses" with a single one`,
  );
}
