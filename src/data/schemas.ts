/**
 * Row schemas: how the columns of a row become a record. The first row of a file decides which schema the file has; every
 * other row must have the same columns. The door for further ones is `registerSchema`.
 */
import { UserError } from "../runtime/errors.ts";
import { maxOf, minOf } from "../runtime/extremes.ts";
import type { ChatMessage, ChatTemplate } from "./chat-template.ts";
import { checkMessages, conversationText, isConversation, type Style, turnText, withoutNulls } from "./messages.ts";
import type { DataRecord, Preference } from "./records.ts";
import { answersStart } from "./transcripts.ts";

/** One row of a dataset by the names of its columns. */
export type Columns = Record<string, unknown>;

/** How rows become records where their columns leave a choice. */
export interface SchemaOptions {
  /**
   * How strings and conversations become text:
   * "auto" (default): strings as they are; conversations by `chat`, or where there is none as a transcript;
   * "plain": strings as they are, conversations as a transcript;
   * "turns": strings too are turns of a transcript;
   * "chat": strings too are turns, written by `chat`.
   */
  template?: "auto" | "plain" | "turns" | "chat";
  /** The model's chat template. */
  chat?: ChatTemplate | null;
  /** What is learned of a conversation: its last message, which is the assistant's (default), all that it says, or all. */
  learned?: "last" | "assistant" | "all";
}

/** A kind of rows, known by their columns, and how they become records. */
export interface RowSchema {
  name: string;
  /** The columns it needs; a schema with more of them is tried first. */
  columns: readonly string[];
  /** The row's record or records, or the reason why it is left out. */
  read(row: Columns, where: string, options: SchemaOptions): DataRecord | DataRecord[] | { skip: string };
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

/**
 * The schema of a row.
 * @param wanted columns that somebody named: of schemas that fit, one with more of them goes before
 */
export function schemaOf(row: Columns, where: string, wanted: readonly string[] = []): RowSchema {
  const found = columnsOf(row);
  const fitting = schemas.filter((candidate) => candidate.columns.every((column) => found.includes(column)));
  const named = ({ columns }: RowSchema) => columns.filter((column) => wanted.includes(column)).length;
  const most = Math.max(0, ...fitting.map(named));
  const schema = fitting.find((candidate) => named(candidate) === most);
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
    if (typeof row.prompt === "string" && !stringsAreTurns(options))
      return { kind: "prompt", prompt: row.prompt, where };
    const messages = turns(row, "prompt", "user", where);
    const { completion: _, ...turn } = turnText(messages, [], style(row, options, where), where);
    return { kind: "prompt", ...turn, messages, where };
  },
});

/** Online-RLHF's sets of prompts. */
registerSchema({
  name: "context_messages",
  columns: ["context_messages"],
  read: (row, where, options) =>
    schemaOf({ prompt: [] }, where).read({ ...row, prompt: row.context_messages }, where, options),
});

registerSchema({
  name: "messages",
  columns: ["messages"],
  read(row, where, options) {
    const messages = checkMessages(row.messages, "messages", where);
    const how = style(row, options, where);
    if (options.learned === "all") {
      const { text, rendered } = conversationText(messages, how, where, false);
      return {
        kind: "prompt_completion",
        prompt: "",
        completion: text,
        whole: true,
        ...(rendered && { rendered }),
        where,
      };
    }
    if (options.learned === "assistant") {
      if (!messages.some(({ role }) => role === "assistant")) return { skip: "the assistant says nothing" };
      const { text, ...rest } = conversationText(messages, how, where);
      return { kind: "prompt_completion", prompt: "", completion: text, ...rest, where };
    }
    if (messages.at(-1)?.role !== "assistant") return { skip: "its last message is not the assistant's" };
    return { kind: "prompt_completion", ...turnText(messages.slice(0, -1), messages.slice(-1), how, where), where };
  },
});

registerSchema({
  name: "prompt_completion",
  columns: ["prompt", "completion"],
  read: (row, where, options) => ({ kind: "prompt_completion", ...answer(row, "completion", where, options), where }),
});

/** PaddleNLP's data; a conversation of one turn may stand in lists. */
registerSchema({
  name: "src_tgt",
  columns: ["src", "tgt"],
  read(row, where, options) {
    const only = (value: unknown) => (Array.isArray(value) && value.length === 1 ? value[0] : value);
    return readAs("prompt_completion", { prompt: only(row.src), completion: only(row.tgt) }, where, options);
  },
});

registerSchema({
  name: "labelled",
  columns: ["prompt", "completion", "label"],
  read(row, where, options) {
    const label = typeof row.label === "boolean" ? row.label : [false, true][Number(row.label)];
    if (label === undefined || row.label === "") {
      throw new UserError(`${where}: "label" must be true or false (or 1 or 0), not ${JSON.stringify(row.label)}`);
    }
    return { kind: "labelled", ...answer(row, "completion", where, options), label, where };
  },
});

