/**
 * What the methods without a critic share (GRPO, RLOO, REINFORCE++): PPO's rollout, advantages from the rewards alone, and
 * clipped-ratio steps of one policy. A method is its way from rewards to advantages and the form of its loss.
 */
import type { CausalLM } from "../nn/models.ts";
import { AdamW } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { permutation, streamId, uint32 } from "../runtime/rng.ts";
import { live } from "../settings/index.ts";
import { backward, type Tensor } from "../tensor/core.ts";
import { add, scale } from "../tensor/ops/elementwise.ts";
import { sum } from "../tensor/ops/reduce.ts";
import { averagingWeights, type LossAveraging, withoutSpread } from "./advantages.ts";
import { pack, predictions } from "./batch.ts";
import { cachedAs } from "./caching.ts";
import { clipMetrics, lossBound, ratioTerms, spreadMetrics } from "./critic-free-metrics.ts";
import { type CriticFreeSettings, promptsPerRollout } from "./critic-free-settings.ts";
import { dataEvents } from "./data-events.ts";
import { inRounds, seedOf } from "./diloco.ts";
import { EntropyBonus } from "./entropy-bonus.ts";
import { type ActingModels, actingIn } from "./environment/acting.ts";
import { evaluateResponses } from "./evaluate.ts";
import type { TrainEvent } from "./events.ts";
import { inHalf } from "./half.ts";
import { loop, type RunOptions, type TrainerSteps } from "./loop.ts";
import { type RatioLossOptions, ratioLoss, ratiosOf } from "./losses/ratio.ts";
import { responseLogProbs } from "./measure.ts";
import { descend, flat } from "./minibatches.ts";
import { weighted } from "./off-policy.ts";
import { Opened } from "./opened.ts";
import { overlongPenalty } from "./overlong.ts";
import { type Owned, owning } from "./owned.ts";
import { type AlignmentModels, baseOf, copyOf } from "./partners.ts";
import { PromptOrder, stepsOf } from "./prompts.ts";
import { type Drawn, joined, refilled } from "./refill.ts";
import { failureWarnings } from "./reward-failures.ts";
import { judgesOf, rewardParts } from "./rewards.ts";
import { collectRollout, drawnMeasuredAt, drawsOf, type Rollout, type RolloutState } from "./rollout.ts";
import { heldOutPrompts, type PromptData, policySampler, promptsOf, type Response, tokenizerOf } from "./sampler.ts";
import { average, freshNormalizer } from "./stats.ts";
import { adamOf, rateAt } from "./training.ts";
import { peek, watch } from "./watch.ts";

/** The models of a run. */
export interface CriticFreeModels extends AlignmentModels, ActingModels {
  /**
   * The policy as it started; null measures no KL divergence. Default: the base of its adapter, or where `beta` is not 0 a copy,
   * which is freed in the end.
   */
  reference?: CausalLM | null | undefined;
}

/** A method without a critic: its way from rewards to advantages, and the form of its loss. */
export interface CriticFreeMethod {
  stage: string;
  /** The KL penalty is taken off the rewards of the tokens; else it is part of the loss. */
  klInReward: boolean;
  /** Scores are clipped to [-clip, clip] before the KL penalty joins them; null does not clip. */
  clipRangeScore: number | null;
  /** One advantage per response, or one per token of it. */
  advantages(rollout: Drawn): readonly (number | ArrayLike<number>)[];
  /** Leaves groups whose rewards are all the same out of the update. */
  dropGroupsWithoutSpread?: boolean;
  /** Draws of a rollout at most, until as many groups can be learned from as it should have. Default 1. */
  draws?: number;
  loss: RatioLossOptions;
  /** How the terms of the tokens become one loss. */
  averaging: LossAveraging;
}

/** The sum of each response's rewards: the score, less the KL penalty where that is in the reward. */
export const totals = ({ rewards }: Pick<Rollout, "rewards">): number[] =>
  rewards.map((r) => r.reduce((a, b) => a + b, 0));

/** Trains the policy in place. Emits one step event per rollout. */
export const trainCriticFree = (
  models: CriticFreeModels,
  data: PromptData,
  o: CriticFreeSettings,
  run: RunOptions,
  rule: CriticFreeMethod,
): AsyncGenerator<TrainEvent> => owning((owned) => takeRollouts(models, data, live(o), run, rule, owned));

