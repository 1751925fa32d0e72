/** Trainers, and everything that a trainer of one's own is made of. */
export {
  averagingWeights,
  type Experience,
  gaeExperience,
  groupAdvantages,
  type LossAveraging,
  leaveOneOut,
  normalizeThenSum,
  type ScaleRewards,
  standardize,
  withoutSpread,
} from "./advantages.ts";
export {
  type Batch,
  endRows,
  type Predictions,
  pack,
  predictedTokens,
  predictions,
  type Sequence,
  scoringParts,
  split,
} from "./batch.ts";
export {
  begin,
  checkpointSteps,
  type Kept,
  type RunFolder,
  removePartial,
  restoreCheckpoint,
  saveCheckpoint,
  saveModels,
  type Trainee,
} from "./checkpoint.ts";
export { type CpoSettings, cpo, cpoObjective, trainCpo } from "./cpo.ts";
export {
  type CriticFreeModels,
  type CriticFreeSettings,
  criticFreeSettings,
  type Method,
  trainCriticFree,
} from "./critic-free.ts";
export {
  chosenNll,
  type DpoLossSettings,
  type DpoModels,
  type DpoSettings,
  dpo,
  dpoLossSettings,
  dpoObjective,
  preferenceBasics,
  trainDpo,
} from "./dpo.ts";
export {
  type EvaluateInputs,
  type EvaluateOptions,
  type Evaluation,
  evaluatePolicy,
  evaluateResponses,
} from "./evaluate.ts";
export type { Sample, TrainEvent } from "./events.ts";
export {
  contextOf,
  type DatasetOf,
  type ExampleData,
  type ExampleSettings,
  examplesOf,
  type Parts,
  type Recipe,
  trainOnExamples,
} from "./examples.ts";
export { type GrpoSettings, grpo, trainGrpo } from "./grpo.ts";
export {
  type AnnotateOptions,
  annotateRows,
  judgeByPreference,
  judgeByReward,
  type RewardStatistics,
  type RowJudge,
  rewardStatistics,
  type SequenceOf,
} from "./iterate/annotate.ts";
export {
  type Choice,
  choosePair,
  type Drop,
  describeCounts,
  type MakePairsOptions,
  makePairs,
  type PairCounts,
  type PairOptions,
  type PairRule,
  pairRules,
  pairSettings,
  type RowPair,
} from "./iterate/pairs.ts";
export { type NumberedPrompt, type SampleRowsOptions, sampleRows } from "./iterate/sample.ts";
export { type IterateModels, type IterateRun, type IterateSettings, iterate, trainIteratively } from "./iterate.ts";
export { type KtoModels, type KtoSettings, kto, type LabelledSequence, trainKto } from "./kto.ts";
export { type Evaluated, loop, type Outcome, type RunOptions, type Steps } from "./loop.ts";
export { costLoss, type PairSafety } from "./losses/cost.ts";
export { type Divergence, divergenceScore, divergences } from "./losses/divergence.ts";
export { type KtoLossOptions, ktoBaseline, ktoLoss, ktoLossNames } from "./losses/kto.ts";
export { nllLoss } from "./losses/nll.ts";
export { type OdinOptions, odinLoss } from "./losses/odin.ts";
export { type PairLossOptions, type PairTerms, pairLoss } from "./losses/pair.ts";
export { entropyLoss, klLoss } from "./losses/penalties.ts";
export {
  type Baseline,
  type PairLossFunction,
  type PairScores,
  type PreferenceLoss,
  type PreferenceLossOptions,
  preferenceLoss,
  preferenceLosses,
  registerPreferenceLoss,
} from "./losses/preference.ts";
export { type RatioLossInputs, type RatioLossOptions, ratioLoss } from "./losses/ratio.ts";
export {
  type CpoLossName,
  type CpoLossOptions,
  cpoLoss,
  cpoLossNames,
  oddsRatio,
  orpoLoss,
} from "./losses/reference-free.ts";
export { RunningMean } from "./losses/running.ts";
export { responseLogProbs, responseValues, sampledKl, valueRows } from "./measure.ts";
export {
  type Descent,
  descend,
  flat,
  type Minibatch,
  type MinibatchOptions,
  minibatches,
  sharesOf,
} from "./minibatches.ts";
export { type Fit, fitHead, headOf } from "./multi-objective/fit.ts";
export { MultiObjectiveHead, type SequenceFeatures } from "./multi-objective/head.ts";
export { multiObjectiveReward, multiObjectiveScores } from "./multi-objective/model.ts";
export { type GateSettings, gate, type PairFeatures, trainGate } from "./multi-objective/train.ts";
export { type OffloadLevel, offloadLevels, type Role, type Within } from "./offload.ts";
export { type OrpoSettings, orpo, orpoObjective, trainOrpo } from "./orpo.ts";
export { overlongPenalty } from "./overlong.ts";
export {
  evaluatePairs,
  type PairData,
  type PairLoss,
  type PairObjective,
  pairCuts,
  pairRecipe,
  pairsOf,
} from "./pair-trainer.ts";
export { type AnswerOptions, type Answers, answerSums, answersOf, type PairExample, pairScores } from "./pairs.ts";
export { type AnyPair, pseudoLabel, rrmPairs } from "./pairwise/augment.ts";
export { PairPreferenceModel, type PreferenceModel } from "./pairwise/model.ts";
export { type Question, type QuestionExample, questionExample } from "./pairwise/questions.ts";
export { type Conversation, type PairTemplate, PairWriter, pairTemplates } from "./pairwise/template.ts";
export { type Ranking, roundRobin, tournament } from "./pairwise/tournament.ts";
export {
  type PairwiseData,
  type PairwiseModels,
  type PairwiseSettings,
  pairwise,
  trainPairwise,
} from "./pairwise/train.ts";
export { baseOf, copyOf, criticOf } from "./partners.ts";
export { type PerplexityOptions, textPerplexity } from "./perplexity.ts";
export { type PpoData, type PpoModels, type PpoSettings, policyLoss, ppo, trainPpo, valueLoss } from "./ppo.ts";
export { withPublishedNames } from "./ppo-metrics.ts";
export { PromptOrder } from "./prompts.ts";
export * from "./raft/hooks.ts";
export {
  countTokens,
  type MonitorOptions,
  monitorTokens,
  monitorWarning,
  type TokenCounts,
  type TokenReport,
} from "./raft/token-monitor.ts";
export { type RaftModels, type RaftSettings, raft, trainRaft } from "./raft.ts";
export { precomputeReference, referenceOf } from "./reference.ts";
export { type ReinforceSettings, reinforce, trainReinforce } from "./reinforce.ts";
export { type RemoteSampler, remoteSampler, sampleRemotely } from "./remote.ts";
export { type HttpRewardOptions, httpReward, type RewardFormat } from "./reward/endpoint.ts";
export { type ForeignRewardOptions, foreignReward, sameTokenizer } from "./reward/foreign.ts";
export {
  isRewardBench,
  type Judgement,
  type JudgeOptions,
  judge,
  type PairOutcome,
  type RewardBenchResult,
  rewardBench,
  type SubsetResult,
} from "./reward/reward-bench.ts";
export {
  type CostSettings,
  cost,
  type RewardData,
  type RewardModels,
  type RewardSettings,
  reward,
  trainCost,
  trainReward,
} from "./reward.ts";
export {
  type ModelRewardOptions,
  mixedRewards,
  modelReward,
  type RewardFunction,
  type RewardParts,
  type Rewards,
  rewardParts,
  rewardsOf,
} from "./rewards.ts";
export { type RlooSettings, rloo, trainRloo } from "./rloo.ts";
export {
  collectRollout,
  type Rollout,
  type RolloutInputs,
  type RolloutOptions,
  type RolloutState,
  rolloutSettings,
} from "./rollout.ts";
export {
  type Prompt,
  type PromptData,
  policySampler,
  promptsOf,
  type Response,
  type Sampler,
  type SamplingOptions,
  sampleResponses,
} from "./sampler.ts";
export { evaluateReward, rewardMetrics, scorePairs, scoreSequences } from "./scores.ts";
export type { Common, Optimiser } from "./settings.ts";
export * as groups from "./settings.ts";
export { evaluateSft, nllPasses, type SftSettings, sft, sftStep, trainSft } from "./sft.ts";
export * from "./stats.ts";
export * from "./text-stats.ts";
export { adamOf, BatchPlan, type PlanOptions, type RateOptions, rateAt } from "./training.ts";
export {
  controlMetrics,
  type Numbers,
  readEach,
  readWatched,
  together,
  type Watched,
  watch,
  watchControl,
} from "./watch.ts";