/** Online-RLHF's scored responses: the best and the worst make the pair, as its training's "max_min" has it. */
registerSchema({
  name: "scored",
  columns: ["prompt", "responses", "rewards"],
  read(row, where, options) {
    const { prompt, responses, rewards } = row;
    const all = Array.isArray(rewards) ? rewards.map(Number) : [];
    if (!Array.isArray(responses) || all.length !== responses.length || !all.every(Number.isFinite)) {
      throw new UserError(`${where}: "rewards" must hold a number for each of "responses"`);
    }
    const [best, worst] = [all.indexOf(maxOf(all)), all.indexOf(minOf(all))];
    if (best === worst || all[best] === all[worst]) return { skip: "its responses have the same reward" };
    return readAs("preference", { prompt, chosen: responses[best], rejected: responses[worst] }, where, options);
  },
});

registerSchema({
  name: "preference",
  columns: ["prompt", "chosen", "rejected"],
  read(row, where, options) {
    // Some sets repeat the question inside the answers.
    if (isConversation(row.chosen) && isConversation(row.rejected)) return implicitMessages(row, where, options);
    const chosen = answer(row, "chosen", where, options);
    return pair(row, chosen, answer(row, "rejected", where, options).completion, where);
  },
});

registerSchema({
  name: "implicit_preference",
  columns: ["chosen", "rejected"],
  read: (row, where, options) =>
    Array.isArray(row.chosen) ? implicitMessages(row, where, options) : transcripts(row, where),
});

registerSchema({
  name: "safety_preference",
  columns: ["prompt", "chosen", "rejected", "chosen_is_safe", "rejected_is_safe"],
  read(row, where, options) {
    const { chosen_is_safe: chosen, rejected_is_safe: rejected } = row;
    if (typeof chosen !== "boolean" || typeof rejected !== "boolean") {
      throw new UserError(`${where}: "chosen_is_safe" and "rejected_is_safe" must be true or false`);
    }
    if (!chosen && rejected) return { skip: "the safer answer is labelled unsafe and the other one safe" };
    const found = readAs("preference", row, where, options);
    return "kind" in found ? { ...found, safety: { chosen, rejected } } : found;
  },
});

/** LMFlow's oldest reward data: two whole texts that begin alike. */
registerSchema({
  name: "positive_negative",
  columns: ["positive", "negative"],
  read(row, where) {
    const [chosen, rejected] = [text(row, "positive", where), text(row, "negative", where)];
    if (chosen === rejected) return { skip: "both answers are the same" };
    const start = Math.max(answersStart(chosen, rejected, "###Assistant:"), answersStart(chosen, rejected));
    const cut = start >= 0 ? start : commonWords(chosen, rejected);
    return pair(row, { prompt: chosen.slice(0, cut), completion: chosen.slice(cut) }, rejected.slice(cut), where);
  },
});

/** ShareGPT's conversations; as in axolotl all that the assistant says is learned, and a last question counts for nothing. */
const shareGpt: RowSchema = {
  name: "conversations",
  columns: ["conversations"],
  read: ({ conversations, ...row }, where, options) => {
    const messages = withSystem(checkMessages(conversations, "conversations", where), row.system);
    return readDialogue({ ...row, messages }, where, options);
  },
};
registerSchema(shareGpt);

registerSchema({
  name: "conversation",
  columns: ["conversation"],
  read: ({ conversation, ...row }, where, options) =>
    shareGpt.read({ ...row, conversations: conversation }, where, options),
});

/** LLaMA-Factory's pairs: a conversation, and two messages that go on with it. */
registerSchema({
  name: "conversations_preference",
  columns: ["conversations", "chosen", "rejected"],
  read(row, where, options) {
    const prompt = withSystem(checkMessages(row.conversations, "conversations", where), row.system);
    const side = (value: unknown) => (Array.isArray(value) || typeof value === "string" ? value : [value]);
    const { conversations: _, ...rest } = row;
    return readAs(
      "preference",
      { ...rest, prompt, chosen: side(row.chosen), rejected: side(row.rejected) },
      where,
      options,
    );
  },
});

/** A conversation with the system message that stands beside it. */
export const withSystem = (messages: ChatMessage[], system: unknown): ChatMessage[] =>
  typeof system === "string" && system !== "" ? [{ role: "system", content: system }, ...messages] : messages;

/** All that the assistant says in `messages` is learned. As in LMFlow a last message of the user's counts for nothing. */
export function readDialogue(row: Columns & { messages: ChatMessage[] }, where: string, options: SchemaOptions) {
  const last = row.messages.at(-1)?.role === "user" ? -1 : undefined;
  const messages = row.messages.slice(0, last);
  const turns = messages[0]?.role === "system" ? messages.slice(1) : messages;
  if (turns[0]?.role !== "user" || turns.length < 2) {
    return { skip: "it does not begin with a user's message that is answered" };
  }
  return readAs("messages", { ...row, messages }, where, { ...options, learned: "assistant" });
}

/** Conversations of which everything the assistant says is learned, whatever the options say. */
export const dialogueSchema: RowSchema = {
  name: "dialogue",
  columns: ["messages"],
  read: (row, where, options) => readAs("messages", row, where, { ...options, learned: "assistant" }),
};

