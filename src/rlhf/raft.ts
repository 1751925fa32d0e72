/**
 * Reward-ranked fine-tuning (Dong et al. 2023): sample several responses, keep the best by reward, fine-tune on them,
 * repeat. "local" keeps the best of each prompt's K responses; "top" keeps the best share of all responses, one per
 * prompt. The optimizer and its moments persist over the iterations.
 */
import type { Tokenizer } from "../data/tokenizer.ts";
import type { CausalLM } from "../nn/models.ts";
import { AdamW, readControl } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { permutation, uint32 } from "../runtime/rng.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Sequence } from "./batch.ts";
import { begin, type RunFolder, saveModels } from "./checkpoint.ts";
import type { TrainEvent } from "./events.ts";
import { PromptOrder } from "./prompts.ts";
import {
  type Prompt,
  type Response,
  type RewardFunction,
  rewardsOf,
  type Sampler,
  sampledKl,
  sampleResponses,
} from "./rollout.ts";
import { sftStep } from "./sft.ts";
import { average, distinctN } from "./stats.ts";
import {
  checkFinite,
  checkpoint,
  now,
  rateAt,
  saveDue,
  stopping,
  type TrainingOptions,
  trainingDefaults,
} from "./training.ts";

export interface RaftOptions extends TrainingOptions {
  /** Iterations of sampling and fine-tuning; each is one "step" of the run. */
  maxSteps: number;
  /** Responses kept per iteration. */
  raftBatchSize: number;
  /** Share of the responses that is kept; "local" samples K = round(1 / share) per prompt. */
  topRewardPercentage: number;
  collectionStrategy: "local" | "top";
  /** Fine-tuning passes over the kept responses in each iteration. */
  epochs: number;
  responseLength: number;
  minResponseLength: number;
  temperature: number;
  topK: number;
  topP: number;
  /** Learn the response only; LMFlow learns the prompt too. */
  maskPrompt: boolean;
  /** Keep the end token of responses that ended; LMFlow drops it, so its models never learn to stop. */
  appendEos: boolean;
  showSamples: number;
}

/** LMFlow's settings; `seed` and sizes apart. */
export const raftDefaults: RaftOptions = {
  ...trainingDefaults,
  schedule: "constant",
  learningRate: 2e-5,
  epochs: 4,
  maxSteps: 20,
  raftBatchSize: 1024,
  topRewardPercentage: 0.2,
  collectionStrategy: "local",
  responseLength: 128,
  minResponseLength: 0,
  temperature: 0.85,
  topK: 0,
  topP: 1,
  maskPrompt: false,
  appendEos: false,
  showSamples: 4,
};

export interface RaftInputs {
  model: CausalLM;
  reward: RewardFunction;
  tokenizer: Tokenizer;
  prompts: readonly Prompt[];
  /**
   * Draws the responses instead of the model: a server, for instance (see `remoteSampler`). It must have the weights that
   * the model has at the beginning of the iteration, which `options.iteration` counts.
   */
  sampler?: Sampler;
  /** The true reward, where there is one: reported, never trained on. */
  gold?: (response: Response) => number;
  /** The model the run started from, to report the KL to it. */
  reference?: CausalLM;
  /** Rewrites a response's text before it is scored and learned. */
  clean?: (text: string) => string;
  /** True for responses that must not be kept, whatever their reward. */
  discard?: (response: Response) => boolean;
  run?: RunFolder;
  resume?: boolean;
}

