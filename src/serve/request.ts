/** What both generating endpoints have in common: options, limits, ids, usage. */
import type { Usage } from "../io/openai-types.ts";
import { EngineBusyError } from "../nn/engine.ts";
import type { Generation, GenerationRequest } from "../nn/generation.ts";
import { deviceFailure } from "../open/surviving.ts";
import { isUserError } from "../runtime/errors.ts";
import { ApiError, badField, tooMany, unavailable } from "./errors.ts";
import { type Fields, samplingFields, stopIds } from "./fields.ts";
import type { Asked } from "./limits.ts";
import type { TextModel } from "./model.ts";
import type { TokenInfo } from "./text.ts";

/** Responses to one prompt, and most probable tokens per place, at most. */
const MOST_CHOICES = 128;
export const MOST_TOP = 20;

export interface Common {
  n: number;
  stream: boolean;
  includeUsage: boolean;
  returnTokenIds: boolean;
  stop: string[];
  params: Omit<GenerationRequest["params"], "maxNewTokens">;
}

/** Who asks, and what they may have. */
export interface Asker {
  /** Names the client among others, for its share of the model. */
  readonly client: string;
  /** Takes in what an answer costs, or throws what is too much of it. */
  admit(asked: Asked, chat: boolean): void;
}

/** Somebody whom nothing is refused. */
export const anybody = (): Asker => ({ client: "", admit: () => {} });

/** The model's name must be the served one's; without a name that one is meant. */
export function checkModel(f: Fields, model: TextModel): void {
  const name = f.raw("model") ?? model.name;
  if (typeof name !== "string") throw badField("model", "model must be a string");
  if (name !== model.name) throw unknownModel(name, [model.name]);
}

/** Nobody serves a model of that name. */
export const unknownModel = (name: string, known: readonly string[]): ApiError =>
  new ApiError(
    404,
    `The model \`${name.slice(0, 200)}\` does not exist; this server has ${known.map((one) => `\`${one}\``).join(", ")}`,
    { type: "not_found_error", param: "model", code: "model_not_found" },
  );

export function commonFields(f: Fields, model: TextModel): Common {
  const n = f.integer("n", 1, MOST_CHOICES) ?? 1;
  const stream = f.boolean("stream");
  const streamOptions = f.raw("stream_options");
  if (streamOptions !== undefined && (!stream || typeof streamOptions !== "object" || Array.isArray(streamOptions))) {
    throw badField("stream_options", "stream_options is an object, and only allowed with stream: true");
  }
  const { stop, ...sampling } = samplingFields(f, model.vocabSize);
  const seed = sampling.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
  const eosIds = stopIds(f, model.vocabSize, model.endIds) ?? model.endIds;
  return {
    n,
    stream,
    includeUsage: (streamOptions as { include_usage?: unknown } | undefined)?.include_usage === true,
    returnTokenIds: f.boolean("return_token_ids"),
    stop,
    params: { ...model.defaults, ...sampling, seed, eosIds },
  };
}

/** The answer of a server whose engine has come to an end that is no failure of the device. */
export const stopped = (failure: Error): ApiError => unavailable(`The engine has stopped: ${failure.message}`);

/** Submits requests to the engine: all of them or none. */
export function submitAll(model: TextModel, requests: readonly GenerationRequest[]): Generation[] {
  const { failed } = model.engine;
  if (failed) throw deviceFailure(failed) ?? stopped(failed);
  const accepted: Generation[] = [];
  try {
    for (const request of requests) accepted.push(model.engine.submit(request));
    return accepted;
  } catch (error) {
    for (const generation of accepted) generation.cancel();
    if (error instanceof EngineBusyError) {
      throw tooMany("The server is busy: too many responses are waiting (--max_waiting). Please try again later.");
    }
    if (isUserError(error) && !deviceFailure(error)) throw new ApiError(400, error.message);
    throw error;
  }
}

/** How many tokens a response may have: what was asked for, or `otherwise`; with the prompt it must fit the context. */
export function responseRoom(model: TextModel, prompt: number, asked: number | undefined, otherwise: number): number {
  const { capacity } = model.engine;
  const wanted = asked ?? Math.max(1, Math.min(otherwise, capacity - prompt));
  if (prompt > 0 && prompt + wanted <= capacity) return wanted;
  if (prompt === 0) throw badField("prompt", "the prompt is empty: a model needs at least one token to go on from");
  throw contextLengthError(model, prompt, wanted);
}

/** A prompt and its response do not fit the context. */
export const contextLengthError = ({ engine: { capacity } }: TextModel, prompt: number, wanted: number): ApiError =>
  new ApiError(
    400,
    `This model's maximum context length is ${capacity} tokens. However, you requested ${prompt + wanted} tokens ` +
      `(${prompt} in the prompt, ${wanted} in the response). Please reduce the length of either.`,
    { param: "messages", code: "context_length_exceeded" },
  );

export const usageOf = (prompt: number, completion: number): Usage => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
});

export const requestId = (prefix: string): string => `${prefix}-${crypto.randomUUID().replaceAll("-", "")}`;
export const nowSeconds = (): number => Math.floor(Date.now() / 1000);

/** Several generators as one, in the order in which things come. */
export async function* merge<T>(generators: readonly AsyncGenerator<T, void, undefined>[]): AsyncGenerator<T, void> {
  const next = (g: AsyncGenerator<T, void, undefined>) => {
    const coming = g.next().then((result) => ({ g, result }));
    coming.catch(() => {}); // it may fail while nobody waits for it; whoever does hears of it
    return coming;
  };
  const waiting = new Map(generators.map((g) => [g, next(g)]));
  try {
    while (waiting.size > 0) {
      const { g, result } = await Promise.race(waiting.values());
      if (result.done) waiting.delete(g);
      else {
        waiting.set(g, next(g));
        yield result.value;
      }
    }
  } finally {
    for (const g of waiting.keys()) void g.return().catch(() => {});
  }
}

/** JSON has no infinities; a token that cannot be is this improbable. */
export const finite = (logProb: number): number => (Number.isFinite(logProb) ? logProb : -9999);

/** Token ids of some pieces. */
export const idsOf = (tokens: readonly TokenInfo[]): number[] => tokens.map((t) => t.id);