/** Reads a row by a schema's name instead of by its columns. */
export function readAs(name: string, row: Columns, where: string, options: SchemaOptions) {
  const schema = schemas.find((candidate) => candidate.name === name);
  if (!schema) throw new Error(`there is no schema called ${name}`);
  return schema.read(row, where, options);
}

interface Turn {
  prompt: string;
  completion: string;
  rendered?: true;
}

function pair(row: Columns, better: Turn, rejected: string, where: string): Preference | { skip: string } {
  const { prompt, completion, rendered } = better;
  if (completion === rejected) return { skip: "both answers are the same" };
  const { subset } = row;
  const besides = { ...marginOf(row, where), ...(typeof subset === "string" && { subset }) };
  const rest = { ...besides, ...(rendered && { rendered }), where };
  return { kind: "preference", prompt, chosen: completion, rejected, ...rest };
}

/** The column `margin`; scores of the answers are no margin, since their scale is their judge's. */
function marginOf({ margin }: Columns, where: string): { margin?: number } {
  if (margin === undefined || margin === null) return {};
  if (typeof margin === "number" && Number.isFinite(margin)) return { margin };
  throw new UserError(`${where}: "margin" must be a number, not ${JSON.stringify(margin)}`);
}

/** Two conversations: what they begin with alike is the prompt. */
function implicitMessages(row: Columns, where: string, options: SchemaOptions): Preference | { skip: string } {
  const chosen = checkMessages(row.chosen, "chosen", where);
  const rejected = checkMessages(row.rejected, "rejected", where);
  let common = 0;
  while (common < Math.min(chosen.length, rejected.length) && same(chosen[common], rejected[common])) common++;
  if (common === chosen.length && common === rejected.length) return { skip: "both answers are the same" };
  if (chosen[common]?.role !== "assistant" || rejected[common]?.role !== "assistant") {
    return { skip: "the conversations do not part at an assistant's message" };
  }
  const prompt = chosen.slice(0, common);
  const how = style(row, options, where);
  const worse = turnText(prompt, rejected.slice(common), how, where).completion;
  return pair(row, turnText(prompt, chosen.slice(common), how, where), worse, where);
}

/**
 * Two transcripts ("\n\nHuman: ...\n\nAssistant: ..."): the prompt is their longest common start, cut back to the last
 * mark of the assistant; the answers are the rests and begin with a space.
 */
function transcripts(row: Columns, where: string): Preference | { skip: string } {
  const chosen = text(row, "chosen", where);
  const rejected = text(row, "rejected", where);
  if (chosen === rejected) return { skip: "both answers are the same" };
  const cut = answersStart(chosen, rejected);
  if (cut < 0) {
    throw new UserError(
      `${where}: no "prompt" column, and "chosen" and "rejected" do not begin as one transcript with "\\n\\nAssistant:"`,
    );
  }
  return pair(row, { prompt: chosen.slice(0, cut), completion: chosen.slice(cut) }, rejected.slice(cut), where);
}

/** A prompt with one of its answers; either may be a string or messages. */
function answer(row: Columns, column: string, where: string, options: SchemaOptions): Turn {
  const { prompt, [column]: completion } = row;
  if (typeof prompt === "string" && typeof completion === "string" && !stringsAreTurns(options)) {
    return { prompt, completion };
  }
  const given = turns(row, "prompt", "user", where);
  return turnText(given, turns(row, column, "assistant", where), style(row, options, where), where);
}

const stringsAreTurns = ({ template }: SchemaOptions) => template === "turns" || template === "chat";

/** What this row's conversations are written with; tools and template variables are columns, as TRL has them. */
function style(row: Columns, { template = "auto", chat }: SchemaOptions, where: string): Style {
  if (template === "plain" || template === "turns") return {};
  if (template === "chat" && !chat) {
    throw new UserError("template chat needs a model with a chat template; give one with chat_template_path");
  }
  if (!chat) return {};
  const { chat_template_kwargs: variables, documents } = row;
  const given = parsed(row.tools, "tools", where);
  if (given !== null && !Array.isArray(given)) throw new UserError(`${where}: "tools" must be a list`);
  return {
    chat,
    render: {
      tools: given as unknown[] | null,
      documents: Array.isArray(documents) ? documents : null,
      ...(typeof variables === "object" && variables !== null && { variables: withoutNulls(variables) as Columns }),
    },
  };
}

/** Tools are nested as no two rows are, so many datasets keep them as JSON text. */
function parsed(value: unknown, column: string, where: string): unknown {
  if (typeof value !== "string") return withoutNulls(value ?? null);
  try {
    return JSON.parse(value);
  } catch (error) {
    throw new UserError(`${where}: "${column}" is not valid JSON: ${(error as Error).message}`);
  }
}

/** The messages of a column; a string is one message of the given role. */
function turns(row: Columns, column: string, role: "user" | "assistant", where: string): ChatMessage[] {
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

/** How many characters of whole words two texts have in common at their beginning. */
function commonWords(a: string, b: string): number {
  let common = 0;
  while (common < a.length && a[common] === b[common]) common++;
  return a.slice(0, common).search(/\s\S*$/) + 1;
}

function same(a: ChatMessage, b: ChatMessage): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
