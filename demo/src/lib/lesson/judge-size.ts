/** How a judge learns: apart from its training, so that a page knows it without the library. */
import type { RecipeStage } from "./recipe.ts";

/** Pairs in one optimizer step of the judge. */
export const JUDGE_BATCH = 8;

/** Optimizer steps that a judge of so many pairs takes. */
export const judgeSteps = (pairs: number): number => Math.ceil(pairs / JUDGE_BATCH);

/** Held-out pairs that it is measured on. */
export const JUDGE_TEST_PAIRS = 128;

/** Settings of `webrlhf reward`. */
export const judgeSettings = (seed: number) => ({
  numTrainEpochs: 1,
  perDeviceTrainBatchSize: JUDGE_BATCH,
  learningRate: 2e-3,
  lrSchedulerType: "cosine" as const,
  warmupSteps: 0.1,
  adamBeta2: 0.98,
  weightDecay: 0.1,
  saveSteps: 16,
  seed,
});

/** A judge as a recipe's stage, called "judge". */
export const judgeStage = ({ pairs, seed }: { pairs: number; seed: number }): RecipeStage => ({
  name: "judge",
  title: "The judge",
  verb: "reward",
  settings: {
    datasetName: "builtin:world",
    maxTrainSamples: pairs,
    maxEvalSamples: JUDGE_TEST_PAIRS,
    ...judgeSettings(seed),
  },
});
