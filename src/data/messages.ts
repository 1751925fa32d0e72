/** Conversations as text. */
import { UserError } from "../runtime/errors.ts";

export interface Message {
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

/** Checks a value from a file; `column` and `where` are for the message. */
export function checkMessages(value: unknown, column: string, where: string): Message[] {
  if (!Array.isArray(value)) throw new UserError(`${where}: "${column}" must be a list of messages`);
  return value.map((message, i) => {
    const { role, content } = (message ?? {}) as { role?: unknown; content?: unknown };
    if (role !== "system" && role !== "user" && role !== "assistant") {
      throw new UserError(
        `${where}: message ${i + 1} of "${column}" has role ${JSON.stringify(role)}; known are system, user, assistant`,
      );
    }
    if (typeof content !== "string")
      throw new UserError(`${where}: message ${i + 1} of "${column}" has no text content`);
    return { role, content };
  });
}
