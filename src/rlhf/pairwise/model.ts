/** Models that compare two responses, instead of scoring each by itself: their preferences need not be an order. */
import { nonFinite } from "../../nn/finite.ts";
import type { CausalLM } from "../../nn/models.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Tensor } from "../../tensor/core.ts";
import { endRows, pack, type Sequence } from "../batch.ts";
import { inPasses } from "../passes.ts";
import type { Conversation, PairWriter } from "./template.ts";

/** Compares responses. May be a model, a rule, a judge. */
export interface PreferenceModel {
  /**
   * The chance that `a[i]` is preferred to `b[i]` as the response to `prompts[i]`, for every i; prefer(b, a) is 1 minus it.
   */
  prefer(prompts: readonly Conversation[], a: readonly string[], b: readonly string[]): Promise<number[]>;
}

/**
 * A language model that was trained to answer "A" or "B". Each pair is asked in both orders. Throws `UserError` where a
 * question is longer than the model's context.
 */
export class PairPreferenceModel implements PreferenceModel {
  readonly model: CausalLM;
  readonly writer: PairWriter;
  private readonly temperature: number;

  /** @param temperature divides the logits of the letters. Default 1. */
  constructor(model: CausalLM, writer: PairWriter, temperature = 1) {
    this.model = model;
    this.writer = writer;
    this.temperature = temperature;
  }

  async prefer(prompts: readonly Conversation[], a: readonly string[], b: readonly string[]): Promise<number[]> {
    const { writer } = this;
    const contexts = prompts.map((prompt) => writer.context(prompt));
    const questions = [
      ...contexts.map((context, i) => writer.question(context, a[i], b[i])),
      ...contexts.map((context, i) => writer.question(context, b[i], a[i])),
    ];
    const { maxPositions } = this.model.config;
    const long = questions.findIndex(({ length }) => length > maxPositions);
    if (long >= 0) {
      throw new UserError(
        `the question about ${JSON.stringify(a[long % a.length].slice(0, 40))} and another response has ` +
          `${questions[long].length} tokens, more than the preference model's context of ${maxPositions}: shorten the responses`,
      );
    }
    const first = await chancesOfFirst(this.model, questions, writer.letters, this.temperature);
    return contexts.map((_, i) => bothOrders(first[i], first[i + contexts.length]));
  }
}

/**
 * The chance that the first of two responses is preferred, from both orders.
 * @param aFirst the chance of the letter A where the first response is A
 * @param bFirst the chance of the letter A where the second response is A
 */
export const bothOrders = (aFirst: number, bFirst: number): number => (aFirst + (1 - bFirst)) / 2;

/** 1 where the chance says that the better response is preferred, 1/2 where it does not decide, else 0. */
export const correctness = (chance: number): number => (chance > 0.5 ? 1 : chance === 0.5 ? 0.5 : 0);

/**
 * exp(zA / t) / (exp(zA / t) + exp(zB / t)) of every question, from the logits z at its last position.
 * @param temperature t. Default 1.
 */
export async function chancesOfFirst(
  model: CausalLM,
  questions: readonly Uint32Array[],
  letters: readonly number[],
  temperature = 1,
): Promise<number[]> {
  const logProbs = await answerLogProbs(model, questions, letters.slice(0, 2));
  return logProbs.map(([a, b]) => 1 / (1 + Math.exp((b - a) / temperature)));
}

/** Log-probabilities of some next tokens after every question. */
export async function answerLogProbs(
  model: CausalLM,
  questions: readonly Uint32Array[],
  answers: readonly number[],
): Promise<number[][]> {
  const sequences = questions.map((ids): Sequence => ({ ids, promptLength: ids.length }));
  const parts = await inPasses(model, sequences, {
    compute: (part) => logProbsAtEnds(model, part, answers),
    receive(values, part) {
      const broken = nonFinite(model, values);
      if (broken) throw broken;
      return part.map((_, i) => answers.map((_, k) => values[k * part.length + i]));
    },
  });
  return parts.flat();
}

/** Log-probabilities of every answer after every sequence, answer by answer: [answers x sequences]. */
export function logProbsAtEnds(model: CausalLM, sequences: readonly Sequence[], answers: readonly number[]): Tensor {
  const { ids, packing, starts } = pack(sequences);
  const ends = endRows(sequences, starts);
  const rows = Uint32Array.from(answers.flatMap(() => [...ends]));
  const targets = Uint32Array.from(answers.flatMap((id) => sequences.map(() => id)));
  return model.logProbs(ids, packing, rows, targets).logProbs;
}
