/** What models make of sequences that are there, without gradients: log-probabilities, entropies, values. */
import { nonFinite } from "../nn/finite.ts";
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import { noGrad, scope } from "../tensor/core.ts";
import { concat } from "../tensor/ops/shape.ts";
import { pack, predictedTokens, predictions, type Sequence, scoringParts, split } from "./batch.ts";
import { average } from "./stats.ts";

/**
 * Measures per-token log-probabilities and entropies of the responses under a policy, without gradients.
 * @throws UserError naming the policy where they are not finite
 */
export async function responseLogProbs(
  policy: CausalLM,
  sequences: readonly Sequence[],
  temperature = 1,
): Promise<{ logProbs: Float32Array[]; entropy: Float32Array[] }> {
  const logProbs: Float32Array[] = [];
  const entropy: Float32Array[] = [];
  for (const [first, last] of scoringParts(sequences, policy)) {
    const part = sequences.slice(first, last);
    let lengths: number[] = [];
    const both = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        const p = predictions(part, starts);
        lengths = p.lengths;
        const found = policy.logProbs(ids, packing, p.rows, p.targets, temperature);
        return concat([found.logProbs, found.entropy]);
      }),
    );
    const values = await both.read();
    both.free("scoring");
    const half = values.length / 2;
    const broken = nonFinite(policy, values.subarray(0, half));
    if (broken) throw broken;
    logProbs.push(...split(values.slice(0, half), lengths));
    entropy.push(...split(values.slice(half), lengths));
  }
  return { logProbs, entropy };
}

/** Mean over sequences of the summed log-ratio: an unbiased estimate of the KL divergence (at temperature 1). */
export async function sampledKl(
  policy: CausalLM,
  reference: CausalLM,
  responses: readonly Sequence[],
): Promise<number> {
  const own = await responseLogProbs(policy, responses);
  const other = await responseLogProbs(reference, responses);
  return average(own.logProbs.map((l, i) => l.reduce((sum, x, t) => sum + x - other.logProbs[i][t], 0)));
}

/**
 * Where a critic is read: at the row that predicts each response token and, for responses with a slot after the last token,
 * at that token itself.
 * @param slots values that each response has: as many as tokens, or one more
 */
export function valueRows(
  sequences: readonly Sequence[],
  starts: readonly number[],
  slots: readonly number[],
): Uint32Array {
  const rows: number[] = [];
  sequences.forEach(({ promptLength }, i) => {
    const first = starts[i] + Math.max(1, promptLength) - 1;
    for (let t = 0; t < slots[i]; t++) rows.push(first + t);
  });
  return Uint32Array.from(rows);
}

/** A critic's values of each response, without gradients: see `valueRows`. */
export async function responseValues(
  critic: ScoreModel,
  sequences: readonly Sequence[],
  slots: readonly number[] = sequences.map(predictedTokens),
): Promise<Float32Array[]> {
  const values: Float32Array[] = [];
  for (const [first, last] of scoringParts(sequences, critic)) {
    const part = sequences.slice(first, last);
    const own = slots.slice(first, last);
    const flat = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        return critic.scores(ids, packing, valueRows(part, starts, own));
      }),
    );
    values.push(...split(await flat.read(), own));
    flat.free("scoring");
  }
  return values;
}
