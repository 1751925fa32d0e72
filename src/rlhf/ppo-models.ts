/** What PPO is given: its models, its prompts, and sequences to remember. */
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import type { Sequence } from "./batch.ts";
import type { ActingModels } from "./environment/acting.ts";
import type { AlignmentModels } from "./partners.ts";
import type { PromptData } from "./sampler.ts";

/** The models of a run. What is left out is made from the policy, and freed in the end. */
export interface PpoModels extends AlignmentModels, ActingModels {
  /** The policy as it started: a copy, or the base that its adapter stands on. It must not be trained with the policy. */
  reference?: CausalLM;
  /** Trained in place. Default: the policy's body with a fresh head. All models may stand on one base. */
  critic?: ScoreModel;
  /** A second policy as it starts, to become the moving average of the first, for `emaBeta`. */
  average?: CausalLM;
}

/** Prompts, mostly, and supervised sequences that are learned beside the responses; `ptxEval` shows what is forgotten. */
export type PpoData = PromptData & { ptx?: readonly Sequence[]; ptxEval?: readonly Sequence[] };
