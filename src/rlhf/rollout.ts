/**
 * A rollout of policy-gradient training: responses are sampled, scored, and measured under the policy and the reference;
 * then per-token rewards are shaped. It knows of no critic and of no advantages, so that every such method stands on it.
 */
import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { maxOf, minOf } from "../runtime/extremes.ts";
import { byDialect, derived, group, needs, type ResolvedSettings } from "../settings/index.ts";
import { type Ahead, type AheadRun, type AheadSettings, aheadSettings, checkAhead } from "./ahead.ts";
import { type AnyOrder, checkOrder, drawing, type OrderSettings, orderSettings } from "./any-order.ts";
import { type Clock, clocked } from "./clock.ts";
import { earlierRewards } from "./environment/reward.ts";
import { environmentSettings } from "./environment/settings.ts";
import type { Sample } from "./events.ts";
import { checkKl, klSettings } from "./kl-penalty.ts";
import type { RatioLossOptions } from "./losses/ratio.ts";
import { measuredWhileDrawn } from "./measured-while-drawn.ts";
import { type OffPolicySettings, offPolicy } from "./off-policy.ts";
import { allResident, type RoleScope } from "./offload.ts";
import type { AlignmentModels } from "./partners.ts";
import { checkFailures, judged, type RewardFailure, rewardFailureSettings } from "./reward-failures.ts";
import { partMeans, type RewardParts } from "./rewards.ts";
import { type Prompt, type Response, type Sampler, type SamplingOptions, samplesOf, withinLength } from "./sampler.ts";
import {
  checkResponseLength,
  determinism,
  positive,
  rewardMixture,
  rollout,
  sampling,
  samplingParams,
  shortest,
} from "./settings.ts";
import { average, klTerm, type Normalizer, normalize, shapeRewards, updateRunning, whiten } from "./stats.ts";
import { distinctN } from "./text-stats.ts";

/** Who takes part in a rollout. */
export interface RolloutInputs {
  policy: CausalLM;
  /** Draws the responses, which the policy measures. */
  sampler: Sampler;
  /** What the KL divergence is measured to; null measures none. It must not be trained with the policy. */
  reference: CausalLM | null;
  rewards: RewardParts;
  tokenizer: TextTokenizer;
  prompts: readonly Prompt[];
  /** The true reward, where there is one: reported, never trained on. */
  gold?: (response: Response) => number;
  /** Brings models to the GPU for the time that they work. Default: they are there. */
  within?: RoleScope;
  /** Measures what rewards take. Default: nothing does. */
  clock?: Clock;
  /**
   * Hears of the responses with the log-probabilities that ratios are measured from before anything else is made of them; the
   * rollout waits for it.
   */
  sampled?: (responses: readonly Response[], logProbs: readonly Float32Array[]) => Promise<void>;
}

const ppo = group("PPO");

/** How responses are drawn and measured, and how rewards come of them, for methods that learn from each token's reward. */
export const rolloutSettings = {
  numGenerations: rollout.int(1, "Responses per prompt", { min: 1, aka: ["num_return_sequences"] }),
  maxLength: rollout.int(null, "Longest response, or longest prompt and response together: see max_length_of", {
    min: 1,
  }),
  maxLengthOf: rollout.choice(
    ["response", "sequence"],
    byDialect({ paddle: "response", "paddle-late": "sequence", safe: "sequence", trl: "sequence" }),
    "What max_length limits: new tokens, or prompt and response together",
  ),
  responseLength: rollout.int<number>(
    derived(({ maxLength }: { maxLength: number | null }) => maxLength ?? 64, "max_length where it is given, else 64"),
    "Longest response in tokens",
    { min: 1, aka: ["max_new_tokens", "max_dec_len"] },
  ),
  ...shortest,
  ...sampling,
  ...environmentSettings,
  ...determinism,
  ...aheadSettings,
  ...orderSettings,
  missingEosPenalty: rollout.float(0, "Taken off the score of a response that does not end by itself", {
    min: 0,
  }),
  ...rewardMixture,
  ...rewardFailureSettings,
  normalizeReward: ppo.bool(byDialect({ paddle: false, "paddle-late": true }), "Normalise scores"),
  rewardNormalizer: ppo.choice(
    ["model", "running"],
    byDialect({ paddle: "model", "paddle-late": "running", trl: "running" }),
    "Normalise by the statistics of the reward model's training, or of this run",
    { effect: needs("normalizeReward") },
  ),
  clipRangeScore: ppo.float(
    byDialect<number | null>({ paddle: 50, "paddle-late": 10, trl: null }),
    "Clip of the reward",
    positive,
  ),
  clipTarget: ppo.choice(
    ["score", "reward"],
    byDialect({ paddle: "score", safe: "reward" }),
    "What that clips: the score alone, or every token's reward with its KL penalty",
    { effect: needs("clipRangeScore") },
  ),
  scoreSlot: ppo.choice(
    ["last", "after"],
    byDialect({ paddle: "last", trl: "after" }),
    "Where the score goes: to the last token, or to a slot after it whose value the critic learns, too",
  ),
  whitenRewards: ppo.bool(false, "Divide shaped rewards by their deviation over a rollout"),
  ...klSettings,
  tempered: ppo.choice(
    ["never", "rollout", "always"],
    byDialect({ paddle: "never", "paddle-late": "rollout", trl: "always" }),
    "Measure log-probabilities at the sampling temperature: nowhere, in rollouts alone (ratios then do not start at 1), everywhere",
  ),
};

