/** What a training run takes, before anything is loaded. */
import { openDevice } from "../gpu/device.ts";
import { rehearse } from "../gpu/rehearsal.ts";
import type { DecoderConfig } from "../nn/config.ts";
import { type AdapterFolder, readAdapterFolder } from "../nn/peft.ts";
import { loadConfig } from "../nn/pretrained.ts";
import { UserError } from "../runtime/errors.ts";
import { inCode, type SettingsSource } from "../settings/index.ts";
import { fits, type Remedy, whatWouldFit } from "./estimate/fit.ts";
import { estimateMemory, type MemoryEstimate } from "./estimate/memory.ts";
import { planOf, type Stage, stages, teacherNamed } from "./estimate/plan.ts";
import { countParameters } from "./estimate/rehearsal.ts";
import { type HubChoice, lookAt } from "./hub.ts";
import type { Surroundings } from "./surroundings.ts";

/** About what an estimate is made, beside the trainer's settings. */
export interface EstimateOptions extends HubChoice, Surroundings {
  /** Tokens of a rollout's prompt. Default 64. */
  promptLength?: number | undefined;
  /** Bytes of GPU memory that there are. Default: not known, so that everything fits that the device can bind. */
  memory?: number | undefined;
  /** Base of an adapter's folder. Default: what its adapter_config.json names. */
  baseModelNameOrPath?: string | null | undefined;
}

/** Memory, download and numbers of a training run, before it is begun. */
export interface RunEstimate {
  /** Numbers in the model, its adapter's included; null where `memory.refused` says that it is too large for the device. */
  parameters: number | null;
  /** Those of them that are trained. */
  trained: number | null;
  /** Bytes of the model, and of its teacher, that are still to be downloaded; 0 where they are here. */
  download: number;
  /** GPU memory at the peak; `refused` says why the run cannot work on this device at all. */
  memory: MemoryEstimate;
  /** Whether that fits into the memory that was named. */
  fits: boolean;
  /** What to change so that it fits; null where it does, or where nothing helps. */
  remedy: Remedy | null;
  /** Sequences, pairs or answers in one pass. */
  batchSize: number;
  /** Tokens of the longest sequence. */
  length: number;
  /** Reward models, each taken to be as large as the policy, or an adapter on its base where they are `shared`. */
  rewardModels: number;
  /** The models are adapters on one base. */
  shared: boolean;
}

/**
 * Estimates what a training run takes, e.g. `estimateRun("dpo", "org/name:Q4_K_M", { usePeft: true, dtype: "int8" })`. Of a model on
 * the hub only the configuration is fetched. The trainer's own program is rehearsed on a device that computes and allocates
 * nothing: use nothing else on the device meanwhile. Opens a device where none is open.
 * @param trainer its name: "sft", "dpo", "ppo"
 * @param settings of the trainer, in code's names
 * @throws UserError naming the setting, field or file that is wrong
 */
export async function estimateRun(
  trainer: string,
  model: string,
  settings: Readonly<Record<string, unknown>> = {},
  options: EstimateOptions = {},
): Promise<RunEstimate> {
  return estimateWith(trainer, model, inCode(settings), options);
}

/** The same with settings from anywhere, as they were written there. */
export async function estimateWith(
  trainer: string,
  model: string,
  given: SettingsSource,
  options: EstimateOptions = {},
): Promise<RunEstimate> {
  const stage = stageOf(trainer);
  const { promptLength = 64, memory: limit = Number.POSITIVE_INFINITY } = options;
  const { config, adapter, download } = await look(model, options);
  const own = adapter && { ...adapter, targets: adapter.targets ?? ("all-linear" as const) };
  const taught = teacherNamed(stage, given);
  const teacher = taught === null ? null : await look(taught, { ...options, baseModelNameOrPath: null });
  const plan = planOf(stage, given, config, { promptLength, adapter: own, teacher: teacher?.config ?? null });
  await openDevice();
  const memory = await estimateMemory(plan);
  let counted: Pick<RunEstimate, "parameters" | "trained"> = { parameters: null, trained: null };
  if (memory.refused === null) {
    await rehearse(async () => {
      counted = countParameters(plan);
    });
  }
  const { batchSize, length, rewardModels } = plan;
  const remedy = fits(memory, limit) ? null : await whatWouldFit(plan, limit);
  const shared = plan.lora !== null;
  const missing = download + (taught === model ? 0 : (teacher?.download ?? 0));
  return {
    ...counted,
    download: missing,
    memory,
    fits: fits(memory, limit),
    remedy,
    batchSize,
    length,
    rewardModels,
    shared,
  };
}

function stageOf(trainer: string): Stage {
  const stage = stages.find((name) => name === trainer);
  if (stage) return stage;
  throw new UserError(`what ${JSON.stringify(trainer)} takes is not known: name one of ${stages.join(", ")}`);
}

/** The configuration of a model, or of an adapter's base. */
async function look(
  name: string,
  options: EstimateOptions,
): Promise<{ config: DecoderConfig; adapter: AdapterFolder | null; download: number }> {
  const at = await lookAt(name, options);
  const adapter = await readAdapterFolder(at.files, at.path);
  if (!adapter) return { config: await loadConfig(at.files, at.path), adapter, download: at.download };
  const base = options.baseModelNameOrPath ?? adapter.basePath;
  if (!base) {
    throw new UserError(`${name} is an adapter that does not say which model it belongs to: name its base`);
  }
  const below = await lookAt(base, options);
  return { config: await loadConfig(below.files, below.path), adapter, download: at.download + below.download };
}
