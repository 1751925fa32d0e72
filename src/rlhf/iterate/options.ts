/** What online iterative DPO is told and given. */

import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { RunFolder } from "../checkpoint.ts";
import type { DpoOptions } from "../preference/dpo.ts";
import type { RewardFunction } from "../rewards.ts";
import type { Prompt, Response, Sampler } from "../sampler.ts";
import type { RowJudge } from "./annotate.ts";
import type { PairOptions } from "./pairs.ts";

/** The DPO part is one iteration's: its epochs or steps, and its own warm-up and decay. */
export interface IterateOptions extends Omit<DpoOptions, "train" | "eval" | "run" | "resume"> {
  iterations: number;
  /** New prompts in each iteration; no prompt is used twice. 0 shares all prompts out evenly. */
  promptsPerIteration: number;
  /** K, responses per prompt. */
  samples: number;
  temperature: number;
  topK: number;
  topP: number;
  responseLength: number;
  /** Ids of the tokens that end a response. Default: the model's. */
  eosIds?: readonly number[];
  /**
   * What DPO measures the policy against: "initial", the model that the run started from (LMFlow, the papers), or
   * "previous", the model that the iteration started from (Online-RLHF's scripts).
   */
  reference: "initial" | "previous";
  pairs: Omit<PairOptions, "seed">;
  /** Responses per iteration to show. */
  showSamples: number;
}

export interface IterateInputs {
  /** Trained in place. */
  policy: CausalLM;
  /** The model that the run starts from, as a model of its own: for the KL, and as the reference "initial". */
  initial: CausalLM;
  tokenizer: Tokenizer;
  prompts: readonly Prompt[];
  judge: RowJudge;
  /** Draws the responses instead of the policy: a server that has the policy's weights at each iteration's beginning. */
  sampler?: Sampler;
  /**
   * Held-out prompts, and a reward for single responses where there is one: the policy is measured on them before and after
   * each iteration.
   */
  evaluation?: { prompts: readonly Prompt[]; reward?: RewardFunction };
  /** The true reward, where there is one: reported, never trained on. */
  gold?: (response: Response) => number;
  run: RunFolder;
  resume?: boolean;
  /** Told how far a stage of an iteration is. */
  progress?: (iteration: number, stage: "sampling" | "scoring", done: number, total: number) => void;
}
