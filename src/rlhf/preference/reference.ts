/**
 * The reference of preference training: the policy as it should stay. A frozen model; the policy itself with its adapter
 * off, which costs no memory; or log-probabilities that were computed once, after which no reference is needed.
 */
import { CausalLM } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import { lerpInto } from "../../tensor/ops/lerp.ts";
import type { Sequence } from "../batch.ts";
import { responseLogProbs } from "../rollout.ts";
import type { Recipe } from "../supervised.ts";

/** Where the reference's log-probabilities come from; "precomputed": from the examples, see `precomputeReference`. */
export type Reference = CausalLM | "adapter off" | "precomputed";

/** The model of a reference, or null where the examples have its log-probabilities. */
export function referenceModel(policy: CausalLM, reference: Reference): CausalLM | null {
  if (reference === "precomputed") return null;
  if (reference !== "adapter off") return reference;
  if (policy.baseModel instanceof CausalLM) return policy.baseModel;
  throw new UserError("the reference is the policy without its adapter, but the policy has none: give a model instead");
}

export interface SyncOptions {
  /** Move the reference to the policy every `syncSteps` steps (TR-DPO, Gorbatovski et al. 2024). Default false. */
  syncReference?: boolean;
  /** alpha in ref <- alpha policy + (1 - alpha) ref. Default 0.6. */
  mixupAlpha?: number;
  /** Default 512. */
  syncSteps?: number;
}

export const syncDefaults = { syncReference: false, mixupAlpha: 0.6, syncSteps: 512 };

/**
 * What keeps the reference near the policy, for `trainOnExamples`: nothing, unless asked for.
 * Throws `UserError` where the reference is not a model with weights of its own.
 */
export function referenceSync(
  policy: CausalLM,
  reference: CausalLM | null,
  options: SyncOptions,
): Pick<Recipe<never>, "afterStep" | "companions"> {
  const { syncReference, mixupAlpha, syncSteps } = { ...syncDefaults, ...options };
  if (!syncReference) return {};
  if (!reference || reference === policy || policy.adapter || reference.adapter) {
    throw new UserError(
      "sync_ref_model needs a reference with weights of its own: train the whole model, and precompute nothing",
    );
  }
  return {
    afterStep: (done) => {
      if (done % syncSteps === 0) lerpInto(reference.store, policy.store, mixupAlpha);
    },
    companions: { reference: { model: reference } },
  };
}

/** A pair with the reference's log-probabilities of its answers' tokens. */
export interface ReferencedPair {
  chosen: Uint32Array;
  rejected: Uint32Array;
  promptLength: number;
  rejectedPromptLength?: number;
  reference?: { chosen: Float32Array; rejected: Float32Array };
}

const PAIRS_AT_ONCE = 64;

/**
 * Adds the reference's log-probabilities to pairs, a number for each answer token.
 * @param reference the policy itself, before it is trained, serves as well
 * @param fp16 whether the policy will be trained in half precision, so that both start alike. Default false.
 * @param progress told how many pairs are done
 */
export async function precomputeReference<P extends ReferencedPair>(
  reference: CausalLM,
  pairs: readonly P[],
  { fp16 = false, progress }: { fp16?: boolean; progress?: (done: number, total: number) => void } = {},
): Promise<P[]> {
  const done: P[] = [];
  reference.half = fp16;
  try {
    for (let at = 0; at < pairs.length; at += PAIRS_AT_ONCE) {
      const part = pairs.slice(at, at + PAIRS_AT_ONCE);
      const sequences = part.flatMap(({ chosen, rejected, promptLength, rejectedPromptLength }): Sequence[] => [
        { ids: chosen, promptLength },
        { ids: rejected, promptLength: rejectedPromptLength ?? promptLength },
      ]);
      const { logProbs } = await responseLogProbs(reference, sequences);
      part.forEach((pair, i) => {
        done.push({ ...pair, reference: { chosen: logProbs[2 * i].slice(), rejected: logProbs[2 * i + 1].slice() } });
      });
      progress?.(done.length, pairs.length);
    }
  } finally {
    reference.half = false;
  }
  return done;
}
