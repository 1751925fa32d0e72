/** What the clients of a training server may have. */

/** Limits of a training server. */
export interface TrainingLimits {
  /** Largest rank of an adapter. */
  maxLoraRank: number;
  /** Models in training at once. */
  maxTrainModels: number;
  /** Saved weights that are open to be sampled from at once, each with a cache as large as the model's. */
  maxSamplers: number;
  /** Saved folders that are kept. */
  maxCheckpoints: number;
  /** A session without a sign of life ends after so long, and its models with it. */
  sessionMs: number;
}

export const trainingDefaults: TrainingLimits = {
  maxLoraRank: 128,
  maxTrainModels: 4,
  maxSamplers: 3,
  maxCheckpoints: 256,
  sessionMs: 1_800_000,
};
