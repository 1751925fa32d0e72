/**
 * Trainers and what they are made of.
 * @module webrlhf/rlhf
 */
export { type Batch, pack, predictions, type Sequence } from "./batch.ts";
export { checkpointSteps, type RunFolder, restoreCheckpoint, saveCheckpoint, saveModels } from "./checkpoint.ts";
export * from "./critic-free/advantages.ts";
export { type GrpoOptions, grpoDefaults, trainGrpo } from "./critic-free/grpo.ts";
export { overlongPenalty } from "./critic-free/overlong.ts";
export { type ReinforceOptions, reinforceDefaults, trainReinforce } from "./critic-free/reinforce.ts";
export { type RlooOptions, rlooDefaults, trainRloo } from "./critic-free/rloo.ts";
export type { CriticFreeInputs, CriticFreeOptions } from "./critic-free/train.ts";
export { type Evaluation, evaluatePolicy } from "./evaluate.ts";
export type { Sample, TrainEvent } from "./events.ts";
export {
  annotateRows,
  judgeByPreference,
  judgeByReward,
  type RowJudge,
  rewardStatistics,
} from "./iterate/annotate.ts";
export { trainIteratively } from "./iterate/iterate.ts";
export type { IterateInputs, IterateOptions } from "./iterate/options.ts";
export { choosePair, makePairs, type PairOptions, type PairRule, pairDefaults, pairRules } from "./iterate/pairs.ts";
export { sampleRows } from "./iterate/sample.ts";
export { costLoss } from "./losses/cost.ts";
export { type Divergence, divergenceScore } from "./losses/divergence.ts";
export { nllLoss } from "./losses/nll.ts";
export { type OdinOptions, odinLoss } from "./losses/odin.ts";
export { type PairLossOptions, pairLoss } from "./losses/pair.ts";
export { entropyLoss, klLoss, type PolicyClip, policyLoss, valueLoss } from "./losses/policy.ts";
export { type PairScores, type PreferenceLossName, preferenceLoss, preferenceLosses } from "./losses/preference.ts";
export { type RatioLossInputs, type RatioLossOptions, ratioLoss } from "./losses/ratio.ts";
export { fitHead, headOf } from "./multi-objective/fit.ts";
export { MultiObjectiveHead } from "./multi-objective/head.ts";
export { multiObjectiveReward, multiObjectiveScores } from "./multi-objective/model.ts";
export { type GateOptions, gateDefaults, trainGate } from "./multi-objective/train.ts";
export { pseudoLabel, rrmPairs } from "./pairwise/augment.ts";
export { PairPreferenceModel, type PreferenceModel } from "./pairwise/model.ts";
export { type PairTemplate, PairWriter } from "./pairwise/template.ts";
export { type Ranking, roundRobin, tournament } from "./pairwise/tournament.ts";
export { type PairExample, pairExample, trainPairwise } from "./pairwise/train.ts";
export { type PerplexityOptions, textPerplexity } from "./perplexity.ts";
export { withPublishedNames } from "./ppo/metrics.ts";
export { type OffloadLevel, offloadLevels } from "./ppo/offload.ts";
export { type Dialect, type DialectName, dialects, type PpoOptions, ppoDefaults } from "./ppo/options.ts";
export { type PpoInputs, trainPpo } from "./ppo/ppo.ts";
export { collectRollout, type Rollout, type RolloutInputs, type RolloutOptions } from "./ppo/rollout.ts";
export { type CpoOptions, cpoDefaults, trainCpo } from "./preference/cpo.ts";
export { type DpoInputs, type DpoLossName, type DpoOptions, dpoDefaults, trainDpo } from "./preference/dpo.ts";
export { type KtoInputs, type KtoOptions, ktoDefaults, type LabelledSequence, trainKto } from "./preference/kto.ts";
export { type OrpoOptions, orpoDefaults, trainOrpo } from "./preference/orpo.ts";
export { precomputeReference, type Reference } from "./preference/reference.ts";
export * from "./raft/hooks.ts";
export { dialectHooks, type RaftDialect, type RaftOptions, raftDefaults, raftDialects } from "./raft/options.ts";
export { plantedReward } from "./raft/planted.ts";
export { type RaftInputs, trainRaft } from "./raft/raft.ts";
export {
  countTokens,
  type MonitorOptions,
  monitorTokens,
  monitorWarning,
  type TokenReport,
} from "./raft/token-monitor.ts";
export { type RemoteSampler, remoteSampler, sampleRemotely } from "./remote.ts";
export { type HttpRewardOptions, httpReward, type RewardFormat } from "./reward/endpoint.ts";
export { type ForeignRewardOptions, foreignReward, sameTokenizer } from "./reward/foreign.ts";
export { type RewardLossOptions, type RewardOptions, trainReward } from "./reward/reward.ts";
export { isRewardBench, type JudgeOptions, judge, type PairOutcome, rewardBench } from "./reward/reward-bench.ts";
export { evaluateReward, scorePairs, scoreSequences } from "./reward/scores.ts";
export {
  modelReward,
  type Prompt,
  type Response,
  type RewardFunction,
  type Sampler,
  sampleResponses,
} from "./rollout.ts";
export { evaluateSft, type SftOptions, trainSft } from "./sft.ts";
export * from "./stats.ts";
export * from "./text-stats.ts";
export { type TrainingOptions, trainingDefaults } from "./training.ts";
