/** What a request may cost: reckoned from its fields, before anything is done for it. */
import { ApiError, tooMany } from "./errors.ts";

/** Limits of a server's requests. */
export interface RequestLimits {
  /** Tokens that one request may have computed: its prompts, and n responses to each. */
  maxRequestTokens: number;
  /** Bytes of one answer. */
  maxAnswerBytes: number;
}

/** What decides how much an answer costs. */
export interface Asked {
  /** Tokens of each prompt. */
  prompts: readonly number[];
  /** Characters of all prompts where their text is to be given back, else 0. */
  echoed: number;
  /** Responses to each prompt. */
  n: number;
  /** Longest response to each prompt. */
  longest: readonly number[];
  /** null: no log-probabilities; else how many alternatives to each token's. */
  logprobs: number | null;
  returnTokenIds: boolean;
}

// Bytes of JSON, measured on answers: a choice's frame; a token's text; its id; its log-probability in the lists of
// /v1/completions and as an object of /v1/chat/completions, the same for an alternative.
const CHOICE = 200;
const TEXT = 6;
const ID = 7;
const LOGPROB = 75;
const ALTERNATIVE = 30;
const CHAT_ALTERNATIVE = 80;

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** Tokens that are computed for an answer: prompts that are scored run through the model's head as well. */
const tokensOf = ({ prompts, n, longest }: Asked): number => sum(prompts) + n * sum(longest);

/** About how many bytes an answer has. */
function bytesOf({ prompts, echoed, n, longest, logprobs, returnTokenIds }: Asked, chat: boolean): number {
  const shown = (echoed > 0 ? sum(prompts) : 0) + sum(longest);
  const each = logprobs === null ? 0 : LOGPROB + logprobs * (chat ? CHAT_ALTERNATIVE : ALTERNATIVE);
  const ids = returnTokenIds ? ID * (sum(prompts) + shown) : 0;
  return n * (prompts.length * CHOICE + echoed + TEXT * sum(longest) + each * shown + ids);
}

/** Answers under way; each has a limit, and so have all of them together. */
export class Admission {
  private readonly limits: RequestLimits;
  private held = 0;

  constructor(limits: RequestLimits) {
    this.limits = limits;
  }

  /**
   * Takes an answer in, or throws what is too much of it. The caller calls what it gets when the answer is out. Small
   * answers always get in, since the number of requests is limited already.
   */
  admit(asked: Asked, chat: boolean): () => void {
    const { prompts, n, echoed, logprobs } = asked;
    const of =
      `${prompts.length === 1 ? "a prompt" : `${prompts.length} prompts`} with n = ${n}` +
      `${echoed > 0 ? ", echo" : ""}${logprobs === null ? "" : `, logprobs ${logprobs}`}`;
    return this.take(tokensOf(asked), bytesOf(asked, chat), of);
  }

  /**
   * Takes in an answer of which it is known what it costs, as `admit` does.
   * @param of what was asked for, for people
   */
  take(tokens: number, bytes: number, of: string): () => void {
    const { maxRequestTokens, maxAnswerBytes } = this.limits;
    if (tokens > maxRequestTokens) {
      throw new ApiError(
        413,
        `This request asks for up to ${tokens} tokens (${of}); a request may have ${maxRequestTokens} computed ` +
          "(--max_request_tokens). Ask for fewer prompts, choices or tokens at a time.",
        { code: "request_too_large" },
      );
    }
    if (bytes > maxAnswerBytes) {
      throw new ApiError(
        413,
        `The answer to this request would have about ${bytes} bytes (${of}); it may have ${maxAnswerBytes} ` +
          "(--max_answer_bytes). Ask for fewer prompts, choices or log-probabilities at a time.",
        { code: "request_too_large" },
      );
    }
    if (bytes > maxAnswerBytes / 64 && this.held + bytes > 4 * maxAnswerBytes) {
      throw tooMany("The server is busy with other large answers. Please try again later.");
    }
    this.held += bytes;
    return () => {
      this.held -= bytes;
    };
  }
}
