/** `/v1/completions`: text or token ids in, what follows them out. */
import type { CompletionChoice, CompletionLogProbs, CompletionResponse } from "../io/openai-types.ts";
import type { Generation, GenerationRequest } from "../nn/generation.ts";
import { badField } from "./errors.ts";
import { Fields } from "./fields.ts";
import type { TextModel } from "./model.ts";
import { encodePrompts, type Prompt, promptList } from "./prompts.ts";
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
  merge,
  nowSeconds,
  requestId,
  responseRoom,
  submitAll,
  usageOf,
} from "./request.ts";
import { followText, type TextPiece, type TokenInfo, wholeTexts } from "./text.ts";

const DEFAULT_TOKENS = 16;

interface CompletionRequest extends Common {
  prompts: Prompt[];
  /** Longest response to each prompt. */
  longest: number[];
  echo: boolean;
  /** null: none; 0: of the tokens themselves; more: of so many alternatives too. */
  logprobs: number | null;
}

/** Answers a request body. Errors of the request are thrown before anything is generated. */
export async function completions(
  model: TextModel,
  body: unknown,
  signal: AbortSignal,
  asker: Asker = anybody(),
): Promise<Answer> {
  const request = await parse(model, body, signal);
  const { prompts, longest, echo, logprobs, n } = request;
  asker.admit(
    {
      prompts: prompts.map(({ ids }) => ids.length),
      echoed: echo ? prompts.reduce((sum, { text }) => sum + text.length, 0) : 0,
      n,
      longest,
      logprobs,
      returnTokenIds: request.returnTokenIds,
    },
    false,
  );
  const scored = echo && logprobs !== null;
  const requests = prompts.map(({ ids }, p): GenerationRequest & { stop: string[] } => ({
    ids,
    params: { ...request.params, maxNewTokens: longest[p] },
    samples: longest[p] === 0 ? 0 : n,
    top: logprobs ?? 0,
    ...(scored && { score: logprobs }),
    owner: asker,
    client: asker.client,
    signal,
    stop: request.stop,
  }));
  const generations = submitAll(model, requests);
  const echoes = await echoed(request, generations);
  const deltas = merge(generations.map((one, p) => numbered(followText(model, requests[p], one), p * n)));
  const head = { id: requestId("cmpl"), object: "text_completion" as const, created: nowSeconds(), model: model.name };
  return request.stream
    ? { events: chunks(model, request, head, echoes, deltas) }
    : { json: await whole(model, request, head, echoes, deltas) };
}

async function parse(model: TextModel, body: unknown, signal: AbortSignal): Promise<CompletionRequest> {
  const f = new Fields(body);
  checkModel(f, model);
  const common = commonFields(f, model);
  f.unsupported({
    suffix: (v) => v === "",
    best_of: (v) => v === common.n || v === 1,
  });
  const list = promptList(f.raw("prompt"), model);
  const maxTokens = f.integer("max_tokens", 0);
  const echo = f.boolean("echo");
  const logprobs = f.integer("logprobs", 0, MOST_TOP) ?? null;
  if (maxTokens === 0 && !echo) throw badField("max_tokens", "max_tokens may be 0 with echo only");
  f.refuseUnknown();
  const prompts = await encodePrompts(list, model, echo, signal);
  const longest = prompts.map(({ ids }) => responseRoom(model, ids.length, maxTokens, DEFAULT_TOKENS));
  return { ...common, prompts, longest, echo, logprobs };
}

/** The prompts' own text and tokens, where the request wants them back. */
async function echoed({ echo, prompts, logprobs, longest, n }: CompletionRequest, running: Generation[]) {
  const pieces: TextPiece[] = [];
  if (!echo) return pieces;
  try {
    for (const [p, { text, ids }] of prompts.entries()) {
      const found = logprobs === null ? null : await running[p].scores();
      const tokens = Array.from(ids, (id, i): TokenInfo => {
        const top = i > 0 ? found?.top[i - 1] : undefined;
        return {
          id,
          logProb: i > 0 && found ? found.logProbs[i - 1] : null,
          top: top ? Array.from(top.ids, (t, k) => ({ id: t, logProb: top.logProbs[k] })) : [],
        };
      });
      const finish = longest[p] === 0 ? "length" : null;
      for (let k = 0; k < n; k++) pieces.push({ sample: p * n + k, text, tokens, finish, stop: null });
    }
    return pieces;
  } catch (error) {
    for (const generation of running) generation.cancel();
    throw error;
  }
}

