/** Asking an LLM judge: what it has said before is read from its file, everything else is asked, some at once. */
import { OpenAIClient } from "../../io/openai-client.ts";
import type { CallLog } from "../../runtime/call-log.ts";
import { UserError } from "../../runtime/errors.ts";
import { inParallel } from "../../runtime/in-parallel.ts";
import { sha256Text } from "../../runtime/sha256.ts";
import { Unreadable } from "./answers.ts";
import { answerFormat, type JudgeQuestion, questionMessages } from "./questions.ts";
import type { JudgeSpec } from "./spec.ts";

/** How many answers an LLM judge has given so far, and the tokens of it. */
export interface JudgeUsage {
  /** Requests that the server answered. */
  asked: number;
  /** Answers that were there already. */
  kept: number;
  /** Tokens that the server says it read and wrote. */
  promptTokens: number;
  completionTokens: number;
}

/** How an LLM judge is asked, besides what its file says. */
export interface JudgeCallOptions {
  /** The judge's name, for messages: its file. */
  name: string;
  /** Answers that are kept. */
  log: CallLog;
  apiKey?: string | null;
  /** When it fires, nothing more is asked. */
  signal?: AbortSignal | undefined;
  /** Hears how many of the questions under way are answered. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/** The most bytes of an answer: a judgement is short. */
const LARGEST_ANSWER = 4 << 20;

/** Asks a judge. */
export class JudgeCalls {
  readonly spec: JudgeSpec;
  readonly usage: JudgeUsage = { asked: 0, kept: 0, promptTokens: 0, completionTokens: 0 };
  private readonly options: JudgeCallOptions;
  private readonly client: OpenAIClient;
  /** Questions that are being asked, by their keys. */
  private readonly underWay = new Map<string, Promise<string>>();

  constructor(spec: JudgeSpec, options: JudgeCallOptions) {
    this.spec = spec;
    this.options = options;
    this.client = new OpenAIClient({
      baseUrl: spec.url,
      apiKey: options.apiKey ?? null,
      timeoutMs: spec.timeout * 1000,
      retries: spec.retries,
      largestAnswer: LARGEST_ANSWER,
    });
  }

  /**
   * Asks all questions, `concurrency` at once, and reads what the judge says.
   * @throws UserError where the server fails, and then nothing more is asked; and where an answer cannot be read, when all others have
   * come. What is under way is heard out and kept in either case: it is paid for
   */
  async ask<T>(questions: readonly JudgeQuestion[], read: (text: string) => T): Promise<T[]> {
    const found = new Array<T>(questions.length);
    const failures: string[] = [];
    let fatal: { error: unknown } | null = null;
    let done = 0;
    await inParallel(questions, this.spec.concurrency, async (question, place) => {
      if (fatal) return;
      try {
        this.options.signal?.throwIfAborted();
        found[place] = await this.one(question, read);
      } catch (error) {
        if (error instanceof Unreadable) failures.push(error.message);
        else fatal ??= { error };
      }
      this.options.onProgress?.(++done, questions.length);
    });
    if (fatal) throw (fatal as { error: unknown }).error;
    if (failures.length === 0) return found;
    const others = failures.length > 1 ? `; so it is with ${failures.length} of ${questions.length} answers` : "";
    throw new UserError(`${this.options.name}: an answer of the judge cannot be read: ${failures[0]}${others}`);
  }

  private async one<T>(question: JudgeQuestion, read: (text: string) => T): Promise<T> {
    const { spec, options } = this;
    const body = {
      ...spec.request,
      model: spec.model,
      messages: await questionMessages(spec, question),
      temperature: spec.temperature,
      max_tokens: spec.maxTokens,
      ...(spec.schema && { response_format: answerFormat(spec) }),
    };
    const key = await sha256Text(JSON.stringify([spec.url, body]));
    const kept = options.log.get(key);
    if (kept !== undefined) {
      const value = readable(kept, read);
      if (value !== null) {
        this.usage.kept++;
        return value.of;
      }
    }
    // The same question twice in one list is one call.
    const asking = this.underWay.get(key) ?? this.paid(key, body, read);
    this.underWay.set(key, asking);
    try {
      return read(await asking);
    } finally {
      this.underWay.delete(key);
    }
  }

  /** An answer that can be read, which is kept. Throws `Unreadable` where none of the attempts gives one. */
  private async paid(key: string, body: object, read: (text: string) => unknown): Promise<string> {
    const { spec, options, usage } = this;
    let failed = new Unreadable("");
    for (let attempt = 0; attempt < spec.attempts; attempt++) {
      const answer = (await this.client.chat(body)) as unknown;
      usage.asked++;
      const used = (answer as { usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null } | null)
        ?.usage;
      usage.promptTokens += count(used?.prompt_tokens);
      usage.completionTokens += count(used?.completion_tokens);
      try {
        const text = textOf(answer, spec);
        read(text);
        await options.log.add(key, text);
        return text;
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        failed = error;
      }
    }
    throw failed;
  }
}

const count = (tokens: unknown): number => (typeof tokens === "number" && Number.isFinite(tokens) ? tokens : 0);

function readable<T>(text: string, read: (text: string) => T): { of: T } | null {
  try {
    return { of: read(text) };
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

/** What the judge said. Throws a UserError where that is no chat's answer, `Unreadable` where it said nothing whole. */
function textOf(answer: unknown, { url, maxTokens }: JudgeSpec): string {
  const choice = (answer as { choices?: unknown } | null)?.choices;
  const first = Array.isArray(choice)
    ? (choice[0] as { message?: { content?: unknown; refusal?: unknown }; finish_reason?: unknown } | undefined)
    : undefined;
  if (typeof first?.message !== "object" || first.message === null) {
    throw new UserError(`${url} answered without choices[0].message: does it speak OpenAI's chat completions?`);
  }
  const { content, refusal } = first.message;
  if (first.finish_reason === "length") {
    throw new Unreadable(`it was cut off at max_tokens ${maxTokens}: raise that in the judge's file`);
  }
  if (typeof content === "string" && content.trim() !== "") return content;
  throw new Unreadable(
    typeof refusal === "string" && refusal !== "" ? `the judge refuses: ${refusal.slice(0, 120)}` : "it is empty",
  );
}
