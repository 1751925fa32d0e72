/** A conversation with a model, apart from where its words come from and go to. */
import type { ChatMessage } from "../../io/openai-types.ts";
import type { SamplingParams } from "../../nn/sampling.ts";
import type { TextModel } from "../../serve/model.ts";
import { sampleText } from "../../serve/text.ts";

export const CHAT_HELP = `/reset            forget the conversation
/system <text>    give the model its instructions anew, and forget the conversation
/help             this list
/exit             leave`;

/** What a line of input asks for. */
export type Command =
  | { kind: "say"; text: string }
  | { kind: "reset" | "help" | "exit" | "nothing" }
  | { kind: "system"; text: string }
  | { kind: "unknown"; name: string };

export function parseCommand(line: string): Command {
  const text = line.trim();
  if (text === "") return { kind: "nothing" };
  if (!text.startsWith("/")) return { kind: "say", text };
  const [, name, rest] = /^\/(\S*)\s*(.*)$/s.exec(text) as RegExpExecArray;
  if (name === "reset" || name === "help") return { kind: name };
  if (name === "exit" || name === "quit" || name === "bye") return { kind: "exit" };
  if (name === "system") return { kind: "system", text: rest };
  return { kind: "unknown", name };
}

export class ChatSession {
  private readonly model: TextModel;
  private readonly params: SamplingParams;
  private readonly stop: readonly string[];
  private system: string | null;
  private turns: ChatMessage[] = [];
  /** Names the random numbers of an answer beside the seed. */
  private answers = 0;

  constructor(model: TextModel, params: SamplingParams, stop: readonly string[], system: string | null) {
    this.model = model;
    this.params = params;
    this.stop = stop;
    this.system = system;
  }

  reset(system = this.system): void {
    this.system = system;
    this.turns = [];
  }

  get messages(): readonly ChatMessage[] {
    return [...(this.system ? [{ role: "system", content: this.system }] : []), ...this.turns];
  }

  /**
   * The answer, as it is sampled. When it is aborted, what was said of it stays in the conversation. Turns at the
   * beginning are forgotten where the conversation exceeds the context; `forgot` is told how many.
   */
  async *say(text: string, signal: AbortSignal, forgot: (turns: number) => void): AsyncGenerator<string, void> {
    this.turns.push({ role: "user", content: text });
    let said = "";
    try {
      const { capacity } = this.model.engine;
      let prompt = this.model.chat(this.messages);
      let dropped = 0;
      while (prompt.ids.length + Math.min(this.params.maxNewTokens, capacity / 4) > capacity && this.turns.length > 1) {
        this.turns.splice(0, 2);
        dropped += 2;
        prompt = this.model.chat(this.messages);
      }
      if (dropped > 0) forgot(dropped);
      const params = {
        ...this.params,
        eosIds: this.params.eosIds ?? this.model.endIds,
        maxNewTokens: Math.max(1, Math.min(this.params.maxNewTokens, capacity - prompt.ids.length)),
      };
      const stop = [...this.stop, ...prompt.stop];
      const request = { ids: Uint32Array.from(prompt.ids), params, stop, signal, streams: [this.answers] };
      let first = true;
      for await (const piece of sampleText(this.model, request)) {
        // Transcripts put a space between a name and what is said.
        const more = first ? piece.text.replace(/^ +/, "") : piece.text;
        if (more === "") continue;
        first = false;
        said += more;
        yield more;
      }
    } finally {
      this.answers += 1;
      if (said === "") this.turns.pop();
      else this.turns.push({ role: "assistant", content: said.trimEnd() });
    }
  }
}
