/** The settings that GRPO, RLOO and REINFORCE++ share; names and defaults are those of TRL's trainers. */

import { UserError } from "../runtime/errors.ts";
import { type DerivedDefault, group, needs, type ResolvedSettings } from "../settings/index.ts";
import { aheadSettings, checkAhead } from "./ahead.ts";
import { checkOrder, orderSettings } from "./any-order.ts";
import { learnerSettings } from "./diloco.ts";
import { checkEntropy, entropySettings } from "./entropy-bonus.ts";
import { environmentSettings } from "./environment/settings.ts";
import { offPolicySettings } from "./off-policy.ts";
import { checkFailures, rewardFailureSettings } from "./reward-failures.ts";
import * as shared from "./settings.ts";

const { positive, rollout } = shared;
/** Heading of the settings of these methods. */
export const method = group("Method");

/** How many responses a rollout has. */
export const rolloutSize = {
  generationBatchSize: rollout.int(
    null,
    "Responses in one rollout, all prompts together; default: per_device_train_batch_size times steps_per_generation",
    { min: 1 },
  ),
  stepsPerGeneration: rollout.int(null, "Passes that one rollout gives; default: gradient_accumulation_steps", {
    min: 1,
  }),
};

/** The settings of all three methods; names and defaults are those of TRL's trainers. */
export const criticFreeSettings = (
  numGenerations: number,
  beta: number,
  betas: { beta1?: number | DerivedDefault<number>; beta2?: number | DerivedDefault<number> } = {},
) => ({
  numTrainEpochs: rollout.float(null, "Passes over the prompts, where max_steps is not set", positive),
  maxSteps: rollout.int(null, "Rollouts, each of which is one step; default: as num_train_epochs says, or 50", {
    min: 1,
  }),
  numGenerations: rollout.int(numGenerations, "Responses per prompt", {
    min: 1,
    aka: ["num_return_sequences", "n_samples_per_prompt"],
  }),
  responseLength: rollout.int(64, "Longest response in tokens", {
    min: 1,
    aka: ["max_completion_length", "max_new_tokens"],
  }),
  ...shared.shortest,
  ...shared.sampling,
  ...environmentSettings,
  ...shared.determinism,
  ...shared.caching,
  ...aheadSettings,
  ...orderSettings,
  ...offPolicySettings,
  ...shared.rewardMixture,
  ...rewardFailureSettings,
  overlongBufferLen: method.int(0, "Responses are penalised from this many tokens before the longest length on", {
    min: 0,
  }),
  overlongPenaltyFactor: method.float(1, "The penalty at the longest length", {
    min: 0,
    effect: needs("overlongBufferLen"),
  }),
  beta: method.float(beta, "Weight of the KL penalty against the start; 0 needs no reference", {
    min: 0,
    aka: ["kl_coef", "init_kl_coef"],
    live: true,
  }),
  numIterations: method.int(1, "Passes over each rollout", { min: 1, aka: ["num_ppo_epochs"] }),
  epsilon: method.float(0.2, "Clip of the probability ratio", { ...positive, aka: ["cliprange", "eps_clip"] }),
  epsilonHigh: method.float(null, "Clip of the ratio upwards; default: epsilon. DAPO takes 0.28", positive),
  maskTruncatedCompletions: method.bool(
    false,
    "Leave responses that do not end by themselves out of the update (DAPO's overlong filtering)",
  ),
  ...entropySettings,
  ...shared.optimiser(1e-6, "linear", 8, betas),
  ...shared.scheduleEnd,
  ...shared.half,
  ...shared.shown,
  ...shared.opened,
  ...shared.rolloutEvaluation,
  ...learnerSettings,
  ...shared.common,
});

/** The clip of rewards, for methods that have one. */
export const clipRewards = (clip: number | null) => ({
  rewardClipRange: method.float<number | null>(clip, "Clip rewards to plus or minus this; null does not clip", {
    ...positive,
    aka: ["clip_range_score"],
  }),
});

/** The settings of all three methods, resolved. */
export type CriticFreeSettings = ResolvedSettings<ReturnType<typeof criticFreeSettings>> &
  Partial<ResolvedSettings<typeof rolloutSize>>;

/** Throws `UserError` where the sizes of a rollout contradict each other; gives the prompts of one. */
export function promptsPerRollout(o: CriticFreeSettings, name: (key: never) => string): number {
  const spell = name as unknown as (key: string) => string;
  const { generationBatchSize: whole = null, stepsPerGeneration: steps = null, numGenerations } = o;
  if (whole !== null && steps !== null) {
    throw new UserError(
      `${spell("generationBatchSize")} and ${spell("stepsPerGeneration")} mean the same: give one of them`,
    );
  }
  const responses = whole ?? o.perDeviceTrainBatchSize * (steps ?? o.gradientAccumulationSteps);
  if (responses % numGenerations === 0) return responses / numGenerations;
  const what =
    whole === null
      ? `${spell("perDeviceTrainBatchSize")} times ${spell("stepsPerGeneration")}`
      : spell("generationBatchSize");
  throw new UserError(
    `${what} is ${responses}, which is no multiple of ${spell("numGenerations")} = ${numGenerations}: change one of them`,
  );
}

/** Throws `UserError` for settings that contradict each other in any of these methods. */
export function checkCriticFree(o: CriticFreeSettings, name: (key: never) => string): void {
  checkAhead(o, name as unknown as (key: string) => string);
  checkFailures(o, name as unknown as (key: string) => string);
  checkOrder(o, name as unknown as (key: string) => string);
  checkEntropy(o, name as unknown as (key: string) => string);
  shared.checkResponseLength(o, name as unknown as (key: string) => string, "minNewTokens");
  promptsPerRollout(o, name);
}