/** Trains the model in place. Emits one step event per iteration. */
export async function* trainRaft(inputs: RaftInputs, options: RaftOptions): AsyncGenerator<TrainEvent> {
  const { model, run, prompts } = inputs;
  const { topRewardPercentage: alpha, collectionStrategy, raftBatchSize, maxSteps } = options;
  if (prompts.length === 0) throw new UserError("RAFT needs at least one prompt");
  if (!(alpha > 0 && alpha <= 1)) throw new UserError(`top_reward_percentage must be in (0, 1], not ${alpha}`);
  // Rounded, because 1 / alpha in floating point may fall just short of a whole number.
  const samples = collectionStrategy === "local" ? Math.round(1 / alpha) : 1;
  const promptsPerStep = collectionStrategy === "local" ? raftBatchSize : Math.round(raftBatchSize / alpha);
  const optimizer = new AdamW(model.store, options);
  const trainees = { "": { model, optimizer } };
  const restored = await begin(run, inputs.resume, trainees);
  const first = restored?.step ?? 0;
  const order = new PromptOrder(prompts.length, options.seed);
  yield { type: "start", stage: "raft", step: first, maxSteps, parameters: model.store.count };

  const draw: Sampler = inputs.sampler ?? ((...request) => sampleResponses(model, inputs.tokenizer, ...request));
  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const chosen = order.take(step * promptsPerStep, promptsPerStep);
    const sampled = await draw(
      chosen.map((i) => prompts[i]),
      chosen,
      {
        maxNewTokens: options.responseLength,
        minNewTokens: options.minResponseLength,
        samples,
        temperature: options.temperature,
        topK: options.topK,
        topP: options.topP,
        seed: options.seed,
        iteration: step,
      },
    );
    const responses = inputs.clean ? sampled.map((r) => cleaned(r, inputs)) : sampled;
    const rewards = await rewardsOf(inputs.reward, responses);
    const allowed = responses.map((r) => !inputs.discard?.(r));
    const kept =
      collectionStrategy === "local"
        ? bestOfEach(rewards, allowed, samples)
        : bestOfAll(rewards, allowed, Math.floor(responses.length * alpha));
    const tuned = await fineTune(
      model,
      optimizer,
      kept.map((i) => toLearn(responses[i], inputs, options)),
      step,
      options,
    );

    const texts = responses.map((r) => r.text);
    const truth = inputs.gold ? responses.map((r) => (inputs.gold as (r: Response) => number)(r)) : null;
    const metrics: Record<string, number> = {
      // Before discards, and for "local" of each prompt's first sample: an unbiased look at the policy.
      reward: average(rewards.filter((_, i) => i % samples === 0)),
      train_reward: average(kept.map((i) => rewards[i])),
      ...(truth && { gold: average(truth), train_gold: average(kept.map((i) => truth[i])) }),
      ...(inputs.reference && {
        kl: await sampledKl(
          model,
          inputs.reference,
          sampled.filter((r) => r.sample === 0),
        ),
      }),
      ...tuned.metrics,
      n_kept: kept.length,
      n_discarded: allowed.filter((a) => !a).length,
      mean_length: average(responses.map((r) => r.ids.length - r.promptLength)),
      eos_rate: average(responses.map((r) => Number(r.ended))),
      distinct_1: distinctN(texts, 1),
      distinct_2: distinctN(texts, 2),
    };
    last = metrics;
    const done = step + 1;
    if (kept.length > 0) checkFinite(done, metrics, ["loss"]);
    const tokens = responses.reduce((n, r) => n + r.ids.length, tuned.tokens);
    const epoch = (done * promptsPerStep) / prompts.length;
    yield { type: "step", step: done, maxSteps, epoch, metrics, tokens, seconds: now() - started };
    if (options.showSamples > 0) {
      const shown = kept.slice(0, options.showSamples).map((i) => ({
        prompt: responses[i].promptText,
        response: responses[i].text,
        reward: rewards[i],
        ...(truth && { gold: truth[i] }),
      }));
      yield { type: "samples", step: done, samples: shown };
    }
    const stop = stopping(options);
    if (run && (stop || saveDue(options, done))) yield await checkpoint(run, done, trainees, {});
    if (stop) return optimizer.destroy();
  }
  if (run) await saveModels(run, { "": model });
  optimizer.destroy();
  yield { type: "end", step: maxSteps, metrics: last };
}

