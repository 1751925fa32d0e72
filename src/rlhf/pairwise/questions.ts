/** A dataset's pairs as questions to a pair-preference model. */
import { PromptTooLongError } from "../../data/batches.ts";
import { counted } from "../../data/counts.ts";
import type { Dataset } from "../../data/dataset.ts";
import type { Preference } from "../../data/records.ts";
import type { Split } from "../../data/split.ts";
import { streamId, uniform } from "../../runtime/rng.ts";
import { type AnyPair, rrmPairs } from "./augment.ts";
import { contextTemplate, type PairWriter } from "./template.ts";

/** A pair with the question in both orders: the better response as A, and as B. */
export interface QuestionExample {
  orders: readonly [Uint32Array, Uint32Array];
  /** The order that is learned. */
  side: 0 | 1;
  /** Neither is better: the answer to learn is "Same". */
  same?: boolean;
}

/** Whether the better response of the pair with this number is A (0) or B (1). */
export const sideOf = (seed: number, index: number): 0 | 1 =>
  uniform(seed, index, streamId("pair/side")) < 0.5 ? 0 : 1;

/**
 * The question of a pair in both orders.
 * @param pair `context` as `PairWriter.context` writes it
 * @param side the order that is learned, as of `sideOf`
 */
export function questionExample(
  writer: PairWriter,
  pair: { context: string; chosen: string; rejected: string; same?: boolean },
  side: 0 | 1,
): QuestionExample {
  const { context, chosen, rejected, same } = pair;
  const orders = [writer.question(context, chosen, rejected), writer.question(context, rejected, chosen)] as const;
  return { orders, side, ...(same && { same }) };
}

/** A question in both orders, with the record it comes from; a pair that was made up has none. */
export type Question = QuestionExample & { record?: Preference };

/**
 * Questions of a dataset's pairs; which order is learned goes by the dataset's seed.
 * @param rrm adds `rrmPairs` to what is trained on
 * @throws UserError for a question that is longer than `maxLength` tokens
 */
export async function pairQuestions(
  dataset: Dataset,
  writer: PairWriter,
  { maxLength, rrm }: { maxLength: number; rrm: boolean },
): Promise<Split<Question>> {
  const { seed = 42 } = dataset.options;
  const chat = writer.template === "letters" ? null : await contextTemplate();
  const as = chat ? dataset.with({ template: "chat" }) : dataset;
  const { train, eval: held } = await as.preferences({ chatTemplate: chat });
  const pairOf = (record: Preference): AnyPair & { record?: Preference } => {
    const { prompt, chosen, rejected, rendered } = record;
    return { context: rendered ? prompt : writer.context(prompt), chosen, rejected, record };
  };
  const pairs = train.map(pairOf);
  const sided = (list: readonly (AnyPair & { record?: Preference })[], from: readonly Preference[]) =>
    counted(
      list.map((pair, i) => ({ pair, side: sideOf(seed, i) })),
      from,
    );
  const all = rrm ? [...pairs, ...rrmPairs(pairs, seed)] : pairs;
  const split = { train: sided(all, train), eval: sided(held.map(pairOf), held) };
  return dataset.prepared(split, ({ pair, side }): Question => {
    const example = questionExample(writer, pair, side);
    const longest = Math.max(...example.orders.map((ids) => ids.length)) + 1;
    if (longest <= maxLength) return { ...example, ...(pair.record && { record: pair.record }) };
    throw new PromptTooLongError(
      `${pair.record?.where ?? "a pair"}: the question with both answers has ${longest} tokens, more than ` +
        `${maxLength}; shorten or remove it, or use a longer maximum length`,
    );
  });
}
