/** PPO's options, and the three dialects that differ in details which change results. */
import type { KlEstimator } from "./stats.ts";
import { type TrainingOptions, trainingDefaults } from "./training.ts";

/** What the public implementations disagree on. */
export interface Dialect {
  /** Losses average over all tokens, or over sequences of token averages. */
  average: "token" | "sequence";
  /** The clip on scores applies to the score alone, or to every token's shaped reward. */
  clipWhat: "score" | "reward";
  clipRangeScore: number;
  clipRangeValue: number;
  /** Advantages are whitened over the whole rollout. */
  whitenAdvantages: boolean;
  /** Minibatches are drawn anew for every epoch. */
  shuffle: boolean;
  /** Log-probabilities use the sampling temperature everywhere, not 1. */
  tempered: boolean;
  /** Passes over each rollout ("update_iters", "num_ppo_epochs"). */
  epochs: number;
  betas: readonly [number, number];
}

export const dialects: Record<"paddle" | "safe" | "trl", Dialect> = {
  /** PaddleNLP's PPO. */
  paddle: {
    average: "token",
    clipWhat: "score",
    clipRangeScore: 50,
    clipRangeValue: 5,
    whitenAdvantages: false,
    shuffle: false,
    tempered: false,
    epochs: 1,
    betas: [0.9, 0.95],
  },
  /** safe-rlhf since December 2023. */
  safe: {
    average: "sequence",
    clipWhat: "reward",
    clipRangeScore: 50,
    clipRangeValue: 5,
    whitenAdvantages: false,
    shuffle: false,
    tempered: false,
    epochs: 1,
    betas: [0.9, 0.95],
  },
  /** TRL's PPOTrainer. */
  trl: {
    average: "token",
    clipWhat: "score",
    clipRangeScore: Number.POSITIVE_INFINITY,
    clipRangeValue: 0.2,
    whitenAdvantages: true,
    shuffle: true,
    tempered: true,
    epochs: 4,
    betas: [0.9, 0.999],
  },
};

export interface PpoOptions extends TrainingOptions, Dialect {
  dialect: keyof typeof dialects;
  /** Rollouts in all; each is one "step" of the run. */
  maxSteps: number;
  /** Prompts per rollout. */
  promptsPerRollout: number;
  /** Responses per prompt. */
  samplesPerPrompt: number;
  /** Response tokens at most. */
  responseLength: number;
  temperature: number;
  topK: number;
  topP: number;
  /** Learning rate of the critic; by default half the actor's, as in safe-rlhf. */
  criticLearningRate: number;
  klCoef: number;
  klEstimator: KlEstimator;
  /** Adapts klCoef towards this KL per sequence; null keeps it fixed. */
  targetKl: number | null;
  /** Sequences over which the adaptation spreads. */
  klHorizon: number;
  clipRange: number;
  gamma: number;
  lambda: number;
  /** Subtracted from the score of a response that does not end by itself. */
  missingEosPenalty: number;
  /** Scores are normalised by a running mean and deviation before clipping (PaddleNLP's later versions). */
  normalizeReward: boolean;
  /** Sequences per rollout whose texts are reported. */
  showSamples: number;
}

export const ppoDefaults = (dialect: keyof typeof dialects = "paddle"): PpoOptions => ({
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
  temperature: 1,
  topK: 0,
  topP: 1,
  criticLearningRate: 5e-6,
  klCoef: dialect === "trl" ? 0.05 : 0.02,
  klEstimator: "k1",
  targetKl: null,
  klHorizon: 10000,
  clipRange: 0.2,
  gamma: 1,
  lambda: 0.95,
  missingEosPenalty: 0,
  normalizeReward: false,
  showSamples: 4,
});
