/** `/v1/completions`: text or token ids in, what follows them out. */
import type { CompletionChoice, CompletionLogProbs, CompletionResponse } from "../io/openai-types.ts";
import type { Generation, GenerationRequest } from "../nn/generation.ts";
import { badField } from "./errors.ts";
import { Fields } from "./fields.ts";
import type { TextModel } from "./model.ts";
import {
  type Answer,
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
const MOST_PROMPTS = 1024;

interface Prompt {
  text: string;
  ids: Uint32Array;
}

interface CompletionRequest extends Common {
  prompts: Prompt[];
  maxTokens: number | undefined;
  echo: boolean;
  /** null: none; 0: of the tokens themselves; more: of so many alternatives too. */
  logprobs: number | null;
}

/** Answers a request body. Errors of the request are thrown before anything is generated. */
export async function completions(model: TextModel, body: unknown, signal: AbortSignal): Promise<Answer> {
  const request = parse(model, body);
  const requests = request.prompts.map(({ ids }): GenerationRequest & { stop: string[] } => ({
    ids,
    params: { ...request.params, maxNewTokens: responseRoom(model, ids.length, request.maxTokens, DEFAULT_TOKENS) },
    samples: request.n,
    top: request.logprobs ?? 0,
    signal,
    stop: request.stop,
  }));
  const silent = request.maxTokens === 0;
  const generations = silent ? [] : submitAll(model, requests);
  const echoes = await echoed(model, request, generations);
  const deltas = silent
    ? (async function* () {})()
    : merge(generations.map((one, p) => numbered(followText(model, requests[p], one), p * request.n)));
  const head = { id: requestId("cmpl"), object: "text_completion" as const, created: nowSeconds(), model: model.name };
  return request.stream
    ? { events: chunks(model, request, head, echoes, deltas) }
    : { json: await whole(model, request, head, echoes, deltas) };
}

function parse(model: TextModel, body: unknown): CompletionRequest {
  const f = new Fields(body);
  checkModel(f, model);
  const common = commonFields(f, model);
  f.unsupported({
    suffix: (v) => v === "",
    best_of: (v) => v === common.n || v === 1,
  });
  const request: CompletionRequest = {
    ...common,
    prompts: prompts(f.raw("prompt"), model),
    maxTokens: f.integer("max_tokens", 0),
    echo: f.boolean("echo"),
    logprobs: f.integer("logprobs", 0, MOST_TOP) ?? null,
  };
  if (request.maxTokens === 0 && !request.echo) throw badField("max_tokens", "max_tokens may be 0 with echo only");
  f.refuseUnknown();
  return request;
}

function prompts(value: unknown, model: TextModel): Prompt[] {
  const wrong = () =>
    badField("prompt", "prompt must be a string, a list of strings, a list of token ids or a list of such lists");
  const fromText = (text: string): Prompt => ({ text, ids: Uint32Array.from(model.encode(text)) });
  const isIds = (v: unknown): v is number[] =>
    Array.isArray(v) && v.length > 0 && v.every((id) => Number.isInteger(id) && id >= 0);
  const fromIds = (ids: number[]): Prompt => {
    const foreign = ids.find((id) => id >= model.vocabSize);
    if (foreign !== undefined)
      throw badField("prompt", `prompt holds token ${foreign}; ids are below ${model.vocabSize}`);
    return { text: model.decode(ids), ids: Uint32Array.from(ids) };
  };
  if (typeof value === "string") return [fromText(value)];
  if (isIds(value)) return [fromIds(value)];
  if (!Array.isArray(value) || value.length === 0) throw wrong();
  if (value.length > MOST_PROMPTS) throw badField("prompt", `prompt may hold at most ${MOST_PROMPTS} prompts`);
  return value.map((one: unknown) => {
    if (typeof one === "string") return fromText(one);
    if (isIds(one)) return fromIds(one);
    throw wrong();
  });
}

/** The prompts' own text and tokens, where the request wants them back. */
async function echoed(model: TextModel, request: CompletionRequest, running: Generation[]): Promise<TextPiece[]> {
  if (!request.echo) return [];
  const deltas: TextPiece[] = [];
  try {
    for (const [p, { text, ids }] of request.prompts.entries()) {
      const found = request.logprobs === null ? null : await model.promptLogProbs(ids, request.logprobs);
      const tokens = Array.from(ids, (id, i): TokenInfo => {
        const top = i > 0 ? found?.top[i - 1] : undefined;
        return {
          id,
          logProb: i > 0 && found ? found.logProbs[i - 1] : null,
          top: top ? Array.from(top.ids, (t, k) => ({ id: t, logProb: top.logProbs[k] })) : [],
        };
      });
      const finish = request.maxTokens === 0 ? "length" : null;
      for (let k = 0; k < request.n; k++) deltas.push({ sample: p * request.n + k, text, tokens, finish, stop: null });
    }
    return deltas;
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