async function* takeRollouts(
  models: CriticFreeModels,
  data: PromptData,
  o: CriticFreeSettings,
  run: RunOptions,
  rule: CriticFreeMethod,
  owned: Owned,
): AsyncGenerator<TrainEvent> {
  const { policy, gold } = models;
  const { numGenerations, responseLength } = o;
  const tokenizer = tokenizerOf(models);
  const room = { context: policy.config.maxPositions, response: responseLength };
  const given = await promptsOf(data, tokenizer, room);
  const { train: prompts } = given;
  const held = heldOutPrompts(given, o);
  const perRollout = promptsPerRollout(o, (key) => key);
  const maxSteps = stepsOf(o, prompts.length, perRollout);
  const { reference: named = baseOf(policy) } = models;
  const copy =
    o.beta !== 0 && models.reference === undefined && !named ? owned.keep(copyOf(policy, "reference")) : null;
  const reference = named ?? copy;
  if (o.beta !== 0 && !reference) {
    throw new UserError(
      `${rule.stage} with a KL penalty needs a reference model: give one, or leave it to the trainer`,
    );
  }
  const ownRewards = rewardParts(models.rewards, tokenizer, o.rewardWeights);
  const parts =
    o.overlongBufferLen === 0
      ? ownRewards
      : {
          names: [...ownRewards.names, "overlong"],
          functions: [
            ...ownRewards.functions,
            overlongPenalty(responseLength, o.overlongBufferLen, o.overlongPenaltyFactor),
          ],
          weights: [...ownRewards.weights, 1],
        };
  owned.keep(inHalf(o.fp16, [policy, reference, ...judgesOf(parts)]));
  owned.keep(cachedAs(o.kvCacheDtype, [policy]));
  policy.gradientCheckpointing = o.gradientCheckpointing;
  for (const model of [policy, reference]) if (model) model.batchInvariant = o.deterministic;
  const optimizer = owned.keep(new AdamW(policy.store, adamOf(o)));
  const form = { clipRangeScore: rule.clipRangeScore, tempered: "always" as const, ratioLevel: rule.loss.level };
  const acting = actingIn(models, parts, { policy, tokenizer }, drawnMeasuredAt({ ...o, ...form }), o);
  const sampler = acting?.sampler ?? policySampler(policy, tokenizer);
  const inputs = { policy, sampler, reference, rewards: parts, tokenizer, prompts, ...(gold && { gold }) };
  const state: RolloutState = { klCoef: o.beta, normalizer: freshNormalizer() };
  const klPlacement = rule.klInReward ? ("reward" as const) : ("loss" as const);
  const seed = seedOf(o.seed, run.learners);
  const options = { ...o, seed, klPlacement, ...form };
  const order = new PromptOrder(prompts.length, seed);
  const choose = (step: number) => order.take(step * perRollout, perRollout);
  const ahead = drawsOf(acting ?? models, { policy, tokenizer, prompts, maxSteps, choose }, options);
  const bonus = new EntropyBonus(o);
  const { draws = 1 } = rule;
  const others = new PromptOrder(prompts.length, uint32(seed, streamId("refill")));
  const steps: TrainerSteps<{ found: Rollout; all: Drawn; opened: Opened | null }> = {
    stage: rule.stage,
    maxSteps,
    parameters: policy.store.count,
    kept: { "": { model: policy, optimizer } },
    state: ahead.state(bonus),
    adjust(key, value) {
      if (key !== "beta") return null;
      if (!reference)
        throw new UserError("beta was 0 at the start, so that there is no reference to measure the KL against");
      state.klCoef = value;
      return null;
    },
    data: dataEvents(prompts, held),
    epoch: (done) => (done * perRollout) / prompts.length,
    async prepare(step, tell, clock) {
      const opened = Opened.of(o, step + 1, tokenizer, tell);
      const from = { ...inputs, clock, sampler: ahead.sampler, ...opened?.hears };
      const chosen = choose(step);
      const found = await collectRollout(from, chosen, step, state, options);
      await acting?.tell(tell, step + 1);
      await opened?.scored(found, reference !== null);
      const drawn = await refilled(found, chosen, {
        size: numGenerations,
        draws,
        order: others,
        step,
        draw: (more, after) =>
          collectRollout({ ...inputs, clock, sampler: ahead.sampler }, more, step, state, options, after),
      });
      const all = drawn.length === 1 ? found : joined(drawn, numGenerations);
      return { found, all, opened };
    },
    async step(step, { found, all, opened }) {
      const everyone = lessonsOf(all, rule);
      await opened?.estimated(found.rewards, everyone.slice(0, found.responses.length));
      const planned = perRollout * numGenerations;
      const lessons = withoutIdle(everyone, all, o, rule).slice(0, planned);
      const idle = reasonToIdle(all, lessons, o, rule);
      const place = { step, planned, maxSteps };
      const learned = await learn(policy, optimizer, lessons, place, { opened, bonus }, o, rule);
      return {
        metrics: {
          ...found.metrics,
          ...ahead.metrics(),
          ...spreadMetrics(found, numGenerations),
          ...learned,
          n_dropped: everyone.length - lessons.length,
          ...(draws > 1 && { n_redrawn: everyone.length - found.responses.length }),
        },
        tokens: all.responses.reduce((n, r) => n + r.ids.length, 0),
        samples: found.samples,
        idle,
        events: [...failureWarnings(step + 1, all.failures), ...(opened ? [opened.event] : [])],
      };
    },
    finite: ["loss"],
    ...(held.length > 0 && {
      evaluate: (done: number) => evaluateResponses({ ...inputs, prompts: held }, done, options, run.folder),
      evaluateFirst: true,
    }),
    finished: () => ({ "": policy }),
    close: () => ahead.close(),
  };
  yield* loop(inRounds(steps, policy.store, o, run), o, run);
}

