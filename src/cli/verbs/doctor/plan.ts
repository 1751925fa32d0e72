/** What a trainer's options mean for its memory. */
import type { DecoderConfig } from "../../../nn/config.ts";
import type { LoraOptions } from "../../../nn/lora-options.ts";
import type { OffloadLevel } from "../../../rlhf/ppo/offload.ts";
import type { DpoOptions } from "../../../rlhf/preference/dpo.ts";
import { UserError } from "../../../runtime/errors.ts";
import type { WeightFormat } from "../../../tensor/quantize.ts";
import { loraOptions } from "../../models/lora-options.ts";
import { WORLD } from "../../models/models.ts";
import { isUrl } from "../../models/reward-server.ts";
import { weightFormat } from "../../models/weight-options.ts";
import { resolveOptions, type Table, type Values } from "../../option.ts";
import { grpoOptions, reinforceOptions, rlooOptions } from "../../options/critic-free.ts";
import { cpoOptions, dpoOptions, ktoOptions, orpoOptions } from "../../options/dpo.ts";
import { iterateOptions } from "../../options/iterate.ts";
import { pairwiseOptions } from "../../options/pairwise.ts";
import { ppoOptions } from "../../options/ppo.ts";
import { raftOptions } from "../../options/raft.ts";
import { costOptions, rewardOptions } from "../../options/reward.ts";
import { sftOptions } from "../../options/sft.ts";
import { promptsPerRollout } from "../critic-free.ts";
import { lossOptions } from "../dpo.ts";
import { offloadLevelsOf } from "../ppo.ts";

const tables = {
  sft: sftOptions,
  reward: rewardOptions,
  cost: costOptions,
  pairwise: pairwiseOptions,
  dpo: dpoOptions,
  kto: ktoOptions,
  orpo: orpoOptions,
  cpo: cpoOptions,
  ppo: ppoOptions,
  raft: raftOptions,
  grpo: grpoOptions,
  rloo: rlooOptions,
  reinforce: reinforceOptions,
  iterate: iterateOptions,
} satisfies Record<string, Table>;

/** The trainers that can be rehearsed. */
export type Stage = keyof typeof tables;
export const stages = Object.keys(tables) as Stage[];

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
  dpo: Partial<DpoOptions>;
  /** What of PPO leaves the GPU by turns. */
  offload: readonly OffloadLevel[];
  /** PPO keeps a moving average of the policy. */
  average: boolean;
  /** Length of the sequences that are learned beside PPO; 0: there are none. */
  ptxLength: number;
}

/** `--learning_rate 1e-3 --use_peft --top_k=5` as a record. */
export function looseOptions(words: readonly string[]): Record<string, string> {
  const values: Record<string, string> = {};
  for (let i = 0; i < words.length; i++) {
    const [name, ...rest] = words[i].split("=");
    if (!name.startsWith("--")) throw new UserError(`"${words[i]}" is not an option of the trainer`);
    const next = words[i + 1];
    if (rest.length > 0) values[name.slice(2)] = rest.join("=");
    else if (next !== undefined && !next.startsWith("--")) values[name.slice(2)] = words[++i];
    else values[name.slice(2)] = "true";
  }
  return values;
}

/** Prompts that an iteration samples for at once; more of them take no more memory. */
const PROMPTS_AT_ONCE = 64;

/** What is read of the options; a trainer has some of them. */
type Options = Partial<
  Pick<
    Values<typeof sftOptions>,
    | "use_peft"
    | "fp16"
    | "gradient_checkpointing"
    | "per_device_train_batch_size"
    | "gradient_accumulation_steps"
    | "max_length"
    | "max_eval_samples"
  > &
    Pick<Values<typeof dpoOptions>, "ref_model_name_or_path" | "ref_model_dtype" | "precompute_ref_log_probs"> &
    Pick<Values<typeof ppoOptions>, "reward_model_path" | "reward_model_dtype" | "response_length"> &
    Pick<Values<typeof ppoOptions>, "rollout_batch_size" | "num_return_sequences" | "eval_steps"> &
    Pick<Values<typeof ppoOptions>, "critic_gradient_checkpointing" | "offload_level" | "ema_beta"> &
    Pick<Values<typeof ppoOptions>, "ptx_dataset_name" | "max_ptx_length" | "ptx_coef"> &
    Pick<Values<typeof raftOptions>, "output_max_length" | "raft_batch_size"> &
    Pick<Values<typeof raftOptions>, "top_reward_percentage" | "collection_strategy"> &
    Pick<Values<typeof grpoOptions>, "max_completion_length" | "num_generations" | "reward_funcs" | "beta"> &
    Pick<Values<typeof iterateOptions>, "prompts_per_iteration">
