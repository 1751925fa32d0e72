/** Conversations as text: by the model's chat template, or as a transcript. */
import { isUserError, UserError } from "../runtime/errors.ts";
import type { ChatMessage, ChatTemplate, RenderOptions, Span } from "./chat-template.ts";

/** A message of a conversation as records hold it. */
export interface Message extends ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** The marks of a transcript, as in the HH data. */
export const HUMAN = "\n\nHuman:";
export const ASSISTANT = "\n\nAssistant:";

/** A conversation as a transcript: "\n\nHuman: Hi!\n\nAssistant: Hello." A system message comes first, unmarked. */
export function renderMessages(messages: readonly Message[]): string {
  return messages
    .map(({ role, content }) => {
      const mark = { system: "", user: `${HUMAN} `, assistant: `${ASSISTANT} ` }[role];
      return mark + content.trim();
    })
    .join("");
}

/**
 * A conversation cut into what is given and what is to be said. The prompt ends with the assistant's mark, the completion
 * begins with a space.
 */
export function renderTurn(
  prompt: readonly Message[],
  answer: readonly Message[],
): { prompt: string; completion: string } {
  const given = renderMessages(prompt) + ASSISTANT;
  return { prompt: given, completion: renderMessages([...prompt, ...answer]).slice(given.length) };
}

/** Whether a value holds messages from the beginning on, not only an answer's. */
export const isConversation = (value: unknown): value is ChatMessage[] =>
  Array.isArray(value) && speaker(value[0]) !== "assistant";

/** ShareGPT's names of who speaks, and those of sets that look like it. */
const speakers: Readonly<Record<string, string>> = {
  human: "user",
  user: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  bot: "assistant",
  model: "assistant",
  assistant: "assistant",
  function_call: "assistant",
  system: "system",
  tool: "tool",
  observation: "tool",
  function_response: "tool",
};

/** Who speaks in a message, by `role` or ShareGPT's `from`. */
const speaker = (message: { role?: unknown; from?: unknown } | null | undefined): unknown =>
  message?.role ?? (typeof message?.from === "string" ? speakers[message.from.toLowerCase()] : undefined);

/** Whether a value is a list of messages, whoever speaks first. */
export const isMessages = (value: unknown): boolean => Array.isArray(value) && speaker(value[0]) !== undefined;

/** A message of `from` and `value` as one of `role` and `content`. */
function fromShareGpt({ from, value, ...rest }: Columns, which: string): Columns {
  const role = speaker({ from });
  if (role === undefined) {
    const known = Object.keys(speakers).join(", ");
    throw new UserError(`${which} is from ${JSON.stringify(from)}; known are ${known}`);
  }
  const call = from === "function_call" ? calledIn(value) : null;
  return call
    ? { role, content: "", tool_calls: [{ type: "function", function: call }], ...rest }
    : { role, content: value, ...rest };
}

/** The call of a tool that is written as JSON; null for anything else. */
function calledIn(value: unknown): unknown {
  if (typeof value !== "string" || !/^\s*\{/.test(value)) return null;
  try {
    const call = JSON.parse(value) as { name?: unknown };
    return typeof call.name === "string" ? call : null;
  } catch {
    return null;
  }
}

type Columns = Record<string, unknown>;

/** How conversations become text. */
export interface Style {
  /** The model's template; without one a conversation becomes a transcript. */
  chat?: ChatTemplate | null;
  /** Tools, documents and further variables for it. */
  render?: RenderOptions;
}

/** A turn of a conversation; `column` and `where` are for the message. */
export function turnText(
  prompt: readonly ChatMessage[],
  answer: readonly ChatMessage[],
  { chat, render = {} }: Style,
  where: string,
): { prompt: string; completion: string; rendered?: true } {
  if (!chat) return renderTurn(plainMessages(prompt, where), plainMessages(answer, where));
  return located(where, () => ({ ...chat.renderTurn(prompt, answer, render), rendered: true }));
}

/**
 * A whole conversation, and where the assistant speaks in it.
 * @param marked false for templates that need not tell where that is
 */
export function conversationText(
  messages: readonly ChatMessage[],
  { chat, render = {} }: Style,
  where: string,
  marked = true,
): { text: string; answers: Span[]; rendered?: true } {
  if (chat) {
    if (!marked) return { text: located(where, () => chat.render(messages, render)), answers: [], rendered: true };
    const { text, spans } = located(where, () => chat.renderAnswers(messages, render));
    return { text, answers: spans, rendered: true };
  }
  const plain = plainMessages(messages, where);
  const answers: Span[] = [];
  plain.forEach(({ role }, i) => {
    if (role !== "assistant") return;
    const end = renderMessages(plain.slice(0, i + 1)).length;
    answers.push([renderMessages(plain.slice(0, i)).length + ASSISTANT.length, end]);
  });
  return { text: renderMessages(plain), answers };
}

/** Checks a value from a file; `column` and `where` are for the message. Nulls, which Arrow writes for "not there", go. */
export function checkMessages(value: unknown, column: string, where: string): ChatMessage[] {
  if (!Array.isArray(value)) throw new UserError(`${where}: "${column}" must be a list of messages`);
  return value.map((message, i) => {
    const given = (withoutNulls(message) ?? {}) as Columns;
    const isShareGpt = given.role === undefined && given.from !== undefined;
    const found = isShareGpt ? fromShareGpt(given, `${where}: message ${i + 1} of "${column}"`) : given;
    if (typeof found.role !== "string") {
      throw new UserError(`${where}: message ${i + 1} of "${column}" has no role`);
    }
    // A message may be a call of a tool, or parts; what a template does with them is its affair.
    const said = found.content ?? (Object.keys(found).length > 1 ? "" : undefined);
    if (typeof said !== "string" && !Array.isArray(said)) {
      throw new UserError(`${where}: message ${i + 1} of "${column}" has no text content`);
    }
    return found as ChatMessage;
  });
}

/** The value without the fields of objects that are null. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== null && field !== undefined);
  return Object.fromEntries(fields.map(([key, field]) => [key, withoutNulls(field)]));
}

/** A transcript knows three roles and text. */
function plainMessages(messages: readonly ChatMessage[], where: string): Message[] {
  return messages.map((message, i) => {
    const { role, content } = message;
    if (role !== "system" && role !== "user" && role !== "assistant") {
      throw new UserError(
        `${where}: message ${i + 1} has role ${JSON.stringify(role)}; without a chat template the known ones are system, ` +
          "user, assistant (chat_template_path)",
      );
    }
    if (typeof content !== "string") throw new UserError(`${where}: message ${i + 1} has no text content`);
    return { role, content };
  });
}

/** Puts the record's place before the template's complaint. */
function located<R>(where: string, work: () => R): R {
  try {
    return work();
  } catch (error) {
    throw isUserError(error) ? new UserError(`${where}: ${error.message}`, { cause: error }) : error;
  }
}
