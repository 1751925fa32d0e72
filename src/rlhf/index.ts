/** Trainers and what they are made of: settings, losses, rollouts, the loop of a run. */
export type { CallLog } from "../runtime/call-log.ts";
export { RowLog } from "../runtime/row-log.ts";
export {
  byDialect,
  type Condition,
  DerivedDefault,
  defaultWords,
  derived,
  dialectIn,
  expectation,
  type Foreign,
  type ForeignNames,
  group,
  inCode,
  inFile,
  live,
  onCommandLine,
  type ResolvedSettings,
  type Setting,
  type SettingDetails,
  type SettingGroup,
  type SettingKind,
  type SettingMaker,
  type Settings,
  type SettingsCheck,
  type SettingsInput,
  type SettingsSource,
  type SettingsTable,
  type SettingType,
  type SettingValues,
  settingNamed,
  settings,
  spelled,
  withoutEffect,
  withoutSecrets,
} from "../settings/index.ts";
export type { Evictable } from "../tensor/residency.ts";
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
export { type AheadSettings, aheadSettings } from "./ahead.ts";
export { type OrderSettings, orderSettings } from "./any-order.ts";
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
export type { Best } from "./best.ts";
export { type Change, readChanges } from "./changes.ts";
export {
  type CheckpointedModel,
  checkpointSteps,
  type Keeping,
  type Restored,
  type RunFolder,
  restoreCheckpoint,
  saveCheckpoint,
  saveModels,
  type Trainee,
} from "./checkpoint.ts";
export { Clock } from "./clock.ts";
export {
  FolderControls,
  leaveWish,
  type RunControls,
  type Standing,
  standingOf,
  type Wish,
  waitingWishes,
} from "./controls.ts";
export { type CpoLossOptions, type CpoSettings, cpo, cpoLoss, cpoLossNames, cpoObjective, trainCpo } from "./cpo.ts";
export { type CriticFreeMethod, type CriticFreeModels, trainCriticFree } from "./critic-free.ts";
export { type CriticFreeSettings, criticFreeSettings, rolloutSize } from "./critic-free-settings.ts";
export { dataEvents } from "./data-events.ts";
export { inRounds, type LearnerSettings, learnerSettings, OuterState } from "./diloco.ts";
export { type DistillModels, type DistillSettings, distill, trainDistill } from "./distill.ts";
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
export type { ActingModels } from "./environment/acting.ts";
export { calculatorEnvironment } from "./environment/builtin/calculator.ts";
export { gridEnvironment } from "./environment/builtin/grid.ts";
export { guessEnvironment } from "./environment/builtin/guess.ts";
export { builtinEnvironment, builtinEnvironments } from "./environment/builtin/index.ts";
export { storyEnvironment } from "./environment/builtin/story.ts";
export {
  type Action,
  type Environment,
  type EnvironmentRow,
  type Episode,
  type EpisodeStart,
  environmentPrompts,
  type Observation,
  type Outcome,
} from "./environment/environment.ts";
export { type OpenEnvOptions, openEnvEnvironment, type SocketLike } from "./environment/openenv.ts";
export { environmentReward } from "./environment/reward.ts";
export { type EnvironmentSamplerOptions, environmentSampler } from "./environment/sampler.ts";
export { type EnvironmentSettings, environmentSettings } from "./environment/settings.ts";
export { type FoundCalls, type ToolCall, toolCalls } from "./environment/tool-calls.ts";
export { type Tool, type ToolEnvironmentOptions, toolEnvironment } from "./environment/tools.ts";
export type { Turn } from "./environment/turn.ts";
export { type EvaluateInputs, type EvaluateOptions, type Evaluation, evaluatePolicy } from "./evaluate.ts";
export type { DataSummary, Sample, TrainEvent } from "./events.ts";
export {
  contextOf,
  type DatasetOf,
  type ExampleData,
  type ExampleMethod,
  type ExampleRows,
  type ExampleSettings,
  type ExampleSplits,
  examplesOf,
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
export { type IterateSettings, iterate } from "./iterate/settings.ts";
export { type IterateModels, type IterateRun, trainIteratively } from "./iterate.ts";
export {
  type JobResponse,
  type JobResult,
  type JobSampling,
  type JobsOptions,
  jobsOf,
  promptsPerJob,
  runJob,
  type SamplingJob,
} from "./jobs.ts";
export {
  type KtoLossOptions,
  type KtoModels,
  type KtoSettings,
  kto,
  ktoBaseline,
  ktoLoss,
  ktoLossNames,
  type LabelledSequence,
  trainKto,
} from "./kto.ts";
export { type LearnerExchange, LearnerGroup, type RoundResult } from "./learners.ts";
export { judgeKappa } from "./llm-judge/agreement.ts";
export type { Winner } from "./llm-judge/answers.ts";
export type { JudgeCallOptions, JudgeCalls, JudgeUsage } from "./llm-judge/calls.ts";
export {
  type Compared,
  JudgeComparer,
  type PositionBias,
  positionBias,
  type Verdicts,
} from "./llm-judge/compare.ts";
export type { JudgeQuestion } from "./llm-judge/questions.ts";
export type { Criterion, JudgeSpec } from "./llm-judge/spec.ts";
export {
  type LoggedMetrics,
  type LoggedRun,
  type Logger,
  Loggers,
  type LogMetrics,
  type MetricsLogger,
  trackedNames,
} from "./loggers/logger.ts";
export { type TensorboardOptions, tensorboardLogger } from "./loggers/tensorboard.ts";
export { type TrackioOptions, trackioLogger } from "./loggers/trackio.ts";
export { type WandbOptions, wandbLogger } from "./loggers/wandb.ts";
export {
  type EvalResult,
  type LoopSettings,
  loop,
  type ResidencyScope,
  type RunOptions,
  type StepResult,
  type TrainerSteps,
} from "./loop.ts";
export { policyLoss, valueLoss } from "./losses/clipped.ts";
export {
  costLoss,
  type OdinOptions,
  odinLoss,
  type PairLossOptions,
  type PairSafety,
  type PairTerms,
  pairLoss,
} from "./losses/pair.ts";
export { entropyLoss, klLoss } from "./losses/penalties.ts";
export {
  type Baseline,
  type Divergence,
  divergenceScore,
  divergences,
  type PairLossFunction,
  type PairScores,
  type PreferenceLoss,
  type PreferenceLossOptions,
  preferenceLoss,
  preferenceLosses,
  RunningMean,
  registerPreferenceLoss,
} from "./losses/preference.ts";
export { type RatioLossInputs, type RatioLossOptions, ratioLoss } from "./losses/ratio.ts";
export { type Measured, responseLogProbs, responseValues, sampledKl } from "./measure.ts";
export { promptPattern, sequenceFeatures } from "./multi-objective/features.ts";
export { type Fit, type FitInputs, type FitOptions, fitHead, headOf } from "./multi-objective/fit.ts";
export { type GateShape, GatingNetwork } from "./multi-objective/gate.ts";
export { type HeadConfig, type HeadScores, MultiObjectiveHead, type SequenceFeatures } from "./multi-objective/head.ts";
export { multiObjectiveReward, multiObjectiveScores } from "./multi-objective/model.ts";
export type { AttributeFit, Features, RegressionOptions, RegressionSplit } from "./multi-objective/regression.ts";
export { type GateSettings, gate, gateLoss, type PairFeatures, trainGate } from "./multi-objective/train.ts";
export { type OffPolicySettings, offPolicySettings } from "./off-policy.ts";
export { type ModelRole, type OffloadLevel, offloadLevels, type RoleScope } from "./offload.ts";
export { type OrpoSettings, oddsRatio, orpo, orpoLoss, orpoObjective, trainOrpo } from "./orpo.ts";
export { overlongPenalty } from "./overlong.ts";
export {
  evaluatePairs,
  type PairData,
  type PairLoss,
  type PairObjective,
  pairCuts,
  pairMethod,
  pairsOf,
} from "./pair-trainer.ts";
export {
  type AnswerOptions,
  type Answers,
  answersOf,
  bothAnswers,
  differing,
  type PairExample,
  pairScores,
  type ScoreOptions,
} from "./pairs.ts";
export { type AnyPair, type PseudoLabelOptions, pseudoLabel, rrmPairs } from "./pairwise/augment.ts";
export { isPairModel, pairFiles, readPairWriter } from "./pairwise/folder.ts";
export { PairPreferenceModel, type PreferenceModel } from "./pairwise/model.ts";
export {
  pairQuestions,
  type Question,
  type QuestionExample,
  questionExample,
  sideOf,
} from "./pairwise/questions.ts";
export { type Answer, type Conversation, type PairTemplate, PairWriter, pairTemplates } from "./pairwise/template.ts";
export { type Ranking, roundRobin, tournament } from "./pairwise/tournament.ts";
export {
  evaluatePairwise,
  type PairwiseData,
  type PairwiseModels,
  type PairwiseSettings,
  pairChances,
  pairwise,
  trainPairwise,
} from "./pairwise/train.ts";
export type { AlignmentModels } from "./partners.ts";
export { type PerplexityOptions, textPerplexity } from "./perplexity.ts";
export { type PpoSettings, ppo, trainPpo } from "./ppo.ts";
export { withPublishedNames } from "./ppo-metrics.ts";
export type { PpoData, PpoModels } from "./ppo-models.ts";
export {
  type CleanText,
  cleanLmflow,
  type DiscardSample,
  discardContaining,
  discardLmflow,
  plantedReward,
} from "./raft/hooks.ts";
export { type RaftSettings, raft } from "./raft/settings.ts";
export {
  countTokens,
  type MonitoredResponses,
  type MonitorOptions,
  monitorTokens,
  monitorWarning,
  type TokenCounts,
  type TokenReport,
} from "./raft/token-monitor.ts";
export { type RaftModels, trainRaft } from "./raft.ts";
export {
  RECORD,
  type RunFacts,
  type RunInput,
  type RunParent,
  type RunRecord,
  readRecord,
  recordBeside,
  recordOf,
  writeRecord,
} from "./record.ts";
export { recorded, type Training } from "./recorded.ts";
export { precomputeReference } from "./reference.ts";
export type { Drawn } from "./refill.ts";
export { type ReinforceSettings, reinforce, trainReinforce } from "./reinforce.ts";
export {
  type RemoteSamplerOptions,
  type RemoteSourceOptions,
  remoteSampler,
  remoteSource,
  type ServedPolicy,
  sampleRemotely,
} from "./remote.ts";
export { choosePairs, leastCertain } from "./reward/choose.ts";
export { type HttpRewardOptions, httpReward, type RewardFormat } from "./reward/endpoint.ts";
export { type ForeignRewardOptions, foreignReward, sameTokenizer } from "./reward/foreign.ts";
export {
  type Interval,
  isRewardBench,
  type Judgement,
  type JudgeOptions,
  judge,
  type PairOutcome,
  type RewardBenchResult,
  rewardBench,
  type SubsetResult,
  type TieRule,
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
  type Judged,
  judged,
  type RewardFailure,
  type RewardFailureSettings,
  rewardFailureSettings,
} from "./reward-failures.ts";
export {
  type ModelRewardOptions,
  modelReward,
  type RewardFunction,
  type RewardParts,
  type Rewards,
  residentsOf,
  rewardParts,
} from "./rewards.ts";
export { type RlooSettings, rloo, trainRloo } from "./rloo.ts";
export {
  collectRollout,
  type Rollout,
  type RolloutInputs,
  type RolloutOptions,
  type RolloutSettings,
  type RolloutState,
  rolloutSettings,
} from "./rollout.ts";
export type { Phase, PolicyUpdate, RolloutRow, ValueUpdate } from "./rollout-rows.ts";
export { clearRun } from "./run-folder.ts";
export { RunLog, type StateSettings } from "./run-log.ts";
export {
  type Prompt,
  type PromptData,
  policySampler,
  promptsOf,
  type Response,
  responsesOf,
  type Sampler,
  type SamplingOptions,
  sampleResponses,
  tokenizerOf,
} from "./sampler.ts";
export type { SaveRhythm } from "./saver.ts";
export {
  type AnswerScores,
  evaluateReward,
  type ScoredFeatures,
  scorePairs,
  scoreSequences,
  scoreWithHidden,
} from "./scores.ts";
export {
  type BestChoice,
  bestModel,
  type CommonSettings,
  common,
  duration,
  type EvaluationChoice,
  evaluation,
  half,
  type OptimiserSettings,
  optimiser,
  rewardMixture,
  sampling,
  samplingParams,
  scheduleEnd,
  seed,
} from "./settings.ts";
export { evaluateSft, nllLoss, type SftSettings, sft, trainSft } from "./sft.ts";
export { localSource, type RequestOptions, type ResultStream, type RolloutSource } from "./source.ts";
export * from "./stats.ts";
export type { Tell } from "./telling.ts";
export * from "./text-stats.ts";
export { adamOf, BatchPlan, type PlanOptions, type RateOptions, rateAt } from "./training.ts";
export { verifiableReward, verifiableRewards } from "./verifiable/index.ts";
export {
  controlMetrics,
  readEach,
  readWatched,
  together,
  type Watched,
  type WatchedNumbers,
  watch,
  watchControl,
} from "./watch.ts";
export { type Estimate, type PairedOutcome, type WinRateOptions, type WinRates, winRates } from "./win-rate.ts";