/** One response with everything the update needs; arrays by response token. */
interface Lesson {
  response: Response;
  /** What ratios are measured from. */
  logProbs: Float32Array;
  refLogProbs: Float32Array;
  advantages: ArrayLike<number>;
}

/** The advantages of a rollout's responses. */
function lessonsOf(found: Drawn, rule: CriticFreeMethod): Lesson[] {
  const { responses, oldLogProbs, refLogProbs, importance } = found;
  const estimates = rule.advantages(found);
  return responses.map((response, i) => {
    const own = estimates[i];
    const logProbs = oldLogProbs[i];
    const perToken = typeof own === "number" ? new Float64Array(logProbs.length).fill(own) : own;
    return { response, logProbs, refLogProbs: refLogProbs[i], advantages: weighted(perToken, importance?.[i]) };
  });
}

/** What is learned of a rollout. */
function withoutIdle(
  lessons: readonly Lesson[],
  { scores }: Drawn,
  { numGenerations, maskTruncatedCompletions }: CriticFreeSettings,
  { dropGroupsWithoutSpread }: CriticFreeMethod,
): Lesson[] {
  const same = withoutSpread(scores, numGenerations);
  return lessons.filter(
    ({ response }, i) =>
      !(maskTruncatedCompletions && !response.ended) &&
      !(dropGroupsWithoutSpread && same[Math.floor(i / numGenerations)]),
  );
}

/** Why a rollout teaches nothing; undefined where it does. */
function reasonToIdle(
  { scores }: Drawn,
  lessons: readonly Lesson[],
  { numGenerations, beta, entropyCoef, useAdaptiveEntropy }: CriticFreeSettings,
  { klInReward }: CriticFreeMethod,
): string | undefined {
  const alike = withoutSpread(scores, numGenerations).filter(Boolean).length;
  const groups = scores.length / numGenerations;
  const same = alike === groups && numGenerations > 1 && `within each of the ${groups} groups all rewards are the same`;
  if (lessons.length === 0)
    return same || `all ${scores.length} responses are left out, as they did not end or their rewards are all the same`;
  if (lessons.some(({ advantages }) => Array.from(advantages).some((a) => a !== 0))) return undefined;
  if (!klInReward && beta !== 0) return undefined; // the penalty is in the loss
  if (entropyCoef !== 0 || useAdaptiveEntropy) return undefined; // and so is the bonus
  return same || "all advantages are 0";
}

/** What a pass leaves to be read; the last two where there is an entropy bonus. */
type Left = "loss" | "logProbs" | "policyLoss" | "entropy";

