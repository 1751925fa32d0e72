/** `/v1/chat/completions`: a conversation in, the assistant's next message out. */
import type { ChatChunk, ChatLogProbs, ChatMessage, ChatResponse, TokenLogProb } from "../io/openai-types.ts";
import type { GenerationRequest } from "../nn/generation.ts";
import { isUserError } from "../runtime/errors.ts";
import { ApiError, badField } from "./errors.ts";
import { Fields } from "./fields.ts";
import type { TextModel } from "./model.ts";
import type { Answer } from "./reply.ts";
import {
  type Asker,
  anybody,
  type Common,
  checkModel,
  commonFields,
  finite,
  idsOf,
  MOST_TOP,
  nowSeconds,
  requestId,
  responseRoom,
  submitAll,
  usageOf,
} from "./request.ts";
import { followText, type TextPiece, type TokenInfo, wholeTexts } from "./text.ts";

const MOST_MESSAGES = 4096;

interface ChatRequest extends Common {
  messages: ChatMessage[];
  maxTokens: number | undefined;
  /** null: none; else how many alternatives. */
  topLogprobs: number | null;
}

/** Answers a request body. Errors of the request are thrown before anything is generated. */
export async function chatCompletions(
  model: TextModel,
  body: unknown,
  signal: AbortSignal,
  asker: Asker = anybody(),
): Promise<Answer> {
  const request = parse(model, body);
  const rendered = render(model, request.messages);
  const ids = Uint32Array.from(rendered.ids);
  const longest = responseRoom(model, ids.length, request.maxTokens, model.engine.capacity);
  const { n, topLogprobs, returnTokenIds } = request;
  asker.admit({ prompts: [ids.length], echoed: 0, n, longest: [longest], logprobs: topLogprobs, returnTokenIds }, true);
  const generationRequest: GenerationRequest & { stop: string[] } = {
    ids,
    params: { ...request.params, maxNewTokens: longest },
    samples: n,
    top: topLogprobs ?? 0,
    owner: asker,
    client: asker.client,
    signal,
    stop: [...request.stop, ...rendered.stop],
  };
  const [generation] = submitAll(model, [generationRequest]);
  const pieces = followText(model, generationRequest, generation);
  const head = { id: requestId("chatcmpl"), created: nowSeconds(), model: model.name };
  return request.stream
    ? { events: chunks(model, request, head, ids, pieces) }
    : { json: await whole(model, request, head, ids, pieces) };
}

function parse(model: TextModel, body: unknown): ChatRequest {
  const f = new Fields(body);
  checkModel(f, model);
  const common = commonFields(f, model);
  const isObject = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null;
  const isEmpty = (v: unknown) => Array.isArray(v) && v.length === 0;
  f.unsupported({
    tools: isEmpty,
    tool_choice: (v) => v === "none" || v === "auto",
    functions: isEmpty,
    function_call: (v) => v === "none" || v === "auto",
    parallel_tool_calls: () => true,
    response_format: (v) => isObject(v) && v.type === "text",
    modalities: (v) => Array.isArray(v) && v.every((one) => one === "text"),
    audio: () => false,
    prediction: () => false,
    web_search_options: () => false,
    reasoning_effort: () => false,
    verbosity: () => false,
  });
  const wants = f.boolean("logprobs");
  const top = f.integer("top_logprobs", 0, MOST_TOP);
  if (top !== undefined && !wants) throw badField("top_logprobs", "top_logprobs is only allowed with logprobs: true");
  const [newer, older] = [f.integer("max_completion_tokens", 1), f.integer("max_tokens", 1)];
  const request: ChatRequest = {
    ...common,
    messages: messages(f.raw("messages")),
    maxTokens: newer ?? older,
    topLogprobs: wants ? (top ?? 0) : null,
  };
  f.refuseUnknown();
  return request;
}

