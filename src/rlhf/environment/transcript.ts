/**
 * The tokens of an episode. They are only ever appended to, never made anew: what the policy drew stays as it was drawn, and what
 * the environment says is tokenised by itself behind it. So log-probabilities belong to the tokens that were drawn.
 */
import type { ChatMessage } from "../../data/chat-template.ts";
import { type Message, renderTurn } from "../../data/messages.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { isUserError, UserError } from "../../runtime/errors.ts";
import type { Prompt } from "../sampler.ts";
import type { Episode, Observation } from "./environment.ts";

/** Stands for what the assistant said while a template is looked at; a character that is for private use. */
const MARK = "\ue0f1";

/** The tokens of an episode with who wrote them, and its messages. */
export class Transcript {
  /** All tokens, the prompt's first. */
  readonly ids: number[] = [];
  /** 1 for each token that the policy wrote. */
  readonly written: number[] = [];
  /** What the policy saw first. */
  readonly promptText: string;
  readonly promptLength: number;
  readonly #tokenizer: TextTokenizer;
  readonly #tools: readonly unknown[] | undefined;
  /** The conversation; null where something was said that is no message. */
  #messages: ChatMessage[] | null = null;

  /** @throws UserError for an episode that shows nothing first, and as its chat template does */
  constructor(tokenizer: TextTokenizer, prompt: Prompt, { observation, tools }: Episode) {
    this.#tokenizer = tokenizer;
    this.#tools = tools;
    // Tools stand in the text of the prompt, so that it is written again with them.
    const shown = observation ?? (tools && prompt.messages) ?? prompt.ids;
    if (tools && !isMessages(shown)) {
      throw new UserError(
        "tools are told of by the chat template: show the policy messages, or a prompt that is a conversation",
      );
    }
    if (typeof shown === "string") {
      this.promptText = shown;
      this.#append(this.#first(shown, false), 0);
    } else if (isMessages(shown)) {
      this.promptText = this.#rendered(shown);
      this.#append(this.#first(this.promptText, Boolean(tokenizer.chatTemplate)), 0);
      this.#messages = [...shown];
    } else {
      this.promptText = observation === undefined ? prompt.text : this.#spelled(shown);
      this.#append(shown, 0);
      if (observation === undefined && prompt.messages) this.#messages = [...prompt.messages];
    }
    this.promptLength = this.ids.length;
    if (this.promptLength === 0)
      throw new UserError("the policy sees nothing first: the episode gives no observation, and there is no prompt");
  }

  /** The conversation so far, where all of it is messages. */
  get messages(): readonly ChatMessage[] | null {
    return this.#messages;
  }

  /** All that was said behind the prompt, without special tokens. */
  get text(): string {
    return this.#tokenizer.decode(this.ids.slice(this.promptLength), { continued: true });
  }

  /** Takes what the policy wrote. Returns it as text: without special tokens, and with them. */
  wrote(ids: ArrayLike<number>): { text: string; raw: string } {
    this.#append(ids, 1);
    const text = this.#tokenizer.decode(ids, { continued: true });
    this.#messages?.push({ role: "assistant", content: text });
    return { text, raw: this.#spelled(ids) };
  }

  /** Takes messages that nobody sees any more. */
  closed(observation: Observation | undefined): void {
    if (isMessages(observation)) this.#hear(observation);
  }

  /**
   * The tokens of what the environment says, with whatever the chat template writes from the end of the policy's turn to the
   * beginning of its next.
   * @param ends ids that end a turn
   * @throws UserError as the chat template does
   */
  reply(observation: Observation, ends: readonly number[]): ArrayLike<number> {
    if (typeof observation === "string") return this.#tokenizer.encode(observation, { continued: true });
    if (!isMessages(observation)) return observation;
    if (!this.#messages) {
      throw new UserError(
        "an environment that showed texts or tokens goes on with them: messages need a conversation to stand in",
      );
    }
    const before = this.#messages.slice(0, -1);
    const whole = this.#rendered([...before, { role: "assistant", content: MARK }, ...observation]);
    const at = whole.lastIndexOf(MARK);
    if (at < 0)
      throw new UserError(
        "the chat template leaves out what the assistant says: name another one (chat_template_path)",
      );
    return this.#tokenizer.encode(this.#withoutEnd(whole.slice(at + MARK.length), ends), { continued: true });
  }

  /** Puts in what the environment said, by the tokens that `reply` gave. */
  said(observation: Observation, ids: ArrayLike<number>): void {
    this.#append(ids, 0);
    if (isMessages(observation)) this.#hear(observation);
    else this.#messages = null;
  }

  #hear(messages: readonly ChatMessage[]): void {
    for (const message of messages) this.#messages?.push(message);
  }

  /** What follows the end of a turn, which the policy has written itself. */
  #withoutEnd(text: string, ends: readonly number[]): string {
    const last = this.ids.at(-1) as number;
    if (!ends.includes(last)) return text;
    for (const id of [last, ...ends]) {
      const end = this.#spelled([id]);
      if (end !== "" && text.startsWith(end)) return text.slice(end.length);
    }
    return text;
  }

  /** A text as a prompt of a dataset: a template writes its own beginning. */
  #first(text: string, rendered: boolean): number[] {
    const { prefixIds = [] } = this.#tokenizer;
    const ids = this.#tokenizer.encode(text);
    const begun = rendered || prefixIds.every((id, i) => ids[i] === id);
    return begun ? ids : [...prefixIds, ...ids];
  }

  #rendered(messages: readonly ChatMessage[]): string {
    const { chatTemplate } = this.#tokenizer;
    if (chatTemplate) {
      return chatTemplate.render(messages, {
        addGenerationPrompt: true,
        ...(this.#tools && { tools: this.#tools }),
      });
    }
    if (this.#tools)
      throw new UserError(
        "tools are told of by a chat template, and the tokenizer has none: name one (chat_template_path)",
      );
    return transcript(messages);
  }

  #spelled(ids: ArrayLike<number>): string {
    return this.#tokenizer.decode(ids, { continued: true, skipSpecialTokens: false });
  }

  #append(ids: ArrayLike<number>, written: 0 | 1): void {
    for (let i = 0; i < ids.length; i++) {
      this.ids.push(ids[i]);
      this.written.push(written);
    }
  }
}

/** Whether what is shown is messages. */
const isMessages = (shown: Observation | undefined): shown is readonly ChatMessage[] => Array.isArray(shown);

/** Messages without a template. What a tool says is told as if a person did. */
function transcript(messages: readonly ChatMessage[]): string {
  const plain = messages.map(({ role, content }): Message => {
    if (typeof content !== "string")
      throw new UserError(`a message of ${role} has no text; without a chat template it needs one`);
    return { role: role === "assistant" || role === "system" ? role : "user", content };
  });
  return renderTurn(plain, []).prompt;
}

/** An error that a person can do something about, with the episode before it. */
export const inEpisode = (where: string, error: unknown): UserError => {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return new UserError(`${where}: ${isUserError(error) ? message : `${name}: ${message}`}`, { cause: error });
};