/** Takes the optimizer steps on one rollout. Returns their metrics: none where there is nothing to learn. */
async function learn(
  policy: CausalLM,
  optimizer: AdamW,
  lessons: readonly Lesson[],
  { step, planned, maxSteps }: { step: number; planned: number; maxSteps: number },
  { opened, bonus }: { opened: Opened | null; bonus: EntropyBonus },
  o: CriticFreeSettings,
  rule: CriticFreeMethod,
): Promise<Record<string, number>> {
  if (lessons.length === 0) return {};
  const { perDeviceTrainBatchSize: batch, numIterations: epochs } = o;
  const perStep = batch * o.gradientAccumulationSteps;
  // Of a whole rollout, so that what is left out of one does not change the learning rate.
  const stepsPerEpoch = Math.ceil(planned / perStep);
  const order = [...permutation(lessons.length, o.seed, step + 1)].map((i) => lessons[i]);
  const windows = Math.ceil(order.length / perStep);
  const rolloutTokens = order.reduce((n, lesson) => n + lesson.logProbs.length, 0);
  const context = { windows, maxLength: o.responseLength, rolloutTokens };
  const weights = new Map<readonly Lesson[], Float32Array>();
  const steps = Array.from({ length: epochs * windows }, (_, i) => {
    const window = i % windows;
    const chosen = order.slice(window * perStep, (window + 1) * perStep);
    const parts: Lesson[][] = [];
    for (let at = 0; at < chosen.length; at += batch) parts.push(chosen.slice(at, at + batch));
    const lengths = parts.map((part) => part.map((lesson) => lesson.logProbs.length));
    for (const [k, own] of averagingWeights(lengths, rule.averaging, context).entries()) weights.set(parts[k], own);
    const taken = (step * epochs + Math.floor(i / windows)) * stepsPerEpoch + window;
    const total = maxSteps * epochs * stepsPerEpoch;
    return { parts, taken, total };
  });
  const tokensOf = (some: readonly (readonly Lesson[])[]) => some.flat().reduce((n, l) => n + l.logProbs.length, 0);
  const stepTokens = new Map(steps.flatMap(({ parts }) => parts.map((part) => [part, tokensOf(parts)] as const)));
  const { read, parts, loss, control, rate } = await descend(optimizer, steps, {
    share: () => 1, // its weights make the sum of the passes the average
    pass: (part) => {
      const seed = optimizer.lossSeed();
      const entropy = bonus.on ? bonus.applied / (stepTokens.get(part) as number) : null;
      return lessonPass(
        policy,
        part,
        { weights: weights.get(part) as Float32Array, entropy },
        seed,
        o.temperature,
        rule.loss,
      );
    },
    ...(bonus.adapts && {
      settle: async (passes, { parts }) => {
        const sums = await Promise.all(passes.map((pass) => peek(pass, "entropy")));
        bonus.took(sums.reduce((total, [[own]]) => total + own, 0) / tokensOf(parts));
      },
    }),
    rate: ({ total, taken }) => rateAt(o, total, taken),
    taken: await opened?.policyUpdates({
      logProbs: async (shown) => (await responseLogProbs(policy, shown, o.temperature)).logProbs,
      ratios: (changes) => ratiosOf(changes, rule.loss),
      clipped: lossBound(rule.loss),
    }),
  });
  const terms = read.flatMap((numbers, i) => ratioTerms(numbers, parts[i], rule.loss));
  return {
    loss,
    ...(bonus.on && {
      policy_loss: read.reduce((total, { policyLoss }) => total + policyLoss[0], 0) / steps.length,
      entropy_coef: bonus.coef,
    }),
    ratio: average(terms.map((t) => t.ratio)),
    ...clipMetrics(terms, rule.loss),
    grad_norm: control.gradNorm,
    skipped_steps: control.skipped,
    ...(control.lossScale !== null && { loss_scale: control.lossScale }),
    learning_rate: rate,
  };
}

/**
 * The loss and its gradient, times `seed`, on a few responses.
 * @param counts `weights` turn its sum into the method's average; `entropy` is what each token's entropy counts, null where there is
 * no bonus
 */
function lessonPass(
  policy: CausalLM,
  part: readonly Lesson[],
  { weights, entropy: bonus }: { weights: Float32Array; entropy: number | null },
  seed: number | Tensor,
  temperature: number,
  options: RatioLossOptions,
) {
  const sequences = part.map((lesson) => lesson.response);
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets, lengths } = predictions(sequences, starts);
  const { logProbs, entropy: entropies } = policy.logProbs(ids, packing, rows, targets, temperature);
  const inputs = {
    oldLogProbs: flat(part, (l) => l.logProbs),
    refLogProbs: flat(part, (l) => l.refLogProbs),
    advantages: flat(part, (l) => l.advantages),
    weights,
    lengths,
  };
  const policyLoss = ratioLoss(logProbs, inputs, options);
  const entropy = bonus === null ? null : sum(entropies);
  const loss = entropy && bonus !== 0 ? add(policyLoss, scale(entropy, -(bonus as number))) : policyLoss;
  const watched = watch<Left>({ loss, logProbs, ...(entropy && { policyLoss, entropy }) } as Record<Left, Tensor>);
  backward(loss, seed);
  return watched;
}
