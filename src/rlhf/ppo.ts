/**
 * Proximal policy optimisation from rewards (Schulman et al. 2017; for language models Ouyang et al. 2022), with four
 * models: the policy is trained, the reference is the policy as it started, the reward scores whole responses, and the
 * critic (mostly a second copy of the reward model, score head included) predicts what is still to come at every token.
 *
 * One iteration: sample responses; measure log-probabilities, reference log-probabilities, scores and values; shape
 * per-token rewards (score at the end, minus KL everywhere); estimate advantages; take optimizer steps on the clipped
 * losses, and on a supervised loss beside them where there are sequences to remember (ptx).
 *
 * The public implementations differ in details that change results: `dialect` picks the defaults of one of them, PaddleNLP
 * as it was released ("paddle") or later ("paddle-late"), safe-rlhf since December 2023 ("safe"), or TRL, in 1.12, its last
 * version with PPO ("trl"). What was left out: training the critic alone before the policy.
 */
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import { AdamW } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { all, byDialect, dialectIn, group, live, needs, type SettingsInput, settings } from "../settings/index.ts";
import { backward, type Tensor, tensor } from "../tensor/core.ts";
import { add, scale } from "../tensor/ops/elementwise.ts";
import { lerpInto } from "../tensor/ops/lerp.ts";
import { type Experience, gaeExperience } from "./advantages.ts";
import { pack, predictedTokens, predictions, type Sequence } from "./batch.ts";
import { cachedAs } from "./caching.ts";
import type { Trainee } from "./checkpoint.ts";
import { dataEvents } from "./data-events.ts";
import { actingIn } from "./environment/acting.ts";
import { evaluateResponses } from "./evaluate.ts";
import type { TrainEvent } from "./events.ts";
import { inHalf } from "./half.ts";
import { replaceKlCoef } from "./kl-penalty.ts";
import { loop, type RunOptions } from "./loop.ts";
import { policyLoss, valueLoss } from "./losses/clipped.ts";
import { entropyLoss, klLoss } from "./losses/penalties.ts";
import { responseLogProbs, responseValues, valueRows } from "./measure.ts";
import { descend, flat, type Minibatch, minibatches, minibatchSettings, rateOf } from "./minibatches.ts";
import { offPolicySettings } from "./off-policy.ts";
import { levelsOf, Offload, offloadSettings } from "./offload.ts";
import { Opened } from "./opened.ts";
import { type Owned, owning } from "./owned.ts";
import { baseOf, copyOf, criticOf } from "./partners.ts";
import { objectiveBound, policyMetrics, valueMetrics, withPublishedNames } from "./ppo-metrics.ts";
import type { PpoData, PpoModels } from "./ppo-models.ts";
import { PromptOrder, stepsOf } from "./prompts.ts";
import { failureWarnings } from "./reward-failures.ts";
import { judgesOf, residentsOf, rewardParts } from "./rewards.ts";
import {
  checkRollout,
  collectRollout,
  drawnMeasuredAt,
  drawsOf,
  type Rollout,
  type RolloutState,
  rolloutSettings,
  togetherAtMost,
} from "./rollout.ts";
import { heldOutPrompts, policySampler, promptsOf, tokenizerOf } from "./sampler.ts";
import * as shared from "./settings.ts";
import { nllPass } from "./sft.ts";
import { adaptKlCoef, average, freshNormalizer, tokenWeights } from "./stats.ts";
import { adamOf } from "./training.ts";
import { watch } from "./watch.ts";

const own = group("PPO");
const { positive, probability, rollout } = shared;
const count = { min: 1 };

