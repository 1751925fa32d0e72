/** What a rollout looks like to somebody who looks into it: its responses token by token, and the parts of its step. */

/**
 * A response of a rollout with all that was measured on it; arrays are by response token, of an episode by the tokens that the
 * policy wrote.
 */
export interface RolloutRow {
  prompt: string;
  response: string;
  /** It ended by itself. */
  ended: boolean;
  ids: number[];
  /** What each token adds to the text, special tokens included: "" of one in the middle of a character. */
  texts: string[];
  /** Under the policy that sampled, in nats. */
  logProbs: number[];
  /** Under the reference; none where there is no reference. */
  refLogProbs?: number[];
  /** Terms of the KL penalty; none where there is no reference. */
  kl?: number[];
  /** The weighted sum of the reward functions' numbers. */
  score: number;
  /** The score as it enters the rewards: less the penalty for a response that was cut off, normalised, not yet clipped. */
  finalScore: number;
  /**
   * Shaped: the final score at the end, minus the KL terms times their weight everywhere. One longer than the response where
   * the score has a slot after it; likewise values and returns.
   */
  rewards: number[];
  /** The critic's, before the step; none without a critic. */
  values?: number[];
  advantages: number[];
  /** What the values are to become; none without a critic. */
  returns?: number[];
  /** The policy before the first optimizer step on the rollout, then after each. */
  updates: PolicyUpdate[];
  /** The critic before its first optimizer step on the rollout, then after each; none without a critic. */
  valueUpdates?: ValueUpdate[];
}

/** A response under the policy after an optimizer step; arrays are by response token. */
export interface PolicyUpdate {
  /** Whether the step learned from this response. */
  learned: boolean;
  logProbs: number[];
  /** Of the probability to that under the policy that sampled, as the loss takes it: 1 until something was learned. */
  ratios: number[];
  /** Whether the loss is constant in the ratio: the advantage asks for a change that the clip does not reward any more. */
  clipped: boolean[];
}

/** A response's values after an optimizer step of the critic. */
export interface ValueUpdate {
  /** Whether the step learned from this response. */
  learned: boolean;
  values: number[];
  /** Whether the loss takes the clipped value, which is farther from the return. */
  clipped: boolean[];
}

/** A part of a step that is done, with what it found of each shown response, in one order throughout. */
export type Phase =
  | { phase: "sample"; rows: Pick<RolloutRow, "prompt" | "response" | "ended" | "ids" | "texts" | "logProbs">[] }
  /** `klCoef` is what the KL terms count in the rewards. */
  | { phase: "score"; klCoef: number; rows: Pick<RolloutRow, "score" | "finalScore" | "refLogProbs" | "kl">[] }
  | { phase: "advantage"; rows: Pick<RolloutRow, "rewards" | "values" | "advantages" | "returns">[] }
  /** The `update`th of so many optimizer steps on the rollout, with the loss that it went down. */
  | { phase: "update"; model: "policy"; update: number; updates: number; loss: number; rows: PolicyUpdate[] }
  | { phase: "update"; model: "critic"; update: number; updates: number; loss: number; rows: ValueUpdate[] };
