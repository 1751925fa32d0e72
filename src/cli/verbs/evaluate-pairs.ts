/** Models of whatever kind that tell the better of two answers. */
import type { PrepareOptions } from "../../data/batches.ts";
import type { Preference } from "../../data/records.ts";
import { multiObjectiveScores } from "../../rlhf/multi-objective/model.ts";
import { readPairWriter } from "../../rlhf/pairwise/folder.ts";
import { pairChances } from "../../rlhf/pairwise/train.ts";
import { bothAnswers } from "../../rlhf/preference/pair-batch.ts";
import { type PairScores, scorePairs } from "../../rlhf/reward/scores.ts";
import type { Files } from "../../runtime/files.ts";
import { type heldOut, pairData, questionData } from "../data/datasets.ts";
import { contextOf } from "../models/models.ts";
import type { ModelOpener } from "../models/opener.ts";
import type { Terminal } from "../terminal.ts";

/** A pair with a number for each answer: the preferred one has the larger. */
export interface ScoredPair {
  record: Preference;
  chosen: number;
  rejected: number;
}

/** Scores the held-out pairs of a dataset. */
export type PairScorer = (held: ReturnType<typeof heldOut>) => Promise<ScoredPair[]>;

/**
 * The model in a folder as a judge of pairs. Reward models score each answer; of a cost model the sign is turned. A
 * pair-preference model sees both, and its numbers are the chances of the two from both orders.
 * @param maxLength in tokens; null is the model's context
 */
export async function openPairScorer(
  files: Files,
  opener: ModelOpener,
  path: string,
  { maxLength, ...cut }: Omit<PrepareOptions, "maxLength"> & { maxLength: number | null },
  terminal: Terminal,
): Promise<PairScorer> {
  const tokenizer = await opener.tokenizer(path);
  const writer = await readPairWriter(files, path, async () => tokenizer);
  if (writer) {
    const model = await opener.frozenPolicy(path, "pair-preference model");
    tokenizer.checkFits(model.config.vocabSize);
    return async ({ choice, part }) => {
      const length = { maxLength: contextOf(model, maxLength), rrm: false };
      const data = await questionData(choice, writer, length, terminal);
      const pairs = part === "test" ? data.eval : data.train;
      const chances = await pairChances(model, pairs, writer.letters);
      return pairs.map(({ record }, i) => ({
        record: record as Preference,
        chosen: chances[i],
        rejected: 1 - chances[i],
      }));
    };
  }
  const several = await opener.multiObjective(path);
  const scorer = several ? null : await opener.frozenScorer(path);
  const model = several?.model ?? scorer!;
  tokenizer.checkFits(model.config.vocabSize);
  const sign = scorer?.scoring.type === "cost" ? -1 : 1; // of two answers the cheaper one is preferred
  return async ({ choice, part }) => {
    const prepare = { ...cut, maxLength: contextOf(model, maxLength) };
    const data = await pairData(choice, tokenizer, prepare, terminal, sign < 0 ? "safety" : "preference");
    const pairs = part === "test" ? data.eval : data.train;
    const headScores = async (): Promise<PairScores> => {
      const { scores } = await multiObjectiveScores(several!.model, several!.head, bothAnswers(pairs));
      return { chosen: [...scores.slice(0, pairs.length)], rejected: [...scores.slice(pairs.length)] };
    };
    const { chosen, rejected } = scorer ? await scorePairs(scorer, pairs) : await headScores();
    return pairs.map(({ record }, i) => ({ record, chosen: sign * chosen[i], rejected: sign * rejected[i] }));
  };
}