/** PPO's settings. Those that the dialects disagree on have a default for each. */
export const ppo = settings(
  "ppo",
  {
    dialect: own.choice(
      ["paddle", "paddle-late", "safe", "trl"],
      "paddle",
      "Conventions of PaddleNLP (first or late versions), safe-rlhf or TRL 1.12 where they differ",
    ),
    numTrainEpochs: rollout.float(null, "Passes over the prompts, where max_steps is not set", positive),
    maxSteps: rollout.int(null, "Rollouts, each of which is one step; default: as num_train_epochs says, or 50", count),
    rolloutBatchSize: rollout.int(64, "Prompts in one rollout", { ...count, aka: ["per_device_prompt_batch_size"] }),
    ...rolloutSettings,
    ...shared.caching,
    gamma: own.float(1, "Discount", probability),
    lam: own.float(0.95, "Lambda of GAE", probability),
    whitenAdvantages: own.bool(
      byDialect({ paddle: false, "paddle-late": true, trl: true }),
      "Normalise advantages over a rollout",
      { aka: ["normalize_advantage"] },
    ),
    ...minibatchSettings,
    lossAverage: own.choice(
      ["token", "sequence"],
      byDialect({ paddle: "token", safe: "sequence" }),
      "Losses average over all tokens, or over sequences of token averages",
    ),
    clipRange: own.float(0.2, "Clip of the probability ratio", { ...positive, aka: ["cliprange", "clip_range_ratio"] }),
    clipRangeHigh: own.float(null, "Clip above 1, where it differs", { ...positive, aka: ["cliprange_high"] }),
    dualClip: own.float(null, "Bound of the loss where the advantage is negative, above 1; default: none", {
      min: 1,
      exclusiveMin: true,
    }),
    clipRangeValue: own.float(byDialect({ paddle: 5, trl: 0.2 }), "Clip of the value's change", {
      ...positive,
      aka: ["cliprange_value"],
    }),
    vfCoef: own.float(
      byDialect({ paddle: 1, trl: 0.1 }),
      "Multiplies the critic's loss before its gradient is clipped",
      { min: 0 },
    ),
    entropyCoef: own.float(0, "Weight of an entropy bonus", { min: 0, aka: ["entropy_coeff"] }),
    ptxCoef: own.float(16, "Weight of the supervised loss beside PPO's", {
      min: 0,
      aka: ["ptx_coeff"],
      effect: needs("ptxDatasetName"),
    }),
    ptxCombination: own.choice(
      ["average", "sum"],
      "average",
      "Learn half of each gradient as PaddleNLP and safe-rlhf do, or all of both",
      { effect: all(needs("ptxDatasetName"), needs("ptxCoef")) },
    ),
    emaBeta: own.float(null, "Keep a moving average of the policy, in ema/ (0.992 is usual); default: none", {
      min: 0,
      max: 0.999999,
    }),
    emaGeneration: own.bool(true, "Sample from the moving average, as PaddleNLP does", {
      effect: needs("emaBeta"),
    }),
    ...offPolicySettings,
    ...shared.optimiser(1e-5, "constant", 16, {
      beta2: byDialect({ paddle: 0.95, trl: 0.999 }),
      maxGradNorm: byDialect({ paddle: 1, trl: 0 }),
    }),
    ...shared.scheduleEnd,
    ...shared.half,
    ...shared.criticOptimiser,
    ...offloadSettings,
    ...shared.shown,
    ...shared.opened,
    ...shared.rolloutEvaluation,
    ...shared.common,
  },
  (o, name) => {
    checkRollout(o, name);
    levelsOf(o);
  },
);

/** PPO's settings, resolved. */
export type PpoSettings = ReturnType<typeof ppo>;

/**
 * Trains the policy and the critic in place. Emits one step event per rollout. The run's folder holds the finished policy,
 * once more as `policy/` (PaddleNLP's name for it), the critic as `value/` and a moving average as `ema/`.
 * @throws UserError for settings or data under which nothing would be learned, and for losses that are not finite
 */
