/** One request to sample: what it may ask for, and what is drawn. */
import { EngineBusyError } from "../../nn/engine.ts";
import type { Generation, GenerationRequest } from "../../nn/generation.ts";
import { ApiError, badField } from "../errors.ts";
import type { Fields } from "../fields.ts";
import type { TextModel } from "../model.ts";
import { contextLengthError } from "../request.ts";
import { followText, type TextPiece, wholeTexts } from "../text.ts";
import { inner } from "./ask.ts";
import { type WireTop, writeSamples } from "./wire.ts";

/** As servers of the same weights elsewhere: most samples of one prompt, and most alternatives of one token. */
const MOST_SAMPLES = 128;
const MOST_TOP = 20;
const MOST_STOPS = 16;
const LONGEST_STOP = 1024;

/** What a client wants drawn. */
export interface SampleRequest {
  ids: Uint32Array;
  samples: number;
  maxTokens: number | null;
  seed: number;
  temperature: number;
  topK: number;
  topP: number;
  stop: string[];
  stopIds: number[];
  /** Nothing ends a sample but its length. */
  endless: boolean;
  /** How many of the prompt's last tokens are scored; 0 scores none. */
  scored: number;
  promptTop: number;
  sampleTop: number;
}

/** Reads the fields of a request. */
export function readSample(f: Fields, vocabSize: number): SampleRequest {
  f.unsupported({
    target_prompt_logprobs: () => false,
    prompt_alt_tokens_k: (value) => value === 0,
    record_stability_info: (value) => value === false,
  });
  const ids = promptIds(f, vocabSize);
  const p = inner(f, "sampling_params");
  if (!p) throw badField("sampling_params", "sampling_params is missing");
  const seed = p.integer("seed", Number.MIN_SAFE_INTEGER);
  const topK = p.integer("top_k", -1) ?? -1;
  const stops = stopsOf(p.raw("stop"), vocabSize);
  const maxTokens = p.integer("max_tokens", 1) ?? null;
  const temperature = p.number("temperature", 0, 100) ?? 1;
  const topP = p.number("top_p", 0, 1) ?? 1;
  p.refuseUnknown();
  const wants = f.boolean("prompt_logprobs");
  const lastN = f.integer("prompt_logprobs_last_n", 1, Math.max(1, ids.length - 1));
  const promptTop = f.integer("topk_prompt_logprobs", 0, MOST_TOP) ?? 0;
  return {
    ids,
    samples: f.integer("num_samples", 1, MOST_SAMPLES) ?? 1,
    maxTokens,
    seed: seed === undefined ? crypto.getRandomValues(new Uint32Array(1))[0] : seed < 0 ? seed + 2 ** 53 : seed,
    temperature,
    topK: Math.max(0, topK),
    topP: topP || 1e-6, // 0 leaves only the most probable token
    ...stops,
    scored: wants || promptTop > 0 ? (lastN ?? ids.length) : 0,
    promptTop,
    sampleTop: f.integer("topk_sample_logprobs", 0, MOST_TOP) ?? 0,
  };
}

function promptIds(f: Fields, vocabSize: number): Uint32Array {
  const chunks = inner(f, "prompt")?.raw("chunks");
  if (!Array.isArray(chunks)) throw badField("prompt", "prompt must be an object with a list of chunks");
  const ids = chunks.flatMap((chunk: unknown): number[] => {
    const { type = "encoded_text", tokens } = (chunk ?? {}) as { type?: unknown; tokens?: unknown };
    if (type !== "encoded_text")
      throw badField("prompt", "prompt holds a picture or sound: this server's models read tokens only");
    if (!Array.isArray(tokens)) throw badField("prompt", "each chunk of prompt must have a list of tokens");
    return tokens as number[];
  });
  const wrong = ids.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (wrong >= 0) {
    throw badField(
      "prompt",
      `prompt holds ${JSON.stringify(ids[wrong])} at ${wrong}; ids are whole numbers below ${vocabSize}`,
    );
  }
  if (ids.length === 0) throw badField("prompt", "prompt has no tokens: a model needs at least one to go on from");
  return Uint32Array.from(ids);
}

