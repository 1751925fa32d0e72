/** Models of whatever kind that score answers, or tell the better of two. */
import type { PrepareOptions } from "../data/batches.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Preference } from "../data/records.ts";
import type { Model, ScoreModel } from "../nn/models.ts";
import type { Sequence } from "../rlhf/batch.ts";
import { contextOf } from "../rlhf/examples.ts";
import { multiObjectiveScores } from "../rlhf/multi-objective/model.ts";
import { bothAnswers } from "../rlhf/pairs.ts";
import { pairQuestions } from "../rlhf/pairwise/questions.ts";
import { pairChances } from "../rlhf/pairwise/train.ts";
import { runScoringJob, type ScoringRunner, scoresByJobs } from "../rlhf/score-jobs.ts";
import { UserError } from "../runtime/errors.ts";
import type { ModelOpener } from "./opener.ts";

/** A model of whatever kind that scores single answers. */
export interface Scorer {
  model: Model;
  /** The model where it has one score head, and with it statistics of its scores. */
  single: ScoreModel | null;
  scores(sequences: readonly Sequence[]): Promise<ArrayLike<number>>;
}

/** Who scores with a model, where that is somebody else. */
export type Elsewhere = (model: ScoreModel) => Promise<ScoringRunner>;

/** How a scorer works. */
export interface ScorerOptions {
  /** Who scores; default: the model, here. */
  elsewhere?: Elsewhere | undefined;
  /** Sequences that are scored together. Default: all of a list. */
  together?: number;
}

const onlyHere = (name: string, what: string): UserError =>
  new UserError(
    `${name} is ${what}, which works here alone: leave out cluster, whose workers score by reward and cost models`,
  );

/**
 * Opens a reward or cost model, or one of several qualities.
 * @throws UserError for one of several qualities that is to score elsewhere
 */
export async function openScorer(
  opener: ModelOpener,
  name: string,
  { elsewhere, together }: ScorerOptions = {},
): Promise<Scorer> {
  const several = await opener.multiObjective(name);
  if (!several) {
    const single = await opener.frozenScorer(name);
    const run: ScoringRunner = elsewhere ? await elsewhere(single) : (job) => runScoringJob(single, job);
    const scores = scoresByJobs(run, { half: single.half, ...(together !== undefined && { most: together }) });
    return { model: single, single, scores };
  }
  if (elsewhere) throw onlyHere(name, "a multi-objective reward model");
  const { model, head } = several;
  return { model, single: null, scores: async (all) => (await multiObjectiveScores(model, head, all)).scores };
}

/** A pair with a number for each answer: the preferred one has the larger. */
export interface ScoredPair {
  record: Preference;
  chosen: number;
  rejected: number;
}

/** Scores the held-out pairs of a dataset. */
export type PairScorer = (held: ReturnType<Dataset["heldOut"]>) => Promise<ScoredPair[]>;

/** Answers of pairs that are scored together. */
const TOGETHER = 64;

/**
 * The model of a name as a judge of pairs. Reward models score each answer; of a cost model the sign is turned. A
 * pair-preference model sees both, and its numbers are the chances of the two from both orders.
 * @param length `maxLength` in tokens; null is the model's context
 */
export async function openPairScorer(
  opener: ModelOpener,
  name: string,
  length: { maxLength: number | null },
  cut: Pick<PrepareOptions, "truncationSide">,
  elsewhere?: Elsewhere,
): Promise<PairScorer> {
  const tokenizer = await opener.tokenizer(name);
  const writer = await opener.pairWriter(name);
  if (writer) {
    if (elsewhere) throw onlyHere(name, "a pair-preference model");
    const model = await opener.frozenPolicy(name, "pair-preference model");
    tokenizer.checkFits(model.config.vocabSize);
    return async ({ dataset, part }) => {
      const asked = { maxLength: contextOf(model, length), rrm: false };
      const pairs = (await pairQuestions(dataset, writer, asked))[part];
      const chances = await pairChances(model, pairs, writer.letters);
      return pairs.map(({ record }, i) => ({
        record: record as Preference,
        chosen: chances[i],
        rejected: 1 - chances[i],
      }));
    };
  }
  const { model, single, scores } = await openScorer(opener, name, { elsewhere, together: TOGETHER });
  tokenizer.checkFits(model.config.vocabSize);
  const sign = single?.scoring.type === "cost" ? -1 : 1; // of two answers the cheaper one is preferred
  return async ({ dataset, part }) => {
    const prepare = { ...cut, maxLength: contextOf(model, length) };
    const pairs = (await dataset.pairs(tokenizer, prepare, sign < 0 ? "safety" : "preference", false))[part];
    const both = await scores(bothAnswers(pairs));
    return pairs.map(({ record }, i) => ({
      record,
      chosen: sign * both[i],
      rejected: sign * both[pairs.length + i],
    }));
  };
}
