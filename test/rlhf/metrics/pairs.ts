/** Pairs of answers, what models make of them, and the metrics that all trainers of pairs publish. */
import type { CausalLM } from "webrlhf/nn";
import { joined, type Metrics, mean, type Predicted, predictedBy, sum, words } from "./reference.ts";

/** A pair as trainers take it. */
export interface Pair {
  chosen: Uint32Array;
  rejected: Uint32Array;
  promptLength: number;
  rejectedPromptLength?: number;
  margin?: number;
}

/**
 * Five pairs with answers of 1 to 11 tokens. Those of the third are equal, so that it is a tie; the prompts of the fourth were
 * cut differently; the answers of the last begin their texts.
 */
export function examplePairs(key: number): Pair[] {
  const prompt = (n: number, i: number) => words(n, key, i, 0);
  const answer = (n: number, i: number, side: number) => words(n, key, i, side);
  const same = answer(4, 2, 1);
  const longer = prompt(5, 3);
  return [
    { chosen: joined(prompt(3, 0), answer(8, 0, 1)), rejected: joined(prompt(3, 0), answer(2, 0, 2)), promptLength: 3 },
    { chosen: joined(prompt(4, 1), answer(1, 1, 1)), rejected: joined(prompt(4, 1), answer(9, 1, 2)), promptLength: 4 },
    { chosen: joined(prompt(2, 2), same), rejected: joined(prompt(2, 2), same), promptLength: 2 },
    {
      chosen: joined(longer, answer(5, 3, 1)),
      rejected: joined(longer.subarray(2), answer(11, 3, 2)),
      promptLength: 5,
      rejectedPromptLength: 3,
    },
    { chosen: answer(7, 4, 1), rejected: answer(6, 4, 2), promptLength: 0 },
  ].map((pair, i) => ({ ...pair, margin: 0.5 * i - 0.7 }));
}

/** The tokens of both answers, and of the chosen one with its prompt. */
export interface Measured {
  chosen: Predicted[];
  rejected: Predicted[];
  withPrompt: Predicted[];
}

export async function measured(model: CausalLM, pairs: readonly Pair[]): Promise<Measured[]> {
  const sides = await predictedBy(model, [
    ...pairs.map(({ chosen }) => ({ ids: chosen, first: 1 })),
    ...pairs.map(({ rejected }) => ({ ids: rejected, first: 1 })),
  ]);
  const answer = (tokens: Predicted[], promptLength: number) => tokens.slice(Math.max(0, promptLength - 1));
  return pairs.map(({ promptLength, rejectedPromptLength = promptLength }, i) => ({
    chosen: answer(sides[i], promptLength),
    rejected: answer(sides[pairs.length + i], rejectedPromptLength),
    withPrompt: sides[i],
  }));
}

/** Tokens of both sequences of all pairs. */
export const tokensOf = (pairs: readonly Pair[]): number =>
  sum(pairs.map(({ chosen, rejected }) => chosen.length + rejected.length));

export const logProbs = (tokens: readonly Predicted[]): number[] => tokens.map((t) => t.logProb);

/** What an objective makes of a micro-batch: its loss, each pair's numbers, and further numbers of the micro-batch. */
export interface Judged {
  loss: number;
  rewards: { chosen: number; rejected: number }[];
  logps: { chosen: number; rejected: number }[];
  more: Metrics;
}

/** The loss of a step: the mean of its micro-batches' losses. */
export const stepLoss = (parts: readonly Judged[]): number => mean(parts.map(({ loss }) => loss));

const byPairs = (parts: readonly Judged[], of: (part: Judged) => number): number =>
  sum(parts.map((part) => part.rewards.length * of(part))) / sum(parts.map((part) => part.rewards.length));

/** The metrics of a step: the means of its micro-batches' metrics. */
export function stepMetrics(parts: readonly Judged[], answers: readonly (readonly Measured[])[]): Metrics {
  const each = parts.map((part, i) => pairMetrics([part], answers[i]));
  return Object.fromEntries(Object.keys(each[0]).map((name) => [name, mean(each.map((m) => m[name]))]));
}

/** The metrics of an evaluation, over all pairs. */
export function pairMetrics(parts: readonly Judged[], answers: readonly Measured[]): Metrics {
  const rewards = parts.flatMap((part) => part.rewards);
  const logps = parts.flatMap((part) => part.logps);
  const chosen = answers.flatMap((a) => a.chosen);
  const rejected = answers.flatMap((a) => a.rejected);
  return {
    loss: byPairs(parts, ({ loss }) => loss),
    "rewards/chosen": mean(rewards.map((r) => r.chosen)),
    "rewards/rejected": mean(rewards.map((r) => r.rejected)),
    "rewards/margins": mean(rewards.map((r) => r.chosen - r.rejected)),
    "rewards/accuracies": rewards.filter((r) => r.chosen > r.rejected).length / rewards.length,
    "logps/chosen": mean(logps.map((l) => l.chosen)),
    "logps/rejected": mean(logps.map((l) => l.rejected)),
    "logits/chosen": mean(chosen.map((t) => t.logit)),
    "logits/rejected": mean(rejected.map((t) => t.logit)),
    entropy: mean([...chosen, ...rejected].map((t) => t.entropy)),
    ...Object.fromEntries(Object.keys(parts[0].more).map((name) => [name, byPairs(parts, ({ more }) => more[name])])),
  };
}
