/** The conversation that a record's row asks to be gone on with, for whoever writes conversations in another way. */
import type { ChatMessage } from "./chat-template.ts";
import { checkMessages } from "./messages.ts";
import type { DataRecord } from "./records.ts";
import { withSystem } from "./schemas.ts";

/** The messages up to the answer of a record; null where its row is text. */
export function questionOf({ row = {}, where = "a record" }: DataRecord): ChatMessage[] | null {
  const listed = (name: string) => Array.isArray(row[name]);
  const asked = ["prompt", "context_messages"].find(listed);
  if (asked !== undefined) return checkMessages(row[asked], asked, where);
  const whole = ["messages", "conversations", "conversation", "chosen", "completion"].find(listed);
  if (whole === undefined) return null;
  const messages = withSystem(checkMessages(row[whole], whole, where), row.system);
  const question = messages.slice(
    0,
    messages.findLastIndex(({ role }) => role === "assistant"),
  );
  if (question.length > 0) return question;
  return typeof row.prompt === "string" ? [{ role: "user", content: row.prompt }] : null;
}
