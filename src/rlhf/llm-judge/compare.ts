/** An LLM judge of two answers: each pair is asked in both orders, because judges like places. */
import type { PreferenceModel } from "../pairwise/model.ts";
import type { Conversation } from "../pairwise/template.ts";
import { readWinner, type Winner } from "./answers.ts";
import type { JudgeCalls } from "./calls.ts";
import type { JudgeQuestion } from "./questions.ts";

/** An LLM judge's verdicts on a pair of answers that it saw in both orders. */
export interface Verdicts {
  /** Where the first answer was shown as A. */
  forth: Winner;
  /** Where the second answer was shown as A. */
  back: Winner;
}

/** A pair to compare. */
export interface Compared {
  prompt: Conversation;
  first: string;
  second: string;
  row?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * 1 where both orders name the first answer, 0 where both name the second one, else 1/2: verdicts that contradict each other are a tie,
 * and so are equal answers (null).
 */
export function outcomeOf(verdicts: Verdicts | null): number {
  if (verdicts?.forth === "A" && verdicts.back === "B") return 1;
  return verdicts?.forth === "B" && verdicts.back === "A" ? 0 : 0.5;
}

/** How much a judge of pairs goes by the place of an answer. */
export interface PositionBias {
  /** Pairs that were asked about. */
  pairs: number;
  /** Part of them of which both orders say the same; null of none. */
  consistent: number | null;
  /** Of all verdicts for an answer, the part for the one that was shown first: 1/2 where places do not matter; null of none. */
  first_preferred: number | null;
  /** Pairs of which the judge took the answer shown first both times, and the second both times. */
  always_first: number;
  always_second: number;
}

/** Counts how much an LLM judge goes by the place of an answer. Pairs of equal answers, which nobody was asked about, are null. */
export function positionBias(verdicts: readonly (Verdicts | null)[]): PositionBias {
  const asked = verdicts.filter((one) => one !== null);
  const decisive = asked.flatMap(({ forth, back }) => [forth, back]).filter((winner) => winner !== "tie");
  const both = (winner: Winner) => asked.filter(({ forth, back }) => forth === winner && back === winner).length;
  const consistent = asked.filter((one) => outcomeOf(one) !== 0.5).length + both("tie");
  return {
    pairs: asked.length,
    consistent: asked.length > 0 ? consistent / asked.length : null,
    first_preferred: decisive.length > 0 ? decisive.filter((winner) => winner === "A").length / decisive.length : null,
    always_first: both("A"),
    always_second: both("B"),
  };
}

/** Compares answers by a judge of pairs. */
export class JudgeComparer implements PreferenceModel {
  private readonly calls: JudgeCalls;

  constructor(calls: JudgeCalls) {
    this.calls = calls;
  }

  /** What the judge says of each pair; null of equal answers, which it is not asked about. */
  async compare(pairs: readonly Compared[]): Promise<(Verdicts | null)[]> {
    const asked = pairs.filter(({ first, second }) => first !== second);
    const questions = asked.flatMap(({ prompt, first, second, row }): JudgeQuestion[] => [
      { prompt, answers: [first, second], row },
      { prompt, answers: [second, first], row },
    ]);
    const winners = await this.calls.ask(questions, (text) => readWinner(text, this.calls.spec));
    const verdicts = new Map(asked.map((pair, i) => [pair, { forth: winners[2 * i], back: winners[2 * i + 1] }]));
    return pairs.map((pair) => verdicts.get(pair) ?? null);
  }

  async prefer(prompts: readonly Conversation[], a: readonly string[], b: readonly string[]): Promise<number[]> {
    const pairs = prompts.map((prompt, i) => ({ prompt, first: a[i], second: b[i] }));
    return (await this.compare(pairs)).map(outcomeOf);
  }
}