/** Indices of each prompt's best allowed response; the first on ties. Prompts whose responses are all discarded drop out. */
export function bestOfEach(rewards: readonly number[], allowed: readonly boolean[], samples: number): number[] {
  const kept: number[] = [];
  for (let first = 0; first < rewards.length; first += samples) {
    let best = -1;
    for (let i = first; i < first + samples; i++) {
      if (allowed[i] && (best < 0 || rewards[i] > rewards[best])) best = i;
    }
    if (best >= 0) kept.push(best);
  }
  return kept;
}

/** Indices of the `count` best allowed responses, best first; the earlier on ties. */
export function bestOfAll(rewards: readonly number[], allowed: readonly boolean[], count: number): number[] {
  const ranked = rewards.map((_, i) => i).filter((i) => allowed[i]);
  return ranked.sort((a, b) => rewards[b] - rewards[a] || a - b).slice(0, count);
}

/** The response with its text rewritten and tokenised anew; untouched texts keep their sampled ids. */
function cleaned(response: Response, { clean, tokenizer, model }: RaftInputs): Response {
  const text = (clean as (text: string) => string)(response.text);
  if (text === response.text) return response;
  const { eosId } = model.config;
  const end = response.ended && eosId !== null ? [eosId] : [];
  const ids = [
    ...response.ids.subarray(0, response.promptLength),
    ...tokenizer.encode(text, { continued: true }),
    ...end,
  ];
  return { ...response, text, ids: Uint32Array.from(ids) };
}

/** What is learned of a kept response, as the options say. */
function toLearn({ ids, promptLength, ended }: Response, { model }: RaftInputs, options: RaftOptions): Sequence {
  const drop = !options.appendEos && ended && ids.at(-1) === model.config.eosId;
  return { ids: drop ? ids.subarray(0, -1) : ids, promptLength: options.maskPrompt ? promptLength : 0 };
}

async function fineTune(
  model: CausalLM,
  optimizer: AdamW,
  examples: readonly Sequence[],
  iteration: number,
  options: RaftOptions,
): Promise<{ metrics: Record<string, number>; tokens: number }> {
  const learnable = examples.filter(({ ids, promptLength }) => ids.length > Math.max(1, promptLength));
  const { batchSize, accumulation, epochs, seed, maxSteps } = options;
  const perStep = batchSize * accumulation;
  const perEpoch = Math.ceil(learnable.length / perStep);
  const watched: Tensor[] = [];
  let tokens = 0;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = permutation(learnable.length, seed, iteration * epochs + epoch + 1);
    for (let s = 0; s < perEpoch; s++) {
      const batches: Sequence[][] = [];
      for (let b = 0; b < accumulation; b++) {
        const from = s * perStep + b * batchSize;
        const part = [...order.subarray(from, Math.min(from + batchSize, (s + 1) * perStep))].map((i) => learnable[i]);
        if (part.length > 0) batches.push(part);
      }
      const total = maxSteps * epochs * perEpoch;
      const lr = rateAt(options, total, (iteration * epochs + epoch) * perEpoch + s);
      const dropout = { seed: uint32(seed, iteration, epoch, s), step: iteration };
      const step = scope(() => sftStep(model, optimizer, batches, lr, dropout));
      watched.push(step.watch);
      tokens += step.tokens;
    }
  }
  const reads = await Promise.all(watched.map((t) => t.read()));
  for (const t of watched) t.free("the metrics reader");
  if (reads.length === 0) return { metrics: {}, tokens };
  const losses = reads.map((v) => v.slice(8).reduce((sum, x, i) => sum + (i % 2 === 0 ? x : 0), 0));
  const { gradNorm, skipped } = readControl(reads[reads.length - 1]);
  return { metrics: { loss: average(losses), grad_norm: gradNorm, skipped_steps: skipped }, tokens };
}
