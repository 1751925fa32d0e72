/** Does a training run fit, and what would make it fit? */
import type { DecoderConfig } from "../../../nn/config.ts";
import type { LoraOptions } from "../../../nn/lora.ts";
import { UserError } from "../../../runtime/errors.ts";
import { loraOptions } from "../../models/lora-options.ts";
import { weightFormat } from "../../models/weight-options.ts";
import { resolveOptions, type Table } from "../../option.ts";
import { ppoOptions } from "../../options/ppo.ts";
import { raftOptions } from "../../options/raft.ts";
import { rewardOptions } from "../../options/reward.ts";
import { sftOptions } from "../../options/sft.ts";
import { estimateMemory, kinds, type MemoryEstimate, type MemoryPlan, type Stage } from "./memory.ts";

const tables: Record<Stage, Table> = { sft: sftOptions, reward: rewardOptions, ppo: ppoOptions, raft: raftOptions };

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

/**
 * What a trainer's options mean for its memory.
 * @param promptLength of the rollouts' prompts, in tokens
 * @param adapter of the model's folder, if it is one
 */
export function planOf(
  stage: Stage,
  given: Record<string, string>,
  config: DecoderConfig,
  { promptLength, adapter }: { promptLength: number; adapter: LoraOptions | null },
): MemoryPlan {
  const required = { model_name_or_path: "model", ...(stage !== "sft" && { reward_model_path: "reward model" }) };
  const named = Object.fromEntries(Object.entries(required).filter(([name]) => tables[stage][name]));
  const o = resolveOptions(tables[stage], [{ where: "command line", values: { ...named, ...given } }]) as Record<
    string,
    never
  >;
  const rollout = stage === "ppo" || stage === "raft";
  const responseLength: number = (o.response_length ?? o.output_max_length ?? 0) as number;
  const asked: number = rollout ? promptLength + responseLength : (o.max_length ?? config.maxPositions);
  const share: number = o.top_reward_percentage ?? 1;
  const local = o.collection_strategy !== "top";
  return {
    stage,
    config,
    lora: o.use_peft ? loraOptions(o) : adapter,
    format: weightFormat(o),
    rewardModel: rollout && given.reward_model_path !== "builtin:world",
    checkpointing: o.gradient_checkpointing === true,
    half: o.fp16 === true,
    batchSize: o.per_device_train_batch_size,
    length: Math.min(asked, config.maxPositions),
    responseLength: rollout ? responseLength : Math.min(asked, config.maxPositions) - 1,
    prompts: stage === "raft" ? Math.round(o.raft_batch_size / (local ? 1 : share)) : (o.rollout_batch_size ?? 0),
    samples: stage === "raft" ? (local ? Math.round(1 / share) : 1) : (o.num_return_sequences ?? 1),
    evalExamples: o.max_eval_samples ?? 0,
  };
}

/** A change of options and the plan with it; null where it changes nothing. `first` is the plan as it was asked for. */
type Knob = (plan: MemoryPlan, first: MemoryPlan) => { flags: string; plan: MemoryPlan } | null;

const withBatch =
  (size: number): Knob =>
  (plan, first) => {
    if (plan.batchSize <= size) return null;
    const steps = Math.ceil(first.batchSize / size); // as many sequences in a step as before
    const flags = `--per_device_train_batch_size ${size} --gradient_accumulation_steps ${steps}`;
    return { flags, plan: { ...plan, batchSize: size } };
  };

/** What is tried, one after the other, each on top of those before it: what costs least comes first. */
const knobs: readonly Knob[] = [
  withBatch(4),
  (plan) => (plan.checkpointing ? null : { flags: "--gradient_checkpointing", plan: { ...plan, checkpointing: true } }),
  withBatch(1),
  (plan) => (plan.lora ? null : { flags: "--use_peft", plan: { ...plan, lora: loraOptions({}) } }),
  (plan) =>
    plan.lora && plan.format === "float32" ? { flags: "--dtype int8", plan: { ...plan, format: "int8" } } : null,
  (plan) => (plan.lora && plan.format !== "int4" ? { flags: "--dtype int4", plan: { ...plan, format: "int4" } } : null),
];

/** The first knobs that make a plan fit into `limit` bytes, and what it takes then; null where none does. */
export async function whatWouldFit(
  plan: MemoryPlan,
  limit: number,
): Promise<{ flags: string; estimate: MemoryEstimate } | null> {
  let current = plan;
  const flags = new Map<string, string>();
  for (const knob of knobs) {
    const changed = knob(current, plan);
    if (!changed) continue;
    current = changed.plan;
    flags.set(changed.flags.split(" ")[0], changed.flags); // a later value replaces an earlier one
    const estimate = await estimateMemory(current);
    if (fits(estimate, limit)) return { flags: [...flags.values()].join(" "), estimate };
  }
  return null;
}

export const fits = ({ total, refused }: MemoryEstimate, limit: number): boolean => refused === null && total <= limit;

/** "1.50 GiB". */
export function size(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
}

/** "weights 513 MiB, gradients 513 MiB, ...", without what takes nothing. */
export const parts = ({ byKind }: MemoryEstimate): string =>
  kinds
    .filter((kind) => byKind[kind] > 0)
    .map((kind) => `${kind} ${size(byKind[kind])}`)
    .join(", ");
