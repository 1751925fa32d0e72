/** What a trainer's options mean for its memory. */
import type { KvCacheFormat } from "../../nn/cache.ts";
import type { DecoderConfig } from "../../nn/config.ts";
import type { LoraOptions } from "../../nn/lora-options.ts";
import { type CriticFreeSettings, promptsPerRollout } from "../../rlhf/critic-free-settings.ts";
import type { DistillSettings } from "../../rlhf/distill.ts";
import { type DpoLossSettings, type DpoSettings, dpoLossSettings } from "../../rlhf/dpo.ts";
import type { IterateSettings } from "../../rlhf/iterate/settings.ts";
import { levelsOf, type OffloadLevel } from "../../rlhf/offload.ts";
import type { PpoSettings } from "../../rlhf/ppo.ts";
import { sizes } from "../../rlhf/raft.ts";
import { inFile, type ResolvedSettings, type SettingsSource, settingNamed } from "../../settings/index.ts";
import type { WeightFormat } from "../../tensor/quantize.ts";
import { methods } from "../methods.ts";
import { loraOptions } from "../opener.ts";
import { weightFormat } from "../precision.ts";
import { isWeightless } from "../rewards.ts";
import type * as named from "../settings.ts";

const { "multi-objective": _, ...rehearsed } = methods;

/** A trainer whose memory can be estimated, by its name: "sft", "dpo", "ppo". */
export type Stage = keyof typeof rehearsed;
/** The trainers whose memory can be estimated. */
export const stages = Object.keys(rehearsed) as Stage[];

/** What of a run's options its memory depends on. */
export interface MemoryPlan {
  stage: Stage;
  config: DecoderConfig;
  /** Adapters on one base instead of whole models. */
  lora: LoraOptions | null;
  /** The model's folder holds an adapter already, so that the policy as it starts is another one on the same base. */
  adapted: boolean;
  /** How weights that nobody trains are kept; "auto" is `format`. */
  format: WeightFormat;
  referenceFormat: WeightFormat | "auto";
  rewardFormat: WeightFormat | "auto";
  /** The policy as it starts, another model as large as it, or none. */
  reference: "start" | "other" | null;
  /** The reference's log-probabilities are computed before training, which then does without it. */
  precompute: boolean;
  /** Reward models as large as the policy; rewards from elsewhere take no memory. */
  rewardModels: number;
  /** Gradient checkpointing, and that of PPO's critic. */
  checkpointing: boolean;
  criticCheckpointing: boolean;
  /** Half precision. */
  half: boolean;
  /** How rollouts keep keys and values. */
  kvCache: KvCacheFormat;
  /** How the optimizers keep their moments. */
  optim: "adamw_torch" | "adamw_8bit" | "muon";
  /** Sequences (pairs) in one pass, passes in one step, and the length of a sequence in tokens. */
  batchSize: number;
  accumulation: number;
  length: number;
  /** Of `length`, at most so many are a response's, in rollouts. */
  responseLength: number;
  /** Prompts per rollout, and responses per prompt. */
  prompts: number;
  samples: number;
  /** Held-out examples or prompts; 0 evaluates nothing. */
  evalExamples: number;
  /** The losses of DPO, which may predict prompts, too. */
  dpo: Partial<DpoLossSettings>;
  /** What of PPO leaves the GPU by turns. */
  offload: readonly OffloadLevel[];
  /** PPO keeps a moving average of the policy. */
  average: boolean;
  /** Length of the sequences that are learned beside PPO; 0: there are none. */
  ptxLength: number;
  /** Whom distillation learns from, kept as a reference is, and whose responses; null: there is no teacher. */
  teacher: { config: DecoderConfig; learned: Pick<DistillSettings, "beta" | "lmbda" | "seqKd"> } | null;
}

/** Prompts that an iteration samples for at once; more of them take no more memory. */
const PROMPTS_AT_ONCE = 64;

/** The settings of all methods together; each has some of them. */
type Asked = Partial<PpoSettings & DpoSettings & IterateSettings & CriticFreeSettings & ResolvedSettings<Names>>;
type Names = typeof named.alignmentSettings &
  typeof named.referenceSettings &
  typeof named.heldOutSettings &
  typeof named.ptxSettings &
  typeof named.moreRewardSettings;

/** The model that a run learns from, by the name that settings give it; null where they name none. */
export function teacherNamed(stage: Stage, { values }: SettingsSource): string | null {
  const { table } = rehearsed[stage].settings;
  const named = Object.entries(values).find(([name]) => settingNamed(table, name) === "teacherModelNameOrPath");
  return typeof named?.[1] === "string" ? named[1] : null;
}

/**
 * The plan of a run with these settings.
 * @param given settings of the method, as they were written
 * @param promptLength of the rollouts' prompts, in tokens
 * @param adapter of the model's folder, if it is one
 * @param teacher the configuration of the model that settings name as the teacher. Default: there is none
 */
