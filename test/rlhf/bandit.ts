/**
 * A bandit: one prompt, six answers of one token each, rewards ln 1 .. ln 6. With the KL penalty of weight beta the best
 * policy is known exactly: pi*(a) proportional to pi_ref(a) exp(r(a) / beta) = pi_ref(a) (a + 1)^(1 / beta).
 */

import { CausalLM, decoderConfig, ScoreModel } from "webrlhf/nn";
import { type Prompt, type Response, type RewardFunction, responseLogProbs } from "webrlhf/rlhf";
import { normal } from "../../src/runtime/rng.ts";

export const ARMS = 6;
export const weights = Array.from({ length: ARMS }, (_, a) => a + 1);
const rewards = weights.map(Math.log);

const config = decoderConfig({
  family: "llama",
  vocabSize: ARMS,
  hiddenSize: 8,
  layers: 1,
  heads: 1,
  maxPositions: 4,
  tieEmbeddings: false,
  eosId: null,
  padId: null,
});

/** The prompt. Copies of it have random numbers of their own; they are one prompt to the model. */
export const prompts = (copies: number): Prompt[] =>
  Array.from({ length: copies }, () => ({ text: "?", ids: Uint32Array.of(0) }));

/** A policy whose first distribution is its seed's own, with probabilities from about 0.05 to 0.5. */
export function newPolicy(seed: number, label = "policy"): CausalLM {
  const model = new CausalLM(config, label).initialize(seed);
  const head = model.head;
  if (!head) throw new Error("the bandit's model has a head of its own");
  head.value.write(Float32Array.from({ length: head.size }, (_, i) => 0.2 * normal(seed, i)));
  return model;
}

export const newCritic = (seed: number): ScoreModel => new ScoreModel(config, "critic").initialize(seed + 1000);

export const reward: RewardFunction = async (responses: readonly Response[]) =>
  responses.map((r) => rewards[r.ids[r.promptLength]]);

/** The probabilities of the answers. */
export async function distribution(policy: CausalLM): Promise<number[]> {
  const answers = weights.map((_, a) => ({ ids: Uint32Array.of(0, a), promptLength: 1 }));
  const { logProbs } = await responseLogProbs(policy, answers);
  return logProbs.map((l) => Math.exp(l[0]));
}

/** pi_ref(a) exp(factor r(a)), normalised. */
export function optimum(reference: readonly number[], factor: number): number[] {
  const tilted = reference.map((p, a) => p * weights[a] ** factor);
  const total = tilted.reduce((a, b) => a + b, 0);
  return tilted.map((p) => p / total);
}

/**
 * The policy that maximises E[r] - beta KL(pi_ref || pi): beta pi_ref(a) / (lambda - r(a)), with the lambda above every
 * reward at which this sums to 1, found by bisection.
 */
export function forwardKlOptimum(reference: readonly number[], beta: number, scale: number): number[] {
  const at = (lambda: number) => reference.map((p, a) => (beta * p) / (lambda - scale * rewards[a]));
  let low = scale * Math.max(...rewards);
  let high = low + beta; // there every term is at most pi_ref(a)
  for (let i = 0; i < 200; i++) {
    const middle = (low + high) / 2;
    if (at(middle).reduce((a, b) => a + b, 0) > 1) low = middle;
    else high = middle;
  }
  return at(high);
}

/** Half the sum of absolute differences: the most that the probabilities of any set of answers differ by. */
export const totalVariation = (p: readonly number[], q: readonly number[]): number =>
  p.reduce((sum, x, a) => sum + Math.abs(x - q[a]), 0) / 2;

/** The expected total variation between a distribution and the frequencies in a sample of it (normal approximation). */
export const countingNoise = (p: readonly number[], samples: number): number =>
  p.reduce((sum, x) => sum + Math.sqrt((2 * x * (1 - x)) / (Math.PI * samples)), 0) / 2;
