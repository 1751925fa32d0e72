/** Conversations as the text a model was trained on, by the Jinja template that comes with it. */
import { isUserError, UserError } from "../runtime/errors.ts";

/** A message as templates see it; besides these two, whatever the template knows (tool_calls, reasoning_content, ...). */
export interface ChatMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** How a chat template renders a conversation. */
export interface RenderOptions {
  /** Whether the text ends where the assistant is to go on; default false. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of functions the model may call. */
  tools?: readonly unknown[] | null;
  /** Documents to answer from. */
  documents?: readonly unknown[] | null;
  /** Further variables of the template, e.g. `{ enable_thinking: false }`. Plain data only. */
  variables?: Readonly<Record<string, unknown>>;
}

/** A part of a text, from one character (of a JavaScript string) up to another. */
export type Span = readonly [start: number, end: number];

type Engine = typeof import("./template-limits.ts");
type Program = ReturnType<Engine["parseTemplate"]>["program"];

/** A chat template in Jinja, which writes a conversation as the text that a model was trained on. */
export class ChatTemplate {
  /** The template, for writing it beside a model. */
  readonly source: string;
  /** Where it came from, for error messages. */
  readonly file: string;
  private readonly engine: Engine;
  private parsed: { program: Program; generation: boolean } | null = null;
  private readonly tokens: Readonly<Record<string, unknown>>;

  private constructor(engine: Engine, source: string, file: string, tokens: Readonly<Record<string, unknown>>) {
    this.engine = engine;
    this.source = source;
    this.file = file;
    this.tokens = tokens;
  }

  /**
   * @param tokens the special tokens as variables of the template, e.g. `{ bos_token: "<s>" }`; see `specialTokens`
   * @throws UserError naming the file when it is no template
   */
  static async compile(
    source: string,
    file: string,
    tokens: Readonly<Record<string, unknown>> = {},
  ): Promise<ChatTemplate> {
    const template = await ChatTemplate.load(source, file, tokens);
    template.parse();
    return template;
  }

  /** The same, but a template that cannot be used fails only where it is used: a model may never need its own. */
  static async load(
    source: string,
    file: string,
    tokens: Readonly<Record<string, unknown>> = {},
  ): Promise<ChatTemplate> {
    return new ChatTemplate(await import("./template-limits.ts"), source, file, tokens);
  }

  /** Whether the template itself says what the assistant wrote, by `{% generation %}`. */
  get marksAnswers(): boolean {
    return this.parse().generation;
  }

  private parse(): { program: Program; generation: boolean } {
    try {
      this.parsed ??= this.engine.parseTemplate(this.source);
      return this.parsed;
    } catch (error) {
      const { message } = error as Error;
      throw new UserError(`${this.file}: not a chat template that can be used: ${message}`, { cause: error });
    }
  }