function messages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw badField("messages", "messages must be a list of at least one message");
  }
  if (value.length > MOST_MESSAGES) throw badField("messages", `messages may hold at most ${MOST_MESSAGES} messages`);
  return value.map((message: unknown, i): ChatMessage => {
    const where = `messages[${i}]`;
    if (typeof message !== "object" || message === null) throw badField(where, `${where} must be an object`);
    const { role, content } = message as { role?: unknown; content?: unknown };
    if (typeof role !== "string" || !["system", "developer", "user", "assistant"].includes(role)) {
      throw badField(`${where}.role`, `${where}.role must be system, developer, user or assistant`);
    }
    return { role: role === "developer" ? "system" : role, content: contentText(content, `${where}.content`) };
  });
}

/** A message's content is text, or parts of which all are text. */
function contentText(content: unknown, where: string): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw badField(where, `${where} must be a string or a list of text parts`);
  const parts = content as { type?: unknown; text?: unknown }[];
  return parts
    .map((part) => {
      if (part?.type !== "text" || typeof part.text !== "string") {
        throw badField(where, `${where}: only parts of type "text" are supported`);
      }
      return part.text;
    })
    .join("");
}

function render(model: TextModel, messages: ChatMessage[]) {
  try {
    return model.chat(messages);
  } catch (error) {
    if (isUserError(error)) throw new ApiError(400, error.message, { param: "messages" });
    throw error;
  }
}

type Head = Pick<ChatResponse, "id" | "created" | "model">;
type Pieces = AsyncGenerator<TextPiece, void, undefined>;

async function whole(
  model: TextModel,
  request: ChatRequest,
  head: Head,
  ids: Uint32Array,
  pieces: Pieces,
): Promise<ChatResponse> {
  const all = await wholeTexts(request.n, pieces);
  const completion = all.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return {
    ...head,
    object: "chat.completion",
    choices: all.map(({ text, tokens, finish, stop }, index) => ({
      index,
      message: { role: "assistant", content: text, refusal: null },
      logprobs: logProbs(model, request, tokens),
      finish_reason: finish ?? "length",
      stop_reason: stop,
      ...(request.returnTokenIds && { token_ids: idsOf(tokens) }),
    })),
    usage: usageOf(ids.length, completion),
    ...(request.returnTokenIds && { prompt_token_ids: Array.from(ids) }),
  };
}

async function* chunks(
  model: TextModel,
  request: ChatRequest,
  head: Head,
  ids: Uint32Array,
  pieces: Pieces,
): AsyncGenerator<ChatChunk, void, undefined> {
  const chunk = (choices: ChatChunk["choices"]): ChatChunk => ({
    ...head,
    object: "chat.completion.chunk",
    choices,
    ...(request.includeUsage && { usage: null }),
  });
  for (let index = 0; index < request.n; index++) {
    yield chunk([{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }]);
  }
  let completion = 0;
  for await (const { sample, text, tokens, finish } of pieces) {
    completion += tokens.length;
    yield chunk([
      {
        index: sample,
        delta: text === "" ? {} : { content: text },
        logprobs: logProbs(model, request, tokens),
        finish_reason: finish,
        ...(request.returnTokenIds && { token_ids: idsOf(tokens) }),
      },
    ]);
  }
  if (request.includeUsage) yield { ...chunk([]), usage: usageOf(ids.length, completion) };
}

function logProbs(model: TextModel, { topLogprobs }: ChatRequest, tokens: readonly TokenInfo[]): ChatLogProbs | null {
  if (topLogprobs === null) return null;
  const entry = (id: number, logProb: number): TokenLogProb => {
    const { text, bytes } = model.token(id);
    return { token: text, logprob: finite(logProb), bytes };
  };
  return {
    content: tokens.map(({ id, logProb, top }) => ({
      ...entry(id, logProb ?? 0),
      top_logprobs: top.map((t) => entry(t.id, t.logProb)),
    })),
    refusal: null,
  };
}
