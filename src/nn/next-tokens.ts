/** Which token comes next, and how sampling parameters change that: one place of one sequence, on the host, in float64. */
import type { DecoderConfig } from "./config.ts";
import { type SamplingParams, slotOptions } from "./sampling.ts";

/** Parameters that say which token is taken; how many there are to be and the seed are not among them. */
export type ChoiceParams = Omit<SamplingParams, "maxNewTokens" | "seed" | "ignoreEos">;

/** A token that may come next. */
export interface NextToken {
  id: number;
  /** Under the softmax of the model's logits, before any parameter changes them, in nats. */
  logProb: number;
  /** With which it is drawn, after all parameters; -Infinity of a token that they leave out. */
  sampledLogProb: number;
  /** How many tokens are likelier to be drawn; of equal ones the lower id comes first. */
  rank: number;
}

/** Levels in which thresholds are found on the GPU: tokens on one level are kept or left out together. */
const LEVELS_PER_NAT = 2 ** 18;
const DEEPEST = 63.99999;
const level = (d: number): number => -Math.floor(Math.min(-d, DEEPEST) * LEVELS_PER_NAT);

/** The tokens that may come next, likeliest first. */
export class NextTokens {
  /** How many tokens the parameters keep. */
  readonly kept: number;
  readonly #order: Uint32Array;
  readonly #ranks: Uint32Array;
  readonly #logProbs: Float64Array;
  readonly #sampled: Float64Array;

  /**
   * @param logits of every token
   * @param prompt tokens that were given, and those that came after: the penalties tell them apart
   */
  constructor(
    logits: Float32Array,
    params: ChoiceParams,
    { config, prompt, drawn }: { config: DecoderConfig; prompt: ArrayLike<number>; drawn: ArrayLike<number> },
  ) {
    const o = slotOptions({ ...params, maxNewTokens: 2 ** 31, seed: 0 }, config, 0);
    this.#logProbs = logSoftmax(Float64Array.from(logits));
    const adjusted = Float64Array.from(logits);
    for (const [id, bias] of o.logitBias ?? []) adjusted[id] += bias;
    const given = new Set(Array.from(prompt));
    const counts = new Map<number, number>();
    for (const id of Array.from(drawn)) counts.set(id, (counts.get(id) ?? 0) + 1);
    for (const id of new Set([...given, ...counts.keys()])) {
      const count = counts.get(id) ?? 0;
      const z = adjusted[id];
      adjusted[id] = z > 0 ? z / o.repetitionPenalty : z * o.repetitionPenalty;
      adjusted[id] -= count * o.frequencyPenalty + (count > 0 ? o.presencePenalty : 0);
    }
    if (drawn.length < o.minNewTokens) for (const id of o.endIds) adjusted[id] = -1e30;
    this.#order = Uint32Array.from(adjusted, (_, id) => id).sort((a, b) => adjusted[b] - adjusted[a] || a - b);
    this.#ranks = new Uint32Array(adjusted.length);
    this.#order.forEach((id, rank) => {
      this.#ranks[id] = rank;
    });
    const greedy = o.temperature === 0;
    const best = adjusted[this.#order[0]];
    // What is kept are the first of the order.
    const below = Float64Array.from(this.#order, (id) => (adjusted[id] - best) / (greedy ? 1 : o.temperature));
    this.kept = greedy ? 1 : keptOf(below, o);
    this.#sampled = new Float64Array(adjusted.length).fill(Number.NEGATIVE_INFINITY);
    const mass = Math.log(below.subarray(0, this.kept).reduce((sum, d) => sum + Math.exp(d), 0));
    for (let rank = 0; rank < this.kept; rank++) this.#sampled[this.#order[rank]] = greedy ? 0 : below[rank] - mass;
  }

  /** The k likeliest tokens to be drawn, those that are left out after those that are kept. */
  top(k: number): NextToken[] {
    return Array.from(this.#order.subarray(0, k), (id) => this.of(id));
  }

  /** A token, drawn or not. Throws where the model has no such token. */
  of(id: number): NextToken {
    if (!(id in this.#logProbs)) throw new RangeError(`${id} is no token of a vocabulary of ${this.#logProbs.length}`);
    return { id, logProb: this.#logProbs[id], sampledLogProb: this.#sampled[id], rank: this.#ranks[id] };
  }

  /**
   * The token that a uniform number draws: the first whose probability, with those of all likelier ones, exceeds it.
   * @param uniform in [0, 1)
   */
  draw(uniform: number): NextToken {
    let rank = 0;
    for (let sum = this.#probability(0); rank + 1 < this.kept && sum <= uniform; ) sum += this.#probability(++rank);
    return this.of(this.#order[rank]);
  }

  #probability(rank: number): number {
    return Math.exp(this.#sampled[this.#order[rank]]);
  }
}

function logSoftmax(logits: Float64Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const logZ = most + Math.log(logits.reduce((sum, z) => sum + Math.exp(z - most), 0));
  return logits.map((z) => z - logZ);
}

/**
 * How many tokens top-k, then top-p, then min-p leave.
 * @param below logits over the temperature, less the largest, in descending order
 */
function keptOf(below: Float64Array, { topK, topP, minP }: { topK: number; topP: number; minP: number }): number {
  let kept = below.length;
  /** The end of the tokens on the level of this one. */
  const through = (rank: number) => {
    const least = level(below[rank]);
    let end = rank + 1;
    while (end < kept && level(below[end]) >= least) end++;
    return end;
  };
  if (topK > 0) kept = through(Math.min(topK, kept) - 1);
  if (topP < 1) {
    const weights = below.subarray(0, kept).map(Math.exp);
    const wanted = topP * weights.reduce((a, b) => a + b, 0);
    let rank = 0;
    for (let sum = weights[0]; rank + 1 < kept && sum < wanted; ) sum += weights[++rank];
    kept = through(rank);
  }
  while (minP > 0 && kept > 1 && below[kept - 1] < Math.log(minP)) kept--;
  return kept;
}