  /** @throws UserError naming the file, and the message where the template stops */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    return this.run(messages, options);
  }

  /**
   * The text with the parts that the assistant wrote: by the template's `{% generation %}` blocks, or else by rendering the
   * conversation up to and with each of the assistant's messages.
   * @throws UserError when the template has no such blocks and changes earlier text as the conversation grows
   */
  renderAnswers(messages: readonly ChatMessage[], options: RenderOptions = {}): { text: string; spans: Span[] } {
    if (this.marksAnswers) return this.byMarks(messages, options);
    const text = this.run(messages, options);
    const spans: Span[] = [];
    for (const [i, { role }] of messages.entries()) {
      if (role !== "assistant") continue;
      // The conversation itself may end here with nothing more to say; then the text is known.
      const upTo = i === messages.length - 1 ? text : this.run(messages.slice(0, i + 1), options);
      const before = this.run(messages.slice(0, i), { ...options, addGenerationPrompt: true });
      if (!upTo.startsWith(before) || !text.startsWith(upTo)) {
        throw new UserError(
          `${this.file}: the text of message ${i + 1} cannot be told from the rest, because this template writes earlier ` +
            "text differently as the conversation goes on; give a template that has {% generation %} around what the " +
            "assistant says (chat_template_path), or learn whole conversations (assistant_only_loss false)",
        );
      }
      spans.push([before.length, upTo.length]);
    }
    return { text, spans };
  }

  /**
   * A conversation cut into what is given and what is to be said, which the model sees as `prompt + completion`.
   * @throws UserError when the prompt is not how the whole begins
   */
  renderTurn(
    prompt: readonly ChatMessage[],
    answer: readonly ChatMessage[],
    options: RenderOptions = {},
  ): { prompt: string; completion: string } {
    const given = this.run(prompt, { ...options, addGenerationPrompt: true });
    if (answer.length === 0) return { prompt: given, completion: "" };
    const whole = this.run([...prompt, ...answer], { ...options, addGenerationPrompt: false });
    if (!whole.startsWith(given)) {
      throw new UserError(
        `${this.file}: with its answer a conversation does not begin with the text of its prompt, so what is to be learned ` +
          "cannot be told from what is given; use another template (chat_template_path), or the template option turns",
      );
    }
    return { prompt: given, completion: whole.slice(given.length) };
  }

  private byMarks(messages: readonly ChatMessage[], options: RenderOptions): { text: string; spans: Span[] } {
    const [start, end] = unusedMarks(JSON.stringify([messages, options]) + this.source);
    const marked = this.run(messages, options, { start, end });
    let text = "";
    let from = 0;
    const opened: number[] = [];
    const spans: Span[] = [];
    for (let i = 0; i < marked.length; i++) {
      if (marked[i] !== start && marked[i] !== end) continue;
      text += marked.slice(from, i);
      from = i + 1;
      if (marked[i] === start) opened.push(text.length);
      else if (opened.length > 0) spans.push([opened.pop() as number, text.length]);
    }
    spans.sort((a, b) => a[0] - b[0]);
    return { text: text + marked.slice(from), spans };
  }

  private run(
    messages: readonly ChatMessage[],
    options: RenderOptions,
    marks?: { start: string; end: string },
  ): string {
    const { program } = this.parse();
    const render = (list: readonly ChatMessage[]) =>
      this.engine.renderWithin(program, this.variables(list, options), marks);
    try {
      return render(messages);
    } catch (error) {
      if (isUserError(error)) throw error;
      const { message } = error as Error;
      // A template that went over a limit is not run again to see where.
      const where = error instanceof this.engine.TemplateLimit ? "" : blame(messages, message, render);
      throw new UserError(`${this.file}: the chat template fails${where}: ${message}`, { cause: error });
    }
  }

  private variables(messages: readonly ChatMessage[], options: RenderOptions): Record<string, unknown> {
    return {
      ...this.tokens,
      tools: options.tools ?? null,
      documents: options.documents ?? null,
      ...options.variables,
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? false,
    };
  }
}

/** The first message with which the template fails in this way. */
function blame(
  messages: readonly ChatMessage[],
  reason: string,
  render: (messages: readonly ChatMessage[]) => string,
): string {
  if (messages.length > 50) return "";
  for (let n = 1; n <= messages.length; n++) {
    try {
      render(messages.slice(0, n));
    } catch (error) {
      if ((error as Error).message === reason) return ` at message ${n} (${JSON.stringify(messages[n - 1].role)})`;
    }
  }
  return "";
}

/** Two characters for private use that do not occur in a text. */
function unusedMarks(text: string): [string, string] {
  const free: string[] = [];
  // JSON writes them as they are.
  for (let code = 0xe000; free.length < 2 && code < 0xf900; code++) {
    const mark = String.fromCharCode(code);
    if (!text.includes(mark)) free.push(mark);
  }
  if (free.length < 2) throw new UserError("a conversation uses every character that could mark the assistant's words");
  return [free[0], free[1]];
}

const SPECIAL = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/** The special tokens of a tokenizer_config.json as variables for its template. */
export function specialTokens(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of SPECIAL) {
    const token = config[name];
    const content = typeof token === "object" && token !== null ? (token as { content?: unknown }).content : token;
    if (typeof content === "string") tokens[name] = content;
  }
  return tokens;
}

/**
 * The template in a tokenizer_config.json: a text, or a list of named ones of which "default" is taken (or the named one).
 * @returns null where there is none
 */
export function templateInConfig(
  config: Readonly<Record<string, unknown>>,
  file: string,
  name = "default",
): string | null {
  const entry = config.chat_template;
  if (typeof entry === "string") return entry;
  if (entry === undefined || entry === null) return null;
  const named = new Map<string, string>();
  if (Array.isArray(entry)) {
    for (const one of entry) {
      if (typeof one?.name !== "string" || typeof one?.template !== "string") {
        throw new UserError(`${file}: an entry of "chat_template" must have a name and a template`);
      }
      named.set(one.name, one.template);
    }
  } else if (typeof entry === "object") {
    for (const [key, value] of Object.entries(entry)) if (typeof value === "string") named.set(key, value);
  }
  const found = named.get(name) ?? (named.size === 1 ? [...named.values()][0] : undefined);
  if (found !== undefined) return found;
  throw new UserError(
    `${file}: "chat_template" has no template called ${name} (there are: ${[...named.keys()].join(", ") || "none"})`,
  );
}