/** The settings of a rollout, resolved. */
export type RolloutSettings = ResolvedSettings<typeof rolloutSettings>;

/** Options of a rollout; methods without a critic leave out the settings that they do not have. */
export type RolloutOptions = Partial<RolloutSettings & OffPolicySettings> &
  Pick<RolloutSettings, "numGenerations" | "responseLength" | "tempered" | "clipRangeScore" | keyof typeof sampling> & {
    seed: number;
    showSamples: number;
    /** What importance weights are of: see `RatioLossOptions.level`. Default "token". */
    ratioLevel?: RatioLossOptions["level"];
  };

/** State that goes from one rollout to the next. */
export interface RolloutState {
  klCoef: number;
  normalizer: Normalizer;
}

/** Responses with what was measured on them; arrays by response, then by response token. */
export interface Rollout {
  responses: Response[];
  /** The weighted sums of the reward functions' numbers. */
  scores: number[];
  /** Each reward function's own numbers, [functions][responses]. */
  parts: number[][];
  /** Under the policy that is trained, before it is. */
  logProbs: Float32Array[];
  /** What the ratios of losses are measured from: the same, or those under the policy that drew. */
  oldLogProbs: Float32Array[];
  /** What advantages are multiplied by, token by token: truncated importance weights; null: nothing. */
  importance: number[][] | null;
  /** Under the reference; without one, the same. */
  refLogProbs: Float32Array[];
  /** Terms of the KL penalty, by the estimator and within the clamp that the settings name. */
  kl: Float32Array[];
  /** What the KL terms count in the rewards: 0 where they are part of the loss. */
  klCoef: number;
  /** Scores as they enter the rewards: less the penalty for responses that were cut off, normalised, not yet clipped. */
  finalScores: number[];
  /** Shaped: the score at the end, minus KL everywhere; one longer than the response where the score has its own slot. */
  rewards: Float64Array[];
  /** Prompts that no reward could judge, whose responses are not among these. */
  failures: RewardFailure[];
  metrics: Record<string, number>;
  samples: Sample[];
}

/**
 * Samples responses to the chosen prompts and measures them.
 * @param chosen places in `inputs.prompts`
 * @param iteration keys the random numbers, together with the seed
 * @param state is brought up to date
 * @param after what was chosen for this iteration before
 */
