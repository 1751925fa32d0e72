/** Samples from a policy, with everything that is measured on them. Token ids are kept from sampling to training. */
import type { ChatMessage } from "../data/chat-template.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { type GenerateOptions, generate } from "../nn/generate.ts";
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import { UserError } from "../runtime/errors.ts";
import { uint32 } from "../runtime/rng.ts";
import { noGrad, scope } from "../tensor/core.ts";
import { concat } from "../tensor/ops/shape.ts";
import type { Resident } from "../tensor/residency.ts";
import { pack, predictedTokens, predictions, type Sequence, scoringParts, split } from "./batch.ts";
import { residentsOf } from "./ppo/offload.ts";
import { scoreSequences } from "./reward/scores.ts";
import { average } from "./stats.ts";

/** A prompt to respond to. */
export interface Prompt {
  text: string;
  /** The conversation that was written as `text`, where there was one. */
  messages?: readonly ChatMessage[];
  /** The answer that the data has, where it has one. */
  target?: string;
  ids: Uint32Array;
}

/** A response as it was sampled. */
export interface Response extends Sequence {
  /** Index of the prompt in its list. */
  prompt: number;
  /** Which of the prompt's samples it is. */
  sample: number;
  promptText: string;
  /** Without special tokens. */
  text: string;
  /** It ended by itself. */
  ended: boolean;
  /** The prompt's. */
  target?: string;
}

export interface SamplingOptions extends Omit<GenerateOptions, "seed" | "streams"> {
  seed: number;
  /** Separates the random numbers of one iteration from the next. */
  iteration: number;
  /** Hears of responses as soon as all of their prompt are there: what fails later does not undo them. */
  onResponses?: (responses: readonly Response[]) => Promise<void>;
}

/** Draws `samples` responses to each prompt, prompt by prompt; `promptIds` are stable numbers of the prompts. */
export type Sampler = (
  prompts: readonly Prompt[],
  promptIds: ArrayLike<number>,
  options: SamplingOptions,
) => Promise<Response[]>;

/** For each id, how often it stands before: a prompt that comes twice in one iteration must not get the same responses. */
export function earlierOnes(ids: ArrayLike<number>): number[] {
  const seen = new Map<number, number>();
  return Array.from(ids, (id) => {
    const before = seen.get(id) ?? 0;
    seen.set(id, before + 1);
    return before;
  });
}

/**
 * `samples` responses to each prompt, prompt by prompt. The random numbers are keyed by (seed, iteration, prompt id,
 * sample, token), so a response does not depend on what else is sampled with it.
 * @param promptIds stable numbers of the prompts, e.g. their places in the dataset
 */
export async function sampleResponses(
  policy: CausalLM,
  tokenizer: Tokenizer,
  prompts: readonly Prompt[],
  promptIds: ArrayLike<number>,
  options: SamplingOptions,
): Promise<Response[]> {
  const samples = options.samples ?? 1;
  const earlier = earlierOnes(promptIds);
  const streams = Array.from({ length: prompts.length * samples }, (_, i) => {
    const at = Math.floor(i / samples);
    return uint32(options.seed, options.iteration, promptIds[at], earlier[at] * samples + (i % samples));
  });
  const completions = await generate(
    policy,
    prompts.map((p) => p.ids),
    { ...options, streams },
  );
  const responses = completions.map(({ prompt, ids, ended }, i): Response => {
    const given = prompts[prompt].ids;
    const whole = new Uint32Array(given.length + ids.length);
    whole.set(given);
    whole.set(ids, given.length);
    return {
      ids: whole,
      promptLength: given.length,
      prompt,
      sample: i % samples,
      promptText: prompts[prompt].text,
      text: tokenizer.decode(ids, { continued: true }),
      ended,
      ...targetOf(prompts[prompt]),
    };
  });
  await options.onResponses?.(responses);
  return responses;
}

/** A response hands on what its prompt has for comparison. */
export const targetOf = ({ target }: Prompt): { target?: string } => (target === undefined ? {} : { target });

/** Per-token log-probabilities and entropies of the responses under a policy, without gradients. */
export async function responseLogProbs(
  policy: CausalLM,
  sequences: readonly Sequence[],
  temperature = 1,
): Promise<{ logProbs: Float32Array[]; entropy: Float32Array[] }> {
  const logProbs: Float32Array[] = [];
  const entropy: Float32Array[] = [];
  for (const [first, last] of scoringParts(sequences, policy)) {
    const part = sequences.slice(first, last);
    let lengths: number[] = [];
    const both = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        const p = predictions(part, starts);
        lengths = p.lengths;
        const found = policy.logProbs(ids, packing, p.rows, p.targets, temperature);
        return concat([found.logProbs, found.entropy]);
      }),
    );
    const values = await both.read();
    both.free("scoring");
    const half = values.length / 2;
    logProbs.push(...split(values.slice(0, half), lengths));
    entropy.push(...split(values.slice(half), lengths));
  }
  return { logProbs, entropy };
}