function stopsOf(value: unknown, vocabSize: number): Pick<SampleRequest, "stop" | "stopIds" | "endless"> {
  if (value === undefined) return { stop: [], stopIds: [], endless: false };
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length <= MOST_STOPS) {
    if (list.every((one): one is string => typeof one === "string" && one !== "" && one.length <= LONGEST_STOP)) {
      return { stop: list, stopIds: [], endless: list.length === 0 };
    }
    if (list.every((one): one is number => Number.isInteger(one) && Number(one) >= 0 && Number(one) < vocabSize)) {
      return { stop: [], stopIds: list, endless: false };
    }
  }
  throw badField("stop", `stop must be a text, or a list of at most ${MOST_STOPS} texts or of ids below ${vocabSize}`);
}

/** Tokens that a request may have computed, and bytes of its answer: a number has 4. */
export function costOf(asked: SampleRequest, capacity: number): { tokens: number; bytes: number } {
  const { ids, samples, maxTokens, scored, promptTop, sampleTop } = asked;
  const drawn = samples * (maxTokens ?? Math.max(0, capacity - ids.length));
  const prompt = scored > 0 ? ids.length * (4 + 8 * promptTop) : 0;
  return { tokens: ids.length + drawn, bytes: prompt + drawn * (8 + 8 * sampleTop) };
}

/** Draws the samples. They hold the token that ended them, or those that completed the text that did. */
export async function drawSamples(model: TextModel, asked: SampleRequest, signal: AbortSignal): Promise<Uint8Array> {
  const { ids, samples, scored, promptTop, sampleTop, stop, stopIds, endless } = asked;
  const { capacity } = model.engine;
  const room = asked.maxTokens ?? capacity - ids.length;
  if (room < 1 || ids.length + room > capacity) throw contextLengthError(model, ids.length, Math.max(1, room));
  const { temperature, topK, topP, seed } = asked;
  const request: GenerationRequest & { stop: string[] } = {
    ids,
    params: {
      maxNewTokens: room,
      seed,
      temperature,
      topK,
      topP,
      eosIds: [...new Set([...model.endIds, ...stopIds])],
      ignoreEos: endless,
    },
    samples,
    top: sampleTop,
    ...(scored > 0 && { score: promptTop }),
    signal,
    stop,
  };
  const generation = await submitted(model, request, signal);
  const scores = scored > 0 ? await generation.scores() : null;
  const drawn = await wholeTexts(samples, followText(model, request, generation));
  const first = ids.length - scored;
  const promptLogProbs =
    scores && Float32Array.from(ids, (_, i) => (i > 0 && i >= first ? scores.logProbs[i - 1] : Number.NaN));
  const best = (i: number) => {
    const found = i > 0 && i >= first ? scores?.top[i - 1] : undefined;
    return found ? Array.from(found.ids, (id, k) => ({ id, logProb: found.logProbs[k] })) : [];
  };
  return writeSamples(
    drawn.map((piece) => sampleOf(piece, sampleTop)),
    promptLogProbs,
    promptTop > 0 ? { k: promptTop, places: Array.from(ids, (_, i) => best(i)) } : null,
  );
}

function sampleOf({ tokens, finish }: TextPiece, k: number) {
  const top: WireTop | null = k > 0 ? { k, places: tokens.map((token) => token.top) } : null;
  return {
    ids: tokens.map(({ id }) => id),
    logProbs: tokens.map(({ logProb }) => logProb as number),
    stopped: finish === "stop",
    top,
  };
}

/** Waits for room in the queue: the request has been taken in already. */
async function submitted(model: TextModel, request: GenerationRequest, signal: AbortSignal): Promise<Generation> {
  for (;;) {
    signal.throwIfAborted();
    const { failed } = model.engine;
    if (failed) throw failed;
    try {
      return model.engine.submit(request);
    } catch (error) {
      if (!(error instanceof EngineBusyError)) throw error;
      if (model.engine.load.waiting === 0)
        throw new ApiError(400, `${request.samples} samples at once are more than may wait (--max_waiting)`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
