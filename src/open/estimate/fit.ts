/** Does a training run fit, and what would make it fit? */

import { offloadLevels } from "../../rlhf/offload.ts";
import { snakeCase } from "../../runtime/names.ts";
import { loraOptions } from "../opener.ts";
import { estimateMemory, kinds, type MemoryEstimate } from "./memory.ts";
import type { MemoryPlan } from "./plan.ts";

/** Settings in a trainer's own names. */
type Changed = Record<string, unknown>;

/** A change of settings and the plan with it; null where it changes nothing. `first` is the plan as it was asked for. */
type Knob = (plan: MemoryPlan, first: MemoryPlan) => { settings: Changed; plan: MemoryPlan } | null;

const withBatch =
  (least: number): Knob =>
  (plan, first) => {
    const size = plan.stage === "kto" ? Math.max(2, least) : least; // KTO compares answers within a batch
    if (plan.batchSize <= size) return null;
    const accumulation = Math.ceil((first.batchSize * first.accumulation) / size); // as many sequences in a step as before
    const same = plan.stage === "grpo" || plan.stage === "rloo"; // of these, a rollout is else what a step learns
    const settings = {
      perDeviceTrainBatchSize: size,
      gradientAccumulationSteps: accumulation,
      ...(same && { generationBatchSize: plan.prompts * plan.samples }),
    };
    return { settings, plan: { ...plan, batchSize: size, accumulation } };
  };

const withOffload: Knob = (plan) => {
  if (plan.stage !== "ppo" || plan.offload.length === offloadLevels.length) return null;
  return { settings: { offloadLevel: [...offloadLevels] }, plan: { ...plan, offload: offloadLevels } };
};

/** A teacher is the larger of two models, and not trained. */
const withTeacher =
  (format: "int8" | "int4"): Knob =>
  (plan) => {
    const now = plan.referenceFormat === "auto" ? plan.format : plan.referenceFormat;
    if (!plan.teacher || now === format || now === "int4") return null;
    return { settings: { refModelDtype: format }, plan: { ...plan, referenceFormat: format } };
  };

/** What is tried, one after the other, each on top of those before it: what costs least comes first. */
const knobs: readonly Knob[] = [
  withBatch(4),
  (plan) =>
    plan.checkpointing
      ? null
      : {
          settings: { gradientCheckpointing: true },
          plan: { ...plan, checkpointing: true, criticCheckpointing: true },
        },
  withBatch(1),
  withOffload,
  withTeacher("int8"),
  withTeacher("int4"),
  (plan) => (plan.lora ? null : { settings: { usePeft: true }, plan: { ...plan, lora: loraOptions({}) } }),
  (plan) =>
    plan.lora && plan.format === "float32" ? { settings: { dtype: "int8" }, plan: { ...plan, format: "int8" } } : null,
  (plan) =>
    plan.lora && plan.format !== "int4" ? { settings: { dtype: "int4" }, plan: { ...plan, format: "int4" } } : null,
];

/** A change of settings, and what a run takes with it. */
export interface Remedy {
  /** Settings of the trainer, to be added or changed. */
  settings: Record<string, unknown>;
  /** The same as flags of the command line. */
  flags: string;
  estimate: MemoryEstimate;
}

/** The first knobs that make a plan fit into `limit` bytes, and what it takes then; null where none does. */
export async function whatWouldFit(plan: MemoryPlan, limit: number): Promise<Remedy | null> {
  let current = plan;
  const settings: Changed = {};
  for (const knob of knobs) {
    const changed = knob(current, plan);
    if (!changed) continue;
    current = changed.plan;
    Object.assign(settings, changed.settings); // a later value replaces an earlier one
    const estimate = await estimateMemory(current);
    if (fits(estimate, limit)) return { settings, flags: flagsOf(settings), estimate };
  }
  return null;
}

const flagsOf = (settings: Changed): string =>
  Object.entries(settings)
    .map(([key, value]) => `--${snakeCase(key)}${value === true ? "" : ` ${value}`}`)
    .join(" ");

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