/** Mean over sequences of the summed log-ratio: an unbiased estimate of the KL divergence (at temperature 1). */
export async function sampledKl(
  policy: CausalLM,
  reference: CausalLM,
  responses: readonly Response[],
): Promise<number> {
  const own = await responseLogProbs(policy, responses);
  const other = await responseLogProbs(reference, responses);
  return average(own.logProbs.map((l, i) => l.reduce((sum, x, t) => sum + x - other.logProbs[i][t], 0)));
}

/** A response cut to what a limit on prompt and response together leaves it: one token at least. */
export function withinLength(response: Response, maxLength: number, tokenizer: Tokenizer): Response {
  const { ids, promptLength } = response;
  const kept = Math.max(promptLength + 1, maxLength);
  if (ids.length <= kept) return response;
  const cut = ids.slice(0, kept);
  return {
    ...response,
    ids: cut,
    text: tokenizer.decode(cut.subarray(promptLength), { continued: true }),
    ended: false,
  };
}

/**
 * Where a critic is read: at the row that predicts each response token and, for responses with a slot after the last token,
 * at that token itself.
 * @param slots values that each response has: as many as tokens, or one more
 */
export function valueRows(
  sequences: readonly Sequence[],
  starts: readonly number[],
  slots: readonly number[],
): Uint32Array {
  const rows: number[] = [];
  sequences.forEach(({ promptLength }, i) => {
    const first = starts[i] + Math.max(1, promptLength) - 1;
    for (let t = 0; t < slots[i]; t++) rows.push(first + t);
  });
  return Uint32Array.from(rows);
}

/** A critic's values of each response, without gradients: see `valueRows`. */
export async function responseValues(
  critic: ScoreModel,
  sequences: readonly Sequence[],
  slots: readonly number[] = sequences.map(predictedTokens),
): Promise<Float32Array[]> {
  const values: Float32Array[] = [];
  for (const [first, last] of scoringParts(sequences, critic)) {
    const part = sequences.slice(first, last);
    const own = slots.slice(first, last);
    const flat = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        return critic.scores(ids, packing, valueRows(part, starts, own));
      }),
    );
    values.push(...split(await flat.read(), own));
    flat.free("scoring");
  }
  return values;
}

/** Scores responses. May be a model, a rule, a remote service; must give one finite number per response. */
export interface RewardFunction {
  (responses: readonly Response[]): Promise<ArrayLike<number>>;
  /** The memory that it needs on the GPU, where that may leave in between. */
  residents?: readonly Resident[];
}

export interface ModelRewardOptions {
  /** Whether scores are normalised by the statistics that the model kept of its training. Default: as the model says. */
  normalize?: boolean;
}

/** Throws `UserError` where scores are to be normalised and the model has no statistics. */
export function takeNormalization({ scoring }: ScoreModel, { normalize }: ModelRewardOptions): void {
  if (normalize === undefined) return;
  if (normalize && !scoring.normalizer) {
    throw new UserError(
      "the reward model kept no statistics of its scores to normalise them by: train it with a normalizer " +
        "(normalizer_type), or normalise by running statistics",
    );
  }
  scoring.doNormalize = normalize;
}

/** The reward of a model that shares the policy's tokenizer: read at the last token as generated. */
export function modelReward(model: ScoreModel, options: ModelRewardOptions = {}): RewardFunction {
  takeNormalization(model, options);
  const score: RewardFunction = (responses) => scoreSequences(model, responses);
  score.residents = residentsOf(model);
  return score;
}

/** Calls a reward function. Throws `UserError` where it returns anything but one finite number per response. */
export async function rewardsOf(reward: RewardFunction, responses: readonly Response[]): Promise<number[]> {
  const scores = Array.from(await reward(responses));
  if (scores.length !== responses.length) {
    throw new UserError(`the reward function returned ${scores.length} scores for ${responses.length} responses`);
  }
  const bad = scores.findIndex((s) => !Number.isFinite(s));
  if (bad >= 0) {
    throw new UserError(
      `the reward function returned ${scores[bad]} for the response ${JSON.stringify(responses[bad].text)}: every reward ` +
        "must be a finite number",
    );
  }
  return scores;
}