>;

/**
 * The plan of a run with these options.
 * @param promptLength of the rollouts' prompts, in tokens
 * @param adapter of the model's folder, if it is one
 */
export function planOf(
  stage: Stage,
  given: Record<string, string>,
  config: DecoderConfig,
  { promptLength, adapter }: { promptLength: number; adapter: LoraOptions | null },
): MemoryPlan {
  const table: Table = tables[stage];
  const required = { model_name_or_path: "model", reward_model_path: "reward model" };
  const named = Object.fromEntries(Object.entries(required).filter(([name]) => table[name]));
  const o = resolveOptions(table, [
    { where: "the model", values: named },
    { where: "command line", values: given },
  ]) as Options;
  const { maxPositions } = config;
  const responseLength = o.response_length ?? o.output_max_length ?? o.max_completion_length ?? null;
  const asked = responseLength === null ? (o.max_length ?? maxPositions) : promptLength + responseLength;
  const length = Math.min(asked, maxPositions);
  const rewards = [o.reward_model_path ?? WORLD, ...(o.reward_funcs ?? [])];
  return {
    stage,
    config,
    lora: o.use_peft ? loraOptions(o) : adapter,
    adapted: adapter !== null,
    format: weightFormat(o),
    referenceFormat: o.ref_model_dtype ?? "auto",
    rewardFormat: o.reward_model_dtype ?? "auto",
    reference: referenceOf(stage, o),
    precompute: o.precompute_ref_log_probs ?? false,
    rewardModels: rewards.filter((path) => path !== WORLD && !isUrl(path)).length,
    checkpointing: o.gradient_checkpointing ?? false,
    criticCheckpointing: o.critic_gradient_checkpointing ?? o.gradient_checkpointing ?? false,
    half: o.fp16 ?? false,
    batchSize: o.per_device_train_batch_size ?? 1,
    accumulation: o.gradient_accumulation_steps ?? 1,
    length,
    responseLength: responseLength ?? length - 1,
    ...rolloutSize(stage, o),
    evalExamples: stage === "ppo" && o.eval_steps === 0 ? 0 : (o.max_eval_samples ?? 0),
    dpo: stage === "dpo" || stage === "iterate" ? lossOptions(o as Parameters<typeof lossOptions>[0]) : {},
    offload: offloadLevelsOf(o.offload_level ?? []),
    average: (o.ema_beta ?? null) !== null,
    ptxLength: o.ptx_dataset_name && o.ptx_coef !== 0 ? Math.min(o.max_ptx_length ?? maxPositions, maxPositions) : 0,
  };
}

function referenceOf(stage: Stage, o: Options): MemoryPlan["reference"] {
  switch (stage) {
    case "dpo":
    case "kto":
      if (o.ref_model_name_or_path) return "other";
      return o.precompute_ref_log_probs && !o.use_peft ? null : "start"; // the policy itself, before it is trained
    case "grpo":
    case "rloo":
    case "reinforce":
      return o.beta === 0 && !o.use_peft ? null : "start";
    case "ppo":
    case "raft":
    case "iterate":
      return "start";
    default:
      return null;
  }
}

/** Prompts per rollout, and responses per prompt. */
function rolloutSize(stage: Stage, o: Options): Pick<MemoryPlan, "prompts" | "samples"> {
  switch (stage) {
    case "ppo":
      return { prompts: o.rollout_batch_size ?? 0, samples: o.num_return_sequences ?? 1 };
    case "raft": {
      const share = o.top_reward_percentage ?? 1;
      const kept = o.raft_batch_size ?? 0;
      if (o.collection_strategy === "top") return { prompts: Math.round(kept / share), samples: 1 };
      return { prompts: kept, samples: Math.round(1 / share) };
    }
    case "grpo":
    case "rloo":
    case "reinforce":
      return {
        prompts: promptsPerRollout(o as Parameters<typeof promptsPerRollout>[0]),
        samples: o.num_generations ?? 1,
      };
    case "iterate":
      return {
        prompts: Math.min(PROMPTS_AT_ONCE, o.prompts_per_iteration ?? PROMPTS_AT_ONCE),
        samples: o.num_return_sequences ?? 1,
      };
    default:
      return { prompts: 0, samples: 1 };
  }
}