export async function collectRollout(
  inputs: RolloutInputs,
  chosen: readonly number[],
  iteration: number,
  state: RolloutState,
  options: RolloutOptions,
  after: readonly number[] = [],
): Promise<Rollout> {
  const { policy, reference, within = allResident } = inputs;
  const { importanceSamplingCorrection = "none", importanceSamplingCap = 3, ratioLevel = "token" } = options;
  const correction: OffPolicySettings = { importanceSamplingCorrection, importanceSamplingCap };
  const measured = await within(["policy", "average", "reference"], async () => {
    const models = reference ? [policy, reference] : [policy];
    const { numGenerations } = options;
    const { responses, found } = await measuredWhileDrawn(models, numGenerations, measuredAt(options), (heard) =>
      sampled(inputs, chosen, iteration, options, { heard, after }),
    );
    const [own, other = own] = found;
    const drawn = offPolicy(responses, own.logProbs, iteration, correction, ratioLevel);
    await inputs.sampled?.(responses, drawn.oldLogProbs);
    return { responses, own, refLogProbs: other.logProbs, drawn };
  });
  const { kept, scores, parts, failures } = await clocked(inputs.clock, "reward", () =>
    within(["reward"], () => judged(inputs.rewards, measured.responses, options)),
  );
  const of = <T>(all: readonly T[]): T[] => kept.map((i) => all[i]);
  const { drawn } = measured;
  const responses = of(measured.responses);
  const [logProbs, entropy] = [of(measured.own.logProbs), of(measured.own.entropy)];
  const refLogProbs = of(measured.refLogProbs);
  const { klEstimator = "k1", klPlacement = "reward", clipTarget = "score", scoreSlot = "last" } = options;
  const unlimited = Number.POSITIVE_INFINITY;
  const kl = logProbs.map((l, i) =>
    l.map((lp, t) => klTerm(lp - refLogProbs[i][t], klEstimator, options.klClamp ?? unlimited)),
  );
  const final = enteringScores(scores, responses, state, options);
  const klCoef = klPlacement === "loss" ? 0 : state.klCoef;
  const shaped = kl.map((terms, i) =>
    shapeRewards(terms, final[i], {
      klCoef,
      clipRange: options.clipRangeScore ?? unlimited,
      clipWhat: clipTarget,
      slot: scoreSlot === "after" && terms.length < options.responseLength ? "after" : "last",
      // A score that is normalised is of the whole response.
      earlier: options.normalizeReward ? [] : earlierRewards(responses[i], inputs.rewards),
    }),
  );
  const rewards = options.whitenRewards ? whiten(shaped, { unbiased: true, keepMean: true }) : shaped;
  const truth = inputs.gold ? responses.map((r) => inputs.gold!(r)) : null;
  const lengths = logProbs.map((l) => l.length);
  const texts = responses.map((r) => r.text);
  const klSums = kl.map(total);
  const metrics = {
    reward: average(scores),
    ...partMeans(inputs.rewards.names, parts),
    ...(truth && { gold: average(truth) }),
    ...(reference && {
      kl: average(klSums),
      kl_per_token: sum(klSums) / Math.max(1, sum(lengths)),
      kl_reward: -klCoef * average(klSums),
    }),
    reward_with_kl_penalty: average(shaped.map(total)),
    ...(options.normalizeReward && { norm_reward: average(final) }),
    entropy: average(entropy.map(average)),
    // Of whole responses: minus their log-probability.
    sampled_entropy: -average(logProbs.map(total)),
    mean_length: average(lengths),
    max_length: maxOf(lengths),
    min_length: minOf(lengths),
    num_eos_tokens: responses.filter((r) => r.ended).length,
    eos_rate: average(responses.map((r) => Number(r.ended))),
    distinct_1: distinctN(texts, 1),
    distinct_2: distinctN(texts, 2),
    kl_coef: state.klCoef,
    ...drawn.metrics,
    ...(options.onRewardError === "drop" && { n_unjudged: measured.responses.length - responses.length }),
  };
  const samples = samplesOf(responses, scores, truth, options.showSamples);
  const importance = drawn.importance && of(drawn.importance);
  const given = {
    responses,
    scores,
    parts,
    failures,
    finalScores: final,
    oldLogProbs: of(drawn.oldLogProbs),
    importance,
  };
  return { ...given, logProbs, refLogProbs, kl, klCoef, rewards, metrics, samples };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const total = (values: ArrayLike<number>): number => average(values) * values.length;

/** Throws `UserError` for settings that contradict each other, and for policies that are behind more than they may be. */
export function checkRollout(o: RolloutSettings, name: (key: keyof RolloutSettings) => string): void {
  checkAhead(o, name);
  checkFailures(o, name);
  checkOrder(o, name);
  checkKl(o, name);
  checkResponseLength(o, name, "minNewTokens");
  const { maxLength, maxLengthOf, responseLength } = o;
  if (maxLength === null) return;
  if (maxLengthOf === "response" && maxLength !== responseLength) {
    throw new UserError(
      `${name("maxLength")} ${maxLength} and ${name("responseLength")} ${responseLength} both say how long a response may be: ` +
        `give one of them, or ${name("maxLengthOf")} sequence, which limits prompt and response together`,
    );
  }
  if (maxLengthOf === "sequence" && maxLength < 2) {
    throw new UserError(`${name("maxLength")} ${maxLength} leaves no room for a prompt and a response`);
  }
}

/** The limit of prompt and response together; null where there is none. */
export const togetherAtMost = ({
  maxLength = null,
  maxLengthOf,
}: Partial<Pick<RolloutSettings, "maxLength" | "maxLengthOf">>): number | null =>
  maxLengthOf === "response" ? null : maxLength;

/** The temperature that a rollout measures log-probabilities at. */
export const measuredAt = ({ tempered, temperature }: Pick<RolloutOptions, "tempered" | "temperature">): number =>
  tempered === "never" ? 1 : temperature;

/** The temperature that the log-probabilities of whom draws are needed at; null where nobody needs them. */
export const drawnMeasuredAt = (
  o: Pick<RolloutOptions, "tempered" | "temperature" | "importanceSamplingCorrection">,
) => ((o.importanceSamplingCorrection ?? "none") === "none" ? null : measuredAt(o));

/** How the responses of an iteration are drawn. `iteration` keys the random numbers, together with the seed. */
function drawnAs(options: RolloutOptions, iteration: number): SamplingOptions {
  const { minNewTokens = 0, seed } = options;
  const maxLength = togetherAtMost(options);
  return {
    maxNewTokens: options.responseLength,
    ...(maxLength !== null && { maxLength }),
    ...(minNewTokens && { minNewTokens }),
    samples: options.numGenerations,
    ...samplingParams(options),
    seed,
    iteration,
  };
}

/** Draws a run's rollouts, ahead where the settings say so; `choose` gives an iteration's places in the prompts. */
export function drawsOf(
  models: Pick<AlignmentModels, "sampler" | "source">,
  run: Omit<AheadRun, "measuredAt" | "upcoming"> & {
    prompts: readonly Prompt[];
    choose: (iteration: number) => readonly number[];
  },
  options: RolloutOptions & AheadSettings & OrderSettings,
): Ahead | AnyOrder {
  const { prompts, choose, ...others } = run;
  const upcoming = (iteration: number) => {
    const chosen = choose(iteration);
    return { prompts: chosen.map((i) => prompts[i]), promptIds: chosen, options: drawnAs(options, iteration) };
  };
  return drawing(models, { ...others, measuredAt: drawnMeasuredAt(options), upcoming }, options);
}

/**
 * Responses to the chosen prompts, as the options say.
 * @param more `heard` hears of responses as they come, as `SamplingOptions.onResponses` does; `after` was chosen for the iteration before
 */
export async function sampled(
  { sampler, tokenizer, prompts }: Pick<RolloutInputs, "sampler" | "tokenizer" | "prompts">,
  chosen: readonly number[],
  iteration: number,
  options: RolloutOptions,
  { heard, after = [] }: { heard?: (responses: readonly Response[]) => void; after?: readonly number[] } = {},
): Promise<Response[]> {
  const maxLength = togetherAtMost(options);
  // A server counts new tokens only.
  const within = (responses: readonly Response[]) =>
    maxLength === null ? [...responses] : responses.map((r) => withinLength(r, maxLength, tokenizer));
  const responses = await sampler(
    chosen.map((i) => prompts[i]),
    chosen,
    {
      ...drawnAs(options, iteration),
      ...(after.length > 0 && { after }),
      ...(heard && { onResponses: async (some) => heard(within(some)) }),
    },
  );
  return within(responses);
}

/** Scores as they enter the rewards: without the penalty for responses that were cut off, normalised. */
function enteringScores(
  raw: readonly number[],
  responses: readonly Response[],
  state: RolloutState,
  { missingEosPenalty = 0, normalizeReward, rewardNormalizer = "running" }: RolloutOptions,
): number[] {
  const scores = raw.map((score, i) => (responses[i].ended ? score : score - missingEosPenalty));
  if (!normalizeReward || rewardNormalizer === "model") return scores;
  state.normalizer = updateRunning(state.normalizer, scores);
  return scores.map((s) => normalize(state.normalizer, s));
}
