/** How much an engine does between two looks at its queue, and who has had a slot for long enough. */
import type { EngineSample } from "./generation.ts";

/** Decode steps between reads, at most. */
export const MAX_STEPS = 16;
/** Prompt tokens run in one turn: bounds memory. */
export const PREFILL_TOKENS = 4096;
/** Fewer would not fill a pass. */
const LEAST_UNITS = 32;
/** Decode steps may take so long; prompts less beside them, since everybody who decodes waits for these. */
const TURN_MS = 50;
const PROMPTS_MS = { alone: 50, beside: 25 };

/** What a turn does: decode steps, and prompt tokens (more for those that are scored). */
export interface Work {
  steps: number;
  units: number;
}

/** How long work takes on this device, learned from the turns that were. */
export class Pace {
  private stepMs = 10;
  private unitMs = 0.5;

  took({ steps, units }: Work, ms: number): void {
    const expected = steps * this.stepMs + units * this.unitMs;
    if (expected === 0) return;
    // Where a turn had both, either may be why it took longer. A kernel that had to be compiled is no rule.
    const factor = Math.min(4, Math.max(0.25, ms / expected));
    if (steps > 0) this.stepMs *= factor ** (0.5 * ((steps * this.stepMs) / expected));
    if (units > 0) this.unitMs *= factor ** (0.5 * ((units * this.unitMs) / expected));
  }

  /** Decode steps for a turn. */
  steps(): number {
    return Math.max(1, Math.min(MAX_STEPS, Math.round(TURN_MS / this.stepMs)));
  }

  /**
   * Units of prompts for a turn, of which few different numbers keep few kernels compiled.
   * @param beside whether others decode
   */
  units(beside: boolean): number {
    const ms = beside ? PROMPTS_MS.beside : PROMPTS_MS.alone;
    return Math.max(LEAST_UNITS, 2 ** Math.floor(Math.log2(ms / this.unitMs)));
  }
}

/** Tokens that a sample has yet to run through the model. */
const rest = ({ sequence, sample, enqueued, joinedAt }: EngineSample): number => {
  const prompt = enqueued === joinedAt ? sequence.prompt.length : 0; // it has not run yet
  return prompt + (sample < 0 ? 0 : sequence.options.maxNewTokens - enqueued);
};

/** Few tokens are drawn in a slot before it may be taken away: each return costs a run of all tokens before. */
const leastStay = ({ sequence }: EngineSample): number => 32 + sequence.prompt.length / 16;

/** Who waits must be done so many times sooner to be let in. */
const SOONER = 4;

/**
 * The slot whose sample has the longest way to go, where that is far longer than the way of the one that waits. A quarter
 * of the slots stays with such samples, so that they come to their end, too.
 */
export function longestRun(occupants: readonly (EngineSample | null)[], waiting: EngineSample): number | null {
  const own = waiting.sequence.prompt.length + waiting.sequence.options.maxNewTokens;
  const long = occupants.flatMap((sample, slot) => (sample && rest(sample) > SOONER * own ? [{ sample, slot }] : []));
  if (long.length <= Math.ceil(occupants.length / 4)) return null;
  const may = long.filter(({ sample }) => {
    const stayed = sample.enqueued - sample.joinedAt;
    return stayed === 0 || stayed >= leastStay(sample);
  });
  if (may.length === 0) return null;
  return may.reduce((most, one) => (rest(one.sample) > rest(most.sample) ? one : most)).slot;
}
