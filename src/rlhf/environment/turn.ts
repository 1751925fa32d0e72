import type { ToolCall } from "./tool-calls.ts";

/** A turn of an episode, as it stands in the response's tokens. */
export interface Turn {
  /** Of its first token, counted in the response's `ids`; all up to `end` are the policy's. */
  start: number;
  /** Behind its last token. */
  end: number;
  /** What the policy wrote, without special tokens. */
  text: string;
  calls: readonly ToolCall[];
  reward: number;
}