export const trainPpo = (
  models: PpoModels,
  data: PpoData,
  chosen: SettingsInput<typeof ppo.table> | PpoSettings,
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> => owning((owned) => takeRollouts(models, data, chosen, run, owned));

async function* takeRollouts(
  models: PpoModels,
  data: PpoData,
  chosen: SettingsInput<typeof ppo.table> | PpoSettings,
  run: RunOptions,
  owned: Owned,
): AsyncGenerator<TrainEvent> {
  const o = live(ppo(chosen as SettingsInput<typeof ppo.table>));
  const { policy, rewards, gold } = models;
  const tokenizer = tokenizerOf(models);
  const room = { context: policy.config.maxPositions, response: o.responseLength, together: togetherAtMost(o) };
  const prompts = await promptsOf(data, tokenizer, room);
  const { ptx, ptxEval } = data as PpoData;
  if (ptx && !ptx.some((sequence) => predictedTokens(sequence) > 0)) {
    throw new UserError("the ptx dataset has no token to learn: leave it out, or give prompts with completions");
  }
  const heldOut = heldOutPrompts(prompts, o);
  const reference = models.reference ?? baseOf(policy) ?? owned.keep(copyOf(policy, "reference"));
  const critic = models.critic ?? owned.keep(criticOf(policy, o.seed));
  const follower = o.emaBeta === null ? null : (models.average ?? owned.keep(copyOf(policy, "moving average")));
  critic.gradientCheckpointing = shared.ofCritic(o).gradientCheckpointing;
  policy.gradientCheckpointing = o.gradientCheckpointing;
  for (const model of [policy, reference, follower, critic]) if (model) model.batchInvariant = o.deterministic;

  const parts = rewardParts(rewards, tokenizer, o.rewardWeights);
  owned.keep(inHalf(o.fp16, [policy, critic, reference, follower, ...judgesOf(parts)]));
  owned.keep(cachedAs(o.kvCacheDtype, [policy, follower]));
  const offload = new Offload(levelsOf(o));
  const { within } = offload;
  await offload.add("reference", residentsOf(reference));
  await offload.add(
    "reward",
    parts.functions.flatMap((f) => f.residents ?? []),
  );
  if (follower) await offload.add("average", residentsOf(follower));
  await offload.add("critic", residentsOf(critic));
  await offload.add("policy", residentsOf(policy));
  const trainee = async (role: "policy" | "critic", model: CausalLM | ScoreModel, set: shared.OptimiserSettings) => {
    const optimizer = await within([role], async () => owned.keep(new AdamW(model.store, adamOf(set))));
    await offload.add(`${role} optimizer`, [optimizer.resident]);
    return { model, optimizer };
  };
  const actor = await trainee("policy", policy, o);
  const value = await trainee("critic", critic, shared.ofCritic(o));

  const dialect = dialectIn(o);
  const order = new PromptOrder(prompts.train.length, o.seed);
  const remembered = o.ptxCoef === 0 ? [] : (ptx ?? []).filter((s) => predictedTokens(s) > 0);
  const ptxOrder = new PromptOrder(remembered.length, o.seed);
  const maxSteps = stepsOf(o, prompts.train.length, o.rolloutBatchSize);
  const state: RolloutState = { klCoef: o.klCoef, normalizer: freshNormalizer() };
  const choose = (step: number) => order.take(step * o.rolloutBatchSize, o.rolloutBatchSize);
  const who = { policy: follower && o.emaGeneration ? follower : policy, tokenizer };
  const acting = actingIn(models, parts, who, drawnMeasuredAt(o), o);
  const ahead = drawsOf(acting ?? models, { ...who, prompts: prompts.train, maxSteps, choose }, o);
  const measured = { policy, reference, rewards: parts, tokenizer, gold, within };

  yield* loop(
    {
      stage: "ppo",
      maxSteps,
      parameters: policy.store.count + critic.store.count,
      kept: { policy: actor, value, ...(follower && { ema: { model: follower } }) },
      state: ahead.state({ save: () => ({ ...state }), load: (saved) => void Object.assign(state, saved) }),
      adjust: (key, value) => (key === "klCoef" ? replaceKlCoef(state, value) : null),
      data: dataEvents(prompts.train, heldOut),
      epoch: (done) => (done * o.rolloutBatchSize) / prompts.train.length,
      async prepare(step, tell, clock) {
        const opened = Opened.of(o, step + 1, tokenizer, tell);
        const inputs = { ...measured, clock, sampler: ahead.sampler, prompts: prompts.train, ...opened?.hears };
        const rollout = await collectRollout(inputs, choose(step), step, state, o);
        await acting?.tell(tell, step + 1);
        await opened?.scored(rollout, true);
        return { rollout, opened };
      },
      async step(step, { rollout, opened }: { rollout: Rollout; opened: Opened | null }, _tell, clock) {
        const slots = rollout.rewards.map((r) => r.length);
        const values = await clock.during("values", () =>
          within(["critic"], () => responseValues(critic, rollout.responses, slots)),
        );
        const { experience, metrics: estimated } = gaeExperience(rollout, values, o);
        const planned = o.rolloutBatchSize * o.numGenerations;
        const n = remembered.length > 0 ? planned : 0;
        const beside = ptxOrder.take(step * n, n).map((i) => remembered[i]);
        await opened?.estimated(rollout.rewards, experience);
        const context = { ptx: beside, follower, klCoef: state.klCoef, opened };
        const steps = minibatches(experience, { rollout: step, maxSteps, planned }, o);
        const working = ["policy", "average", "policy optimizer"] as const;
        const learned = await within(working, () => updatePolicy(actor, steps, context, o));
        const valued = await within(["critic", "critic optimizer"], () => updateValue(value, steps, opened, o));
        if (o.targetKl !== null) {
          state.klCoef = adaptKlCoef(state.klCoef, rollout.metrics.kl, o.targetKl, experience.length, o.klHorizon);
        }
        const skipped = learned.skipped_steps + valued.skipped_steps;
        const metrics = {
          ...rollout.metrics,
          ...ahead.metrics(),
          ...estimated,
          ...learned,
          ...valued,
          skipped_steps: skipped,
        };
        return {
          metrics: withPublishedNames(metrics, dialect),
          tokens: experience.reduce((total, e) => total + e.response.ids.length, 0),
          samples: rollout.samples,
          events: [...failureWarnings(step + 1, rollout.failures), ...(opened ? [opened.event] : [])],
        };
      },
      finite: ["actor_loss", "critic_loss", "kl"],
      ...(heldOut.length > 0 && {
        evaluate: async (done: number) => {
          const sampler = actingIn(models, parts, measured, null, o)?.sampler ?? policySampler(policy, tokenizer);
          const held = { ...measured, sampler, prompts: heldOut, remembered: ptxEval };
          const { metrics, rows } = await evaluateResponses(held, done, o, run.folder);
          return { metrics: withPublishedNames(metrics, dialect), rows };
        },
        evaluateFirst: true,
      }),
      finished: () => ({ "": policy, policy, value: critic, ...(follower && { ema: follower }) }),
      around: {
        checkpoint: (work) => within(["policy", "average", "critic", "policy optimizer", "critic optimizer"], work),
        models: (work) => within(["policy", "average", "critic"], work),
      },
      close: () => ahead.close(),
    },
    o,
    run,
  );
}

/** What updates divide logits by. */
const temperatureOf = (o: PpoSettings): number => (o.tempered === "always" ? o.temperature : 1);

/** The policy's loss and gradient on a few responses, times what the pass counts for in its optimizer step and a loss scale. */
export function policyPass(
  policy: CausalLM,
  part: readonly Experience[],
  seed: number | Tensor,
  klCoef: number,
  o: PpoSettings,
) {
  const sequences = part.map((e) => e.response);
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets, lengths } = predictions(sequences, starts);
  const weights = tensor(tokenWeights(lengths, o.lossAverage));
  const oldLogProbs = tensor(flat(part, (e) => e.logProbs));
  const advantages = tensor(flat(part, (e) => e.advantages));
  const { logProbs, entropy } = policy.logProbs(ids, packing, rows, targets, temperatureOf(o));
  let loss = policyLoss(logProbs, { oldLogProbs, advantages, weights }, o);
  if (o.klPlacement === "loss" && klCoef !== 0) {
    const refLogProbs = tensor(flat(part, (e) => e.refLogProbs));
    loss = add(loss, scale(klLoss(logProbs, { refLogProbs, weights }, o.klEstimator, o.klClamp ?? undefined), klCoef));
  }
  if (o.entropyCoef !== 0) loss = add(loss, scale(entropyLoss(entropy, weights), o.entropyCoef));
  const watched = watch({ loss, logProbs, entropy });
  backward(loss, seed);
  return watched;
}