export function planOf(
  stage: Stage,
  given: SettingsSource,
  config: DecoderConfig,
  {
    promptLength,
    adapter,
    teacher = null,
  }: { promptLength: number; adapter: LoraOptions | null; teacher?: DecoderConfig | null },
): MemoryPlan {
  const { settings } = rehearsed[stage];
  const required = { modelNameOrPath: "model", rewardModelPath: "reward model" };
  const named = Object.fromEntries(Object.entries(required).filter(([name]) => name in settings.table));
  const resolved = settings.resolve([inFile(named, "the model"), given]);
  const o = resolved as Asked;
  const maxPositions = Math.min(config.maxPositions, teacher?.maxPositions ?? config.maxPositions);
  const samples = "numGenerations" in o || stage === "raft" || stage === "distill";
  const responseLength = samples ? (o.responseLength ?? null) : null;
  const asked = responseLength === null ? (o.maxLength ?? maxPositions) : promptLength + responseLength;
  const together = o.maxLengthOf === "sequence" ? (o.maxLength ?? maxPositions) : maxPositions;
  const length = Math.min(asked, together, maxPositions);
  const rewards = [...(o.rewardModelPath ? [o.rewardModelPath] : []), ...(o.rewardFuncs ?? [])];
  return {
    stage,
    config,
    lora: o.usePeft ? loraOptions(resolved) : adapter,
    adapted: adapter !== null,
    format: weightFormat(resolved),
    referenceFormat: o.refModelDtype ?? "auto",
    rewardFormat: o.rewardModelDtype ?? "auto",
    reference: referenceOf(stage, o),
    precompute: o.precomputeRefLogProbs ?? false,
    rewardModels: rewards.filter((path) => !isWeightless(path)).length,
    checkpointing: o.gradientCheckpointing ?? false,
    criticCheckpointing: o.criticGradientCheckpointing ?? o.gradientCheckpointing ?? false,
    half: o.fp16 ?? false,
    kvCache: o.kvCacheDtype ?? "auto",
    optim: o.optim ?? "adamw_torch",
    batchSize: o.perDeviceTrainBatchSize ?? 1,
    accumulation: o.gradientAccumulationSteps ?? 1,
    length,
    responseLength: responseLength ?? length - 1,
    ...rolloutSize(stage, resolved),
    evalExamples: (stage === "ppo" || stage === "distill") && o.evalSteps === 0 ? 0 : (o.maxEvalSamples ?? 0),
    dpo: stage === "dpo" || stage === "iterate" ? lossOf(resolved) : {},
    offload: o.offloadLevel ? levelsOf(o as { offloadLevel: string[] }) : [],
    average: (o.emaBeta ?? null) !== null,
    ptxLength: o.ptxDatasetName && o.ptxCoef !== 0 ? Math.min(o.maxPtxLength ?? maxPositions, maxPositions) : 0,
    teacher: teacher && { config: teacher, learned: resolved as unknown as DistillSettings },
  };
}

const lossOf = (o: object): DpoLossSettings =>
  Object.fromEntries(Object.entries(o).filter(([key]) => key in dpoLossSettings)) as DpoLossSettings;

function referenceOf(stage: Stage, o: Asked): MemoryPlan["reference"] {
  switch (stage) {
    case "dpo":
    case "kto":
      if (o.refModelNameOrPath) return "other";
      return o.precomputeRefLogProbs && !o.usePeft ? null : "start"; // the policy itself, before it is trained
    case "grpo":
    case "rloo":
    case "reinforce":
      return o.beta === 0 && !o.usePeft ? null : "start";
    case "ppo":
    case "raft":
    case "iterate":
      return "start";
    default:
      return null;
  }
}

/** Prompts per rollout, and responses per prompt. */
function rolloutSize(stage: Stage, resolved: object): Pick<MemoryPlan, "prompts" | "samples"> {
  const o = resolved as Asked;
  switch (stage) {
    case "ppo":
      return { prompts: o.rolloutBatchSize ?? 0, samples: o.numGenerations ?? 1 };
    case "raft": {
      const { promptsPerStep: prompts, samples } = sizes(resolved as Parameters<typeof sizes>[0]);
      return { prompts, samples };
    }
    case "grpo":
    case "rloo":
    case "reinforce": {
      const prompts = promptsPerRollout(resolved as CriticFreeSettings, (key) => key);
      return { prompts, samples: o.numGenerations ?? 1 };
    }
    case "distill":
      return { prompts: (o.perDeviceTrainBatchSize ?? 1) * (o.gradientAccumulationSteps ?? 1), samples: 1 };
    case "iterate":
      return {
        prompts: Math.min(PROMPTS_AT_ONCE, o.promptsPerIteration ?? PROMPTS_AT_ONCE),
        samples: o.numGenerations ?? 1,
      };
    default:
      return { prompts: 0, samples: 1 };
  }
}
