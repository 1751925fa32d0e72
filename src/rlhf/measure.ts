/** What models make of sequences that are there, without gradients: log-probabilities, entropies, values. */
import { nonFinite } from "../nn/finite.ts";
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import { concat } from "../tensor/ops/shape.ts";
import { pack, predictedTokens, predictions, type Sequence, split } from "./batch.ts";
import { inPasses, Passes } from "./passes.ts";
import { average } from "./stats.ts";

/** Log-probabilities and entropies of responses, each by token. */
export interface Measured {
  logProbs: Float32Array[];
  entropy: Float32Array[];
}

/** Measures responses under a policy while others are still drawn. */
export class Measuring {
  readonly #passes: Passes<Measured>;

  /** @param temperature that logits are divided by */
  constructor(policy: CausalLM, temperature = 1) {
    this.#passes = new Passes(policy, {
      compute(part) {
        const { ids, packing, starts } = pack(part);
        const { rows, targets } = predictions(part, starts);
        const { logProbs, entropy } = policy.logProbs(ids, packing, rows, targets, temperature);
        return concat([logProbs, entropy]);
      },
      receive(values, part) {
        const half = values.length / 2;
        const broken = nonFinite(policy, values.subarray(0, half));
        if (broken) throw broken;
        const lengths = part.map(predictedTokens);
        return { logProbs: split(values.slice(0, half), lengths), entropy: split(values.slice(half), lengths) };
      },
    });
  }

  /** Takes the next responses. */
  add(responses: readonly Sequence[]): void {
    this.#passes.add(responses);
  }

  /**
   * What was measured, in the order in which the responses came; nothing comes any more.
   * @throws UserError naming the policy where log-probabilities are not finite
   */
  async end(): Promise<Measured> {
    const found = await this.#passes.end();
    return { logProbs: found.flatMap((part) => part.logProbs), entropy: found.flatMap((part) => part.entropy) };
  }
}

/**
 * Measures per-token log-probabilities and entropies of the responses under a policy, without gradients.
 * @throws UserError naming the policy where they are not finite
 */
export function responseLogProbs(policy: CausalLM, sequences: readonly Sequence[], temperature = 1): Promise<Measured> {
  const measuring = new Measuring(policy, temperature);
  measuring.add(sequences);
  return measuring.end();
}

/** Two measurements that are under way together: neither is left behind where the other one fails. */
export async function bothOf<A, B>(one: Promise<A>, other: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([one, other]);
  return Promise.all([one, other]);
}

/**
 * Mean over sequences of the summed log-ratio: an unbiased estimate of the KL divergence, of what was drawn at `temperature`.
 * @param temperature that both models' logits are divided by. Default 1
 */
export async function sampledKl(
  policy: CausalLM,
  reference: CausalLM,
  responses: readonly Sequence[],
  temperature = 1,
): Promise<number> {
  const [own, other] = await bothOf(
    responseLogProbs(policy, responses, temperature),
    responseLogProbs(reference, responses, temperature),
  );
  return average(own.logProbs.map((l, i) => l.reduce((sum, x, t) => sum + x - other.logProbs[i][t], 0)));
}

/**
 * Where a critic is read: at the row that predicts each response token that is learned and, for responses with a slot after the
 * last token, at that token itself.
 * @param slots values that each response has: as many as tokens, or one more
 */
export function valueRows(
  sequences: readonly Sequence[],
  starts: readonly number[],
  slots: readonly number[],
): Uint32Array {
  const rows: number[] = [];
  sequences.forEach(({ ids, promptLength, learned }, i) => {
    const from = rows.length;
    for (let t = Math.max(1, promptLength); t < ids.length; t++) if (learned?.[t] !== 0) rows.push(starts[i] + t - 1);
    if (rows.length - from < slots[i]) rows.push(starts[i] + ids.length - 1);
  });
  return Uint32Array.from(rows);
}

/** A critic's values of each response, without gradients: see `valueRows`. */
export async function responseValues(
  critic: ScoreModel,
  sequences: readonly Sequence[],
  slots: readonly number[] = sequences.map(predictedTokens),
): Promise<Float32Array[]> {
  const slotsOf = (part: readonly Sequence[], first: number) => slots.slice(first, first + part.length);
  const parts = await inPasses(critic, sequences, {
    compute(part, first) {
      const { ids, packing, starts } = pack(part);
      return critic.scores(ids, packing, valueRows(part, starts, slotsOf(part, first)));
    },
    receive: (values, part, first) => split(values, slotsOf(part, first)),
  });
  return parts.flat();
}
