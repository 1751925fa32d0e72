/** Sampling from a language model: prefill once per prompt, then decode all samples together through a KV cache. */
import { flush } from "../gpu/stream.ts";
import { UserError } from "../runtime/errors.ts";
import { noGrad, scope, type Tensor, tensor } from "../tensor/core.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { kvCacheFork } from "../tensor/ops/kvcache.ts";
import { allDone, readSamples, type SampleState, sampleState, sampleTokens } from "../tensor/ops/sample.ts";
import { packing } from "../tensor/packing.ts";
import { KvCache } from "./cache.ts";
import { Engine } from "./engine.ts";
import type { Generation } from "./generation.ts";
import type { CausalLM } from "./models.ts";
import { needsSlots, type SamplingParams } from "./sampling.ts";

export interface GenerateOptions extends SamplingParams {
  /** Responses per prompt; they share its prefill. Default 1. */
  samples?: number;
  /**
   * Names each response's random numbers: the same (seed, stream) draws the same noise whatever else is in the batch.
   * One per response, prompt by prompt; by default 0, 1, 2, ...
   */
  streams?: ArrayLike<number>;
  /** Responses decoded at once, fewer where their prompts would not fit into one pass. Default 256. */
  batchSize?: number;
}

export interface Completion {
  /** Index of the prompt. */
  prompt: number;
  /** The response's tokens, its end token included. */
  ids: Uint32Array;
  /** It ended by itself, rather than by `maxNewTokens`. */
  ended: boolean;
  /** Log-probability of each token under the untempered, untruncated softmax. */
  logProbs: Float32Array;
}

/** Decode steps between looks at which responses have ended: each look is a round trip to the GPU. */
const STEPS_PER_LOOK = 16;

/**
 * Responses in the order of the prompts, `samples` for each. The model's weights are only read.
 * Throws `UserError` when a prompt is empty or leaves no room for a response in the model's context.
 */
export async function generate(
  model: CausalLM,
  prompts: readonly Uint32Array[],
  options: GenerateOptions,
): Promise<Completion[]> {
  const { samples = 1, batchSize = 256 } = options;
  const { maxPositions } = model.config;
  const settings = { ...options, eosIds: options.eosIds ?? model.config.eosIds };
  prompts.forEach((p, i) => {
    if (p.length === 0) throw new UserError(`prompt ${i} is empty: a model needs at least one token to go on from`);
    if (p.length + options.maxNewTokens > maxPositions) {
      throw new UserError(
        `prompt ${i} has ${p.length} tokens; with ${options.maxNewTokens} new ones it exceeds the context of ` +
          `${maxPositions}: shorten the prompt or the response`,
      );
    }
  });
  if (needsSlots(settings)) return generateInSlots(model, prompts, settings);
  const perBatch = Math.max(1, Math.floor(batchSize / samples));
  const completions: Completion[] = [];
  for (let first = 0, last = 0; first < prompts.length; first = last) {
    let tokens = 0;
    do tokens += prompts[last++].length;
    while (last < Math.min(prompts.length, first + perBatch) && tokens + prompts[last].length <= model.tokensPerPass);
    const part = prompts.slice(first, last);
    const streams = Array.from({ length: part.length * samples }, (_, i) => {
      const response = first * samples + i;
      return options.streams ? options.streams[response] : response;
    });
    for (const done of await generateBatch(model, part, streams, settings)) {
      completions.push({ ...done, prompt: first + done.prompt });
    }
  }
  return completions;
}

/** The same with options that only slots know; a response that has ended makes room for the next. */
async function generateInSlots(
  model: CausalLM,
  prompts: readonly Uint32Array[],
  options: GenerateOptions,
): Promise<Completion[]> {
  const { samples = 1, batchSize = 256 } = options;
  const longest = prompts.reduce((most, p) => Math.max(most, p.length), 0);
  const engine = new Engine(model, {
    slots: Math.max(1, Math.min(batchSize, prompts.length * samples)),
    capacity: longest + options.maxNewTokens,
    stepsPerRead: STEPS_PER_LOOK,
    fixedRows: true,
  });
  try {
    const requests = prompts.map((ids, i) => {
      const streams = Array.from({ length: samples }, (_, k) => options.streams?.[i * samples + k] ?? i * samples + k);
      return engine.submit({ ids, params: options, samples, streams });
    });
    const completions = await Promise.all(requests.map((request, prompt) => collect(request, prompt, samples)));
    return completions.flat();
  } finally {
    await engine.close();
  }
}

