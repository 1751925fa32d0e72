/** Options of low-rank adapters, as callers say them. */

/** How a low-rank adapter is made: its size, and which modules it adapts. */
export interface LoraOptions {
  rank: number;
  alpha: number;
  /** Part of the adapters' input that drops out in training. Default 0. */
  dropout?: number;
  /** Scales by alpha / sqrt(rank) instead of alpha / rank. Default false. */
  rsLora?: boolean;
  /**
   * Trains the lengths of the adapted weights' rows besides (DoRA, Liu et al. 2024). The base must be in float32. Default false.
   */
  dora?: boolean;
  /** Ends of module names ("q_proj", "attn.c_attn"), or every linear layer but the head. Default: as PEFT, by family. */
  targets?: readonly string[] | "all-linear";
  /** Ends of names of modules that are trained whole, as copies ("score", "lm_head", "embed_tokens"). Default none. */
  modulesToSave?: readonly string[];
  /** How A starts, B being zero: uniform in +-1/sqrt(in), or normal with deviation 1/rank. Default "kaiming". */
  init?: "kaiming" | "gaussian";
  /** Rank and alpha of single modules, by their whole names, where they differ. */
  exceptions?: ReadonlyMap<string, { rank: number; alpha: number }>;
}
