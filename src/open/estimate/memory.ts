/**
 * How much GPU memory a training run will take, before any of it is taken: the real trainer is rehearsed for a step or
 * two with the run's own options, on sequences as long as the options allow.
 */
import { rehearse } from "../../gpu/rehearsal.ts";
import { isUserError } from "../../runtime/errors.ts";
import type { MemoryPlan } from "./plan.ts";
import { rehearseRun } from "./rehearsal.ts";

/** A use of GPU memory; "moments" are the optimizer's, "transfers" the buffers between CPU and GPU. */
export type Kind = "weights" | "gradients" | "moments" | "kv cache" | "activations" | "transfers";
export const kinds: readonly Kind[] = ["weights", "gradients", "moments", "kv cache", "activations", "transfers"];

/** GPU memory that a training run takes. */
export interface MemoryEstimate {
  /** Bytes at the peak. */
  total: number;
  byKind: Record<Kind, number>;
  /** Why the run cannot work here at all, e.g. a matrix beyond the adapter's binding limit; else null. */
  refused: string | null;
}

/** Rehearses the plan on the capabilities of the open device. */
export async function estimateMemory(plan: MemoryPlan): Promise<MemoryEstimate> {
  const byKind = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<Kind, number>;
  try {
    const { peak, atPeak } = await rehearse(() => rehearseRun(plan));
    for (const [label, bytes] of atPeak) byKind[kindOf(label)] += bytes;
    return { total: peak, byKind, refused: null };
  } catch (error) {
    if (!isUserError(error)) throw error;
    return { total: Number.POSITIVE_INFINITY, byKind, refused: error.message };
  }
}

/** Buffers come with the names of what they were first made for. Pooled ones serve as anything later. */
function kindOf(label: string): Kind {
  if (/ (first|second) moments$/.test(label)) return "moments";
  if (/ gradients \(/.test(label)) return "gradients";
  if (/ parameters \(/.test(label) || /\.weight( scales)?$/.test(label)) return "weights";
  if (/^(key|value) cache$/.test(label)) return "kv cache";
  if (/^(upload staging|readback|scalar arena)$/.test(label)) return "transfers";
  return "activations";
}
