/**
 * The question that a pair-preference model answers with one letter (RLHFlow, "RLHF Workflow", 2024): the conversation so
 * far and two responses to it, A and B, as the user's message of the model's own chat template; the assistant says which
 * is better. The last token of the question is the one right before the letter.
 */
import { type ChatMessage, ChatTemplate, specialTokens } from "../../data/chat-template.ts";
import { ASSISTANT, HUMAN, renderMessages } from "../../data/messages.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { parseTranscript } from "../../data/transcripts.ts";
import { UserError } from "../../runtime/errors.ts";

/** The ways in which a question is written. */
export const pairTemplates = ["chat", "plain", "letters"] as const;

/**
 * chat: RLHFlow's question within the model's chat template;
 * plain: the same text without one, for models that have none;
 * letters: the context, "A", one response, "B", the other, for vocabularies too small for its marks.
 */
export type PairTemplate = (typeof pairTemplates)[number];

/** The conversation before the two responses: messages, or a text that stands for one message of the user. */
export type Conversation = string | readonly ChatMessage[];

/** What the model may answer: the first is better, the second, or (in training only) neither. */
const ANSWERS = ["A", "B", "Same"] as const;
/** An answer by its place among A, B and Same. */
export type Answer = 0 | 1 | 2;

/** The context's part of the question, as transformers writes it: roles go by place, the user speaks first. */
export function contextText(messages: readonly ChatMessage[]): string {
  const turns = messages.map(({ content }, i) => `\n<turn> ${i % 2 === 0 ? "user" : "assistant"}\n ${content}`);
  return `\n${turns.join("")}\n`;
}

/**
 * `contextText` as a chat template, by which readers of datasets turn conversations into records: the prompt becomes the
 * context, each answer what is said in it.
 */
export const contextTemplate = (): Promise<ChatTemplate> =>
  ChatTemplate.load(
    "{{ '\\n' }}{% for m in messages %}" +
      "{% if loop.last and not add_generation_prompt %}{{ '\\n' ~ m.content }}" +
      "{% else %}{{ '\\n<turn> ' ~ ('user' if loop.index0 % 2 == 0 else 'assistant') ~ '\\n ' ~ m.content }}{% endif %}" +
      "{% endfor %}{% if add_generation_prompt %}{{ '\\n' }}{% endif %}",
    "the context of a pair",
  );

const question = (context: string, a: string, b: string): string =>
  `[CONTEXT] ${context} [RESPONSE A] ${a} [RESPONSE B] ${b} \n`;

/** Writes questions as token ids, and knows the ids of their answers. */
export class PairWriter {
  readonly template: PairTemplate;
  /** The ids of the letters A and B. */
  readonly letters: readonly [number, number];
  /** Whether questions begin with the beginning-of-text token. */
  readonly keepBos: boolean;
  private readonly tokenizer: Tokenizer;

  /**
   * @param template null takes chat where the tokenizer has a chat template, else plain where it can write that, else letters
   * @param keepBos whether questions begin with the beginning-of-text token; RLHFlow reads without one, which is the default
   * @throws UserError when an answer is not a single token, or the template needs what the tokenizer has not
   */
  constructor(tokenizer: Tokenizer, template: PairTemplate | null = null, keepBos = false) {
    this.tokenizer = tokenizer;
    this.template = template ?? fitting(tokenizer);
    this.keepBos = keepBos;
    if (this.template === "chat" && !tokenizer.chatTemplate) {
      throw new UserError(
        "this model has no chat template: give one with chat_template_path, or use pair_template plain",
      );
    }
    if (this.template === "plain" && !writable(tokenizer)) {
      throw new UserError('the tokenizer cannot write "[CONTEXT] ... [RESPONSE A] ...": use pair_template letters');
    }
    this.letters = [this.idOf(0), this.idOf(1)];
    if (this.letters[0] === this.letters[1]) {
      throw new UserError(
        "the tokenizer writes A and B as the same token, so it cannot tell one answer from the other",
      );
    }
  }

  /** The id of an answer. Throws `UserError` where it is not exactly one token. */
  idOf(answer: Answer): number {
    const word = ANSWERS[answer];
    const text = this.template === "letters" ? word[0] : this.answerText(word);
    const ids = this.tokenizer.encode(text, { continued: true });
    if (ids.length === 1) return ids[0];
    throw new UserError(
      `the answer ${JSON.stringify(text)} of a pair-preference model must be a single token, but this tokenizer makes ` +
        `${ids.length} of it: use another model or chat template`,
    );
  }

  /** The answer as it follows the question: some chat templates put a space before what the assistant says. */
  private answerText(word: string): string {
    const { chatTemplate } = this.tokenizer;
    if (this.template !== "chat" || !chatTemplate) return word;
    const { completion } = chatTemplate.renderTurn(
      [{ role: "user", content: question("", "", "") }],
      [{ role: "assistant", content: word }],
    );
    const at = completion.indexOf(word);
    if (at >= 0 && completion.slice(0, at).trim() === "") return completion.slice(0, at + word.length);
    throw new UserError(
      `${chatTemplate.file}: after the generation prompt this chat template writes ${JSON.stringify(completion)}, not ` +
        `the assistant's ${JSON.stringify(word)}, so the answer cannot be read there: use pair_template plain`,
    );
  }

  /** The context's text of a conversation. */
  context(prompt: Conversation): string {
    if (this.template === "letters") {
      if (typeof prompt === "string") return prompt;
      return `${renderMessages(prompt as Parameters<typeof renderMessages>[0])}${ASSISTANT}`;
    }
    return contextText(typeof prompt === "string" ? conversationOf(prompt) : prompt);
  }

  /** Token ids of the question about two responses behind a context; the answer comes next. */
  question(context: string, a: string, b: string): Uint32Array {
    const { tokenizer, keepBos, template } = this;
    if (template !== "chat") {
      const text = template === "letters" ? `${context}A${a}B${b}` : question(context, a, b);
      return Uint32Array.from([...(keepBos ? tokenizer.prefixIds : []), ...tokenizer.encode(text)]);
    }
    const chat = tokenizer.chatTemplate as ChatTemplate;
    const { prompt } = chat.renderTurn([{ role: "user", content: question(context, a, b) }], []);
    const bos = specialTokens(tokenizer.configJson).bos_token;
    return Uint32Array.from(tokenizer.encode(keepBos || !bos ? prompt : prompt.replaceAll(bos, "")));
  }
}

function fitting(tokenizer: Tokenizer): PairTemplate {
  if (tokenizer.chatTemplate) return "chat";
  return writable(tokenizer) ? "plain" : "letters";
}

/** Whether the tokenizer has all that the question's marks are made of. */
function writable(tokenizer: Tokenizer): boolean {
  const text = question(contextText([{ role: "user", content: "x" }]), "x", "x");
  return tokenizer.decode(tokenizer.encode(text, { continued: true }), { continued: true }) === text;
}

/** A transcript ("\n\nHuman: ...\n\nAssistant: ...") as its messages; any other text as one message of the user. */
export function conversationOf(text: string): ChatMessage[] {
  if (!text.startsWith(HUMAN)) return [{ role: "user", content: text }];
  const messages = parseTranscript(text);
  return messages.at(-1)?.content === "" ? messages.slice(0, -1) : messages; // the mark of the assistant that is to speak
}
