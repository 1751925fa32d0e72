/** The shapes of OpenAI's HTTP interface that client and server share, with the additions of vLLM. */

/** A message of a chat as OpenAI's protocol has it. */
export interface ChatMessage {
  role: string;
  content: string;
  [more: string]: unknown;
}

/** The tokens that a request used. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** Why an answer ended: by itself or at a stop word, or at its longest. */
export type FinishReason = "stop" | "length";

/** Log-probabilities as `/v1/completions` gives them: one entry per token in each list. */
export interface CompletionLogProbs {
  tokens: string[];
  /** null for the first token of an echoed prompt. */
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins in the text, in characters. */
  text_offset: number[];
}

/** One completion of a prompt. */
export interface CompletionChoice {
  index: number;
  text: string;
  logprobs: CompletionLogProbs | null;
  finish_reason: FinishReason | null;
  /** vLLM: the stop string, or null. */
  stop_reason?: string | null;
  /** vLLM, with `return_token_ids`. */
  token_ids?: number[];
  prompt_token_ids?: number[];
}

/** The answer of `/v1/completions`, or one piece of a streamed one. */
export interface CompletionResponse {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: CompletionChoice[];
  usage?: Usage | null;
}

/** The log-probability of a token. */
export interface TokenLogProb {
  token: string;
  logprob: number;
  bytes: number[];
}

/** Log-probabilities as `/v1/chat/completions` gives them, token by token. */
export interface ChatLogProbs {
  content: (TokenLogProb & { top_logprobs: TokenLogProb[] })[];
  refusal: null;
}

/** One answer to a chat. */
export interface ChatChoice {
  index: number;
  message: { role: "assistant"; content: string; refusal: null };
  logprobs: ChatLogProbs | null;
  finish_reason: FinishReason;
  stop_reason?: string | null;
  token_ids?: number[];
}

/** The answer of `/v1/chat/completions`. */
export interface ChatResponse {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: ChatChoice[];
  usage: Usage;
  prompt_token_ids?: number[];
}

/** A piece of a streamed answer of `/v1/chat/completions`. */
export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string };
    logprobs: ChatLogProbs | null;
    finish_reason: FinishReason | null;
    token_ids?: number[];
  }[];
  usage?: Usage | null;
}

/** The body of an error answer. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}