/** A prompt's pieces, as samples among those of all prompts. */
async function* numbered(pieces: AsyncIterable<TextPiece>, first: number): AsyncGenerator<TextPiece, void, undefined> {
  for await (const piece of pieces) yield { ...piece, sample: first + piece.sample };
}

const promptTokens = ({ prompts }: CompletionRequest): number => prompts.reduce((sum, { ids }) => sum + ids.length, 0);
const newTokens = (sum: number, { tokens }: TextPiece): number => sum + tokens.length;

type Head = Pick<CompletionResponse, "id" | "object" | "created" | "model">;

async function whole(
  model: TextModel,
  request: CompletionRequest,
  head: Head,
  echoes: TextPiece[],
  deltas: AsyncGenerator<TextPiece, void, undefined>,
): Promise<CompletionResponse> {
  const all = await wholeTexts(request.prompts.length * request.n, deltas, echoes);
  const choices = all.map((piece) => choice(model, request, piece, 0));
  const completion = all.reduce(newTokens, 0) - echoes.reduce(newTokens, 0);
  return { ...head, choices, usage: usageOf(promptTokens(request), completion) };
}

async function* chunks(
  model: TextModel,
  request: CompletionRequest,
  head: Head,
  echoes: TextPiece[],
  deltas: AsyncGenerator<TextPiece, void, undefined>,
): AsyncGenerator<CompletionResponse, void, undefined> {
  const usage = request.includeUsage ? { usage: null } : {};
  const offsets = new Map<number, number>();
  const chunk = (delta: TextPiece): CompletionResponse => {
    const offset = offsets.get(delta.sample) ?? 0;
    offsets.set(delta.sample, offset + delta.tokens.reduce((sum, { id }) => sum + model.token(id).text.length, 0));
    return { ...head, choices: [choice(model, request, delta, offset)], ...usage };
  };
  let completion = 0;
  for (const delta of echoes) yield chunk(delta);
  for await (const delta of deltas) {
    completion += delta.tokens.length;
    yield chunk(delta);
  }
  if (request.includeUsage) yield { ...head, choices: [], usage: usageOf(promptTokens(request), completion) };
}

function choice(model: TextModel, request: CompletionRequest, delta: TextPiece, offset: number): CompletionChoice {
  const { sample: index, text, tokens, finish, stop } = delta;
  return {
    index,
    text,
    logprobs: request.logprobs === null ? null : logProbs(model, tokens, offset, request.logprobs),
    finish_reason: finish,
    stop_reason: stop,
    ...(request.returnTokenIds && {
      token_ids: idsOf(tokens),
      prompt_token_ids: Array.from(request.prompts[Math.floor(index / request.n)].ids),
    }),
  };
}

function logProbs(model: TextModel, tokens: readonly TokenInfo[], offset: number, top: number): CompletionLogProbs {
  let at = offset;
  const text = (id: number) => model.token(id).text;
  return {
    tokens: tokens.map(({ id }) => text(id)),
    token_logprobs: tokens.map(({ logProb }) => (logProb === null ? null : finite(logProb))),
    top_logprobs: tokens.map(({ id, logProb, top: best }) => {
      if (logProb === null || top === 0) return null;
      const pairs = best.map((t): [string, number] => [text(t.id), finite(t.logProb)]);
      return Object.fromEntries([...pairs, [text(id), finite(logProb)]]);
    }),
    text_offset: tokens.map(({ id }) => {
      const start = at;
      at += text(id).length;
      return start;
    }),
  };
}