/** The critic's loss and gradient on a few responses; `seed` multiplies the gradient. */
export function valuePass(critic: ScoreModel, part: readonly Experience[], seed: number | Tensor, o: PpoSettings) {
  const sequences = part.map((e) => e.response);
  const { ids, packing, starts } = pack(sequences);
  const slots = part.map((e) => e.values.length);
  const values = critic.scores(ids, packing, valueRows(sequences, starts, slots));
  const constants = {
    oldValues: tensor(flat(part, (e) => e.values)),
    returns: tensor(flat(part, (e) => e.returns)),
    weights: tensor(tokenWeights(slots, o.lossAverage)),
  };
  const loss = valueLoss(values, constants, o.clipRangeValue);
  const watched = watch({ loss, values });
  backward(loss, seed);
  return watched;
}

/** Takes the policy's optimizer steps on one rollout, and on as many sequences to remember; a moving average follows. */
export async function updatePolicy(
  { model, optimizer }: Trainee,
  steps: readonly Minibatch<Experience>[],
  context: { ptx: readonly Sequence[]; follower: CausalLM | null; klCoef: number; opened?: Opened | null },
  o: PpoSettings,
): Promise<Record<string, number>> {
  const policy = model as CausalLM;
  const { ptx, follower, klCoef, opened } = context;
  const taken = await opened?.policyUpdates({
    logProbs: async (shown) => (await responseLogProbs(policy, shown, temperatureOf(o))).logProbs,
    clipped: objectiveBound(o),
  });
  const half = ptx.length > 0 && o.ptxCombination === "average" ? 0.5 : 1;
  const seed = (factor: number) => optimizer.lossSeed(factor * half);
  const { read, parts, loss, beside, control, rate } = await descend(optimizer, steps, {
    pass: (part, share) => policyPass(policy, part, seed(share), klCoef, o),
    rate: (step) => rateOf(o, step, o.lrSchedulerUnit),
    ...(ptx.length > 0 && {
      beside: ({ parts, firsts }, i, share) =>
        nllPass(policy, ptx.slice(firsts[i], firsts[i] + parts[i].length), seed(o.ptxCoef * share)),
    }),
    after: () => follower && lerpInto(follower.store, policy.store, 1 - (o.emaBeta as number)),
    taken,
  });
  return {
    actor_loss: loss,
    ...policyMetrics(read, parts, o),
    ...(beside.length > 0 && { ptx_loss: average(beside.map(({ loss }) => loss[0])) }),
    actor_grad_norm: control.gradNorm,
    skipped_steps: control.skipped,
    ...(control.lossScale !== null && { loss_scale: control.lossScale }),
    learning_rate: rate,
  };
}

/** Takes the critic's optimizer steps on one rollout. */
export async function updateValue(
  { model, optimizer }: Trainee,
  steps: readonly Minibatch<Experience>[],
  opened: Opened | null,
  o: PpoSettings,
): Promise<Record<string, number>> {
  const critic = model as ScoreModel;
  const { read, parts, loss, control, rate } = await descend(optimizer, steps, {
    pass: (part, share) => valuePass(critic, part, optimizer.lossSeed(share * o.vfCoef), o),
    rate: (step) => rateOf(shared.ofCritic(o), step, o.lrSchedulerUnit),
    taken: await opened?.valueUpdates({
      values: (shown, slots) => responseValues(critic, shown, slots),
      clipRange: o.clipRangeValue,
    }),
  });
  return {
    critic_loss: loss,
    ...valueMetrics(read, parts, o.clipRangeValue),
    critic_grad_norm: control.gradNorm,
    skipped_steps: control.skipped,
    ...(control.lossScale !== null && { critic_loss_scale: control.lossScale }),
    critic_learning_rate: rate,
  };
}
