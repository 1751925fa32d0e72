/** More pairs for preference models: labels of the model's own (SSRM), and pairs that teach to read the prompt (RRM). */
import { permutation, streamId } from "../../runtime/rng.ts";

/** A pair as models of pairs see it: `same` says that neither answer is better. */
export interface AnyPair {
  context: string;
  chosen: string;
  rejected: string;
  same?: boolean;
}

/** When a pair keeps the label that a model gives it. */
export interface PseudoLabelOptions {
  /** Keep a pair when the model is at least this sure of one side or the other, and more. Default 0.8, as published. */
  confidence?: number;
  /**
   * What to do where the model prefers the rejected answer. "keep": leave the pair as it is labelled, as the published
   * script does; "flip": turn it around, which is right where the labels mean nothing. Default "keep".
   */
  disagreement?: "keep" | "flip";
}

/**
 * Self-training (SSRM): pairs whose preferred side the model is sure of.
 * @param chances of the chosen answer, in both orders (`PreferenceModel.prefer`)
 */
export function pseudoLabel<P extends { chosen: string; rejected: string }>(
  pairs: readonly P[],
  chances: readonly number[],
  { confidence = 0.8, disagreement = "keep" }: PseudoLabelOptions = {},
): P[] {
  if (chances.length !== pairs.length) throw new Error(`${chances.length} chances for ${pairs.length} pairs`);
  return pairs.flatMap((pair, i) => {
    const chance = chances[i];
    if (Math.max(chance, 1 - chance) <= confidence) return [];
    const flip = disagreement === "flip" && chance < 0.5;
    return [flip ? { ...pair, chosen: pair.rejected, rejected: pair.chosen } : pair];
  });
}

/**
 * Robust reward models (RRM): for each pair i and two others j, k of a shuffled order, 14 more pairs behind i's context.
 * Both of i's answers are better than any of the four that belong to other prompts (8 pairs), and of those four neither is
 * better than another (6 pairs, `same`). Returns only the added pairs. Needs three pairs with different contexts.
 */
export function rrmPairs<P extends AnyPair>(pairs: readonly P[], seed: number): AnyPair[] {
  const n = pairs.length;
  const second = permutation(n, seed, streamId("rrm/second"));
  const third = permutation(n, seed, streamId("rrm/third"));
  return pairs.flatMap((own, i) => {
    const others = [pairs[second[i]], pairs[third[i]]];
    const contexts = new Set([own, ...others].map(({ context }) => context));
    if (contexts.size < 3) return []; // by chance a prompt met itself
    const foreign = others.flatMap(({ chosen, rejected }) => [chosen, rejected]);
    const { context } = own;
    const better = [own.chosen, own.rejected].flatMap((chosen) =>
      foreign.map((rejected): AnyPair => ({ context, chosen, rejected })),
    );
    const neutral = foreign.flatMap((chosen, a) =>
      foreign.slice(a + 1).map((rejected): AnyPair => ({ context, chosen, rejected, same: true })),
    );
    return [...better, ...neutral];
  });
}