/** All that a request gives, by sample. */
async function collect(request: Generation, prompt: number, samples: number): Promise<Completion[]> {
  const parts = Array.from({ length: samples }, () => ({
    ids: [] as number[],
    logProbs: [] as number[],
    ended: false,
  }));
  for await (const { sample, ids, logProbs, finish } of request) {
    const part = parts[sample];
    part.ids.push(...ids);
    part.logProbs.push(...logProbs);
    part.ended ||= finish === "stop";
  }
  return parts.map(({ ids, logProbs, ended }) => ({
    prompt,
    ids: Uint32Array.from(ids),
    ended,
    logProbs: Float32Array.from(logProbs),
  }));
}

async function generateBatch(
  model: CausalLM,
  prompts: readonly Uint32Array[],
  streams: readonly number[],
  options: GenerateOptions & { eosIds: readonly number[] },
): Promise<Completion[]> {
  const { samples = 1, maxNewTokens } = options;
  const session = scope(() => noGrad(() => prefill(model, prompts, streams, options)));
  const { state, cache, slots } = session;
  try {
    for (let step = 1; step < maxNewTokens; step++) {
      scope(() => noGrad(() => decode(model, state, cache, slots, options)));
      if (step % STEPS_PER_LOOK === 0 && step + 1 < maxNewTokens && (await allDone(state))) break;
    }
    const { tokens, rawLogProbs } = await readSamples(state);
    return tokens.map((ids, b) => ({
      prompt: Math.floor(b / samples),
      ids,
      ended: ids.length > 0 && options.eosIds.includes(ids[ids.length - 1]),
      logProbs: rawLogProbs[b],
    }));
  } finally {
    cache.free();
    for (const t of [slots, ...Object.values(state)])
      if (typeof t === "object") (t as Tensor).free("the end of generation");
    flush();
  }
}

interface Session {
  state: SampleState;
  cache: KvCache;
  /** Cache slot of each response: its own index. */
  slots: Tensor;
}

/** Runs the prompts, copies their keys and values to every sample, and draws the first token of each response. */
function prefill(
  model: CausalLM,
  prompts: readonly Uint32Array[],
  streams: readonly number[],
  options: GenerateOptions & { eosIds: readonly number[] },
): Session {
  const { samples = 1, maxNewTokens } = options;
  const lengths = prompts.map((p) => p.length);
  const tokens = new Uint32Array(lengths.reduce((a, b) => a + b, 0));
  const slotOfRow = new Uint32Array(tokens.length);
  const lastRows: number[] = [];
  let at = 0;
  prompts.forEach((prompt, i) => {
    tokens.set(prompt, at);
    slotOfRow.fill(i * samples, at, at + prompt.length);
    at += prompt.length;
    for (let k = 0; k < samples; k++) lastRows.push(at - 1);
  });
  const count = prompts.length * samples;
  const cache = new KvCache(model.config, count, Math.max(...lengths) + maxNewTokens);
  const hidden = model.decoder.forward(
    { gpu: tensor(tokens) },
    { packing: packing(lengths), cache, slots: tensor(slotOfRow) },
  );
  if (samples > 1) forkPrompts(cache, lengths, samples);
  const promptLengths = lastRows.map((_, b) => lengths[Math.floor(b / samples)]);
  const state = sampleState({ streams, promptLengths, maxNewTokens });
  sampleTokens(model.logits(gatherRows(hidden, tensor(Uint32Array.from(lastRows)))), state, options);
  return { state, cache, slots: tensor(Uint32Array.from({ length: count }, (_, i) => i)) };
}

/** Copies each prompt's first slot to the slots of its other samples. */
function forkPrompts(cache: KvCache, lengths: readonly number[], samples: number): void {
  const from: number[] = [];
  const to: number[] = [];
  const sizes: number[] = [];
  lengths.forEach((length, i) => {
    for (let k = 1; k < samples; k++) {
      from.push(i * samples);
      to.push(i * samples + k);
      sizes.push(length);
    }
  });
  const [sources, targets, copied] = [from, to, sizes].map((list) => tensor(Uint32Array.from(list)));
  for (const { keys, values } of cache.all) kvCacheFork(keys, values, sources, targets, copied);
}

/** One token for every response; responses that are done are carried along. */
function decode(
  model: CausalLM,
  state: SampleState,
  cache: KvCache,
  slots: Tensor,
  options: GenerateOptions & { eosIds: readonly number[] },
): void {
  const hidden = model.decoder.forward(
    { gpu: state.next },
    { cache, slots, positions: state.positions, lengths: state.cachedLengths },
  );
  sampleTokens(model.logits(hidden), state, options);
}
