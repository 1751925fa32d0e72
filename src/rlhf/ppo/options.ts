/** PPO's options, their defaults and their checks. */
import type { ScheduleName } from "../../nn/optimizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { type TrainingOptions, trainingDefaults } from "../training.ts";
import type { AdvantageOptions } from "./advantages.ts";
import { type Dialect, type DialectName, dialects } from "./dialects.ts";
import type { OffloadLevel } from "./offload.ts";
import type { RolloutOptions } from "./rollout.ts";

export { type Dialect, type DialectName, dialects };

export interface PpoOptions extends TrainingOptions, Dialect, RolloutOptions, AdvantageOptions {
  dialect: DialectName;
  /** Rollouts in all; each is one "step" of the run. */
  maxSteps: number;
  /** Prompts per rollout. */
  promptsPerRollout: number;
  // A rollout and an estimate of advantages can do without these; a dialect decides them.
  scoreSlot: Dialect["scoreSlot"];
  rewardNormalizer: Dialect["rewardNormalizer"];
  whitening: Dialect["whitening"];
  /** Learning rate of the critic; by default half the actor's, as in safe-rlhf. */
  criticLearningRate: number;
  /** The critic's own schedule, warm-up, decay, floor and length of decay; null takes the actor's. */
  criticSchedule: ScheduleName | null;
  criticWarmup: number | null;
  criticWeightDecay: number | null;
  criticMinLearningRate: number | null;
  criticDecaySteps: number | null;
  /** Adapts klCoef towards this KL per sequence; null keeps it fixed. */
  targetKl: number | null;
  /** Sequences over which the adaptation spreads. */
  klHorizon: number;
  clipRange: number;
  /** Upper clip of the ratio where it differs; null: as the lower. */
  clipRangeHigh: number | null;
  /** See `PolicyClip`; null is off. */
  dualClip: number | null;
  /** Weight of the entropy bonus. */
  entropyCoef: number;
  /** Weight of the supervised loss on `PpoInputs.ptx`. */
  ptxCoef: number;
  /**
   * How PPO's and the ptx gradient become one. "average": half of each, as PaddleNLP and safe-rlhf do by counting them as two
   * passes of one step, which halves PPO's share against training without ptx; "sum": all of both.
   */
  ptxCombination: "average" | "sum";
  /** Keeps a moving average of the actor: theta_ema = beta theta_ema + (1 - beta) theta; null keeps none. */
  emaBeta: number | null;
  /** The moving average samples instead of the actor. */
  emaSamples: boolean;
  /**
   * What leaves the GPU while it is not needed. In the end the models of these levels are still on the host: their
   * `store.resident.restore()` brings them back.
   */
  offload: readonly OffloadLevel[];
  /** Prompts to respond to before training, every `evalSteps` steps and at the end; 0 leaves it out. */
  evalSteps: number;
}

export const ppoDefaults = (dialect: DialectName = "paddle"): PpoOptions => ({
  ...trainingDefaults,
  ...dialects[dialect],
  dialect,
  learningRate: 1e-5,
  schedule: "constant",
  batchSize: 16,
  maxSteps: 50,
  promptsPerRollout: 64,
  samplesPerPrompt: 1,
  responseLength: 64,
  maxLength: null,
  minNewTokens: 0,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  criticLearningRate: dialect === "trl" ? 1e-5 : 5e-6,
  criticSchedule: null,
  criticWarmup: null,
  criticWeightDecay: null,
  criticMinLearningRate: null,
  criticDecaySteps: null,
  klPlacement: "reward",
  klEstimator: "k1",
  klClamp: null,
  targetKl: null,
  klHorizon: 10000,
  clipRange: 0.2,
  clipRangeHigh: null,
  dualClip: null,
  entropyCoef: 0,
  gamma: 1,
  whitenRewards: false,
  missingEosPenalty: 0,
  ptxCoef: 16,
  ptxCombination: "average",
  emaBeta: null,
  emaSamples: true,
  offload: [],
  showSamples: 4,
});

/** Throws `UserError` for options under which nothing would be trained, or something else than was asked for. */
export function checkPpoOptions(options: PpoOptions): void {
  const { dualClip, emaBeta, clipRange, minNewTokens = 0, responseLength, targetKl, klCoef } = options;
  for (const name of ["epochs", "batchSize", "accumulation", "promptsPerRollout", "samplesPerPrompt"] as const) {
    if (Number.isSafeInteger(options[name]) && options[name] >= 1) continue;
    const aka = name === "epochs" ? "epochs (update_iters)" : name;
    throw new UserError(`${aka} must be a whole number of at least 1, not ${options[name]}: nothing would be trained`);
  }
  if (!(clipRange > 0)) throw new UserError(`clipRange must be above 0, not ${clipRange}`);
  if (dualClip !== null && !(dualClip > 1)) throw new UserError(`dualClip must be above 1, not ${dualClip}`);
  if (emaBeta !== null && !(emaBeta >= 0 && emaBeta < 1)) {
    throw new UserError(`emaBeta must be at least 0 and below 1, not ${emaBeta}`);
  }
  if (minNewTokens > responseLength) {
    throw new UserError(`min_new_tokens ${minNewTokens} is more than response_length ${responseLength}`);
  }
  if (options.klPlacement === "loss" && options.klEstimator === "k1" && klCoef !== 0) {
    throw new UserError(
      "kl_placement loss needs kl_estimator k2 or k3: the gradient through k1 is zero on average, so nothing would hold the policy",
    );
  }
  if (targetKl !== null && !(klCoef > 0)) {
    throw new UserError("target_kl multiplies kl_coef, which is 0: set kl_coef to what it is to begin with");
  }
}
