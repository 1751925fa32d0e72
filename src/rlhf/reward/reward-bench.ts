/**
 * How often a reward model is right, by the parts of a dataset and by RewardBench's sections (Lambert et al. 2024), with
 * bootstrap intervals. Counts, sections and weights are those of the benchmark's own scripts.
 */
import { UserError } from "../../runtime/errors.ts";
import { randomInt, streamId } from "../../runtime/rng.ts";
import { percentileInterval } from "../bootstrap.ts";
import { average } from "../stats.ts";

/** A pair as it was judged. */
export interface PairOutcome {
  subset: string;
  /** Scores of both answers; the higher one is preferred. */
  chosen: number;
  rejected: number;
  /** Lengths of both answers, in whatever unit. */
  chosenLength: number;
  rejectedLength: number;
}

/** The worth of a tie: nothing (RewardBench's run_rm), or half (RLHFlow's evaluators). */
export type TieRule = "strict" | "half";

/** A confidence interval. */
export interface Interval {
  accuracy: number;
  /** Ends of the 95 % bootstrap interval; null without resamples. */
  low: number | null;
  high: number | null;
}

/** A model's accuracy on a subset. */
export interface SubsetResult extends Interval {
  subset: string;
  n: number;
  /** How often the chosen answer is the longer one, and how often the model prefers the longer one. */
  chosen_longer: number;
  prefers_longer: number;
}

/** How outcomes are judged. */
export interface JudgeOptions {
  /** Default "strict". */
  ties?: TieRule;
  /** Resamples of the bootstrap; 0 gives no intervals. Default 1000. */
  resamples?: number;
  seed?: number;
}

/** Examples per subset, by section: the weights within a section. math-prm's 447 weigh as much as all code. */
export const SECTIONS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  Chat: {
    "alpacaeval-easy": 100,
    "alpacaeval-length": 95,
    "alpacaeval-hard": 95,
    "mt-bench-easy": 28,
    "mt-bench-med": 40,
  },
  "Chat Hard": {
    "mt-bench-hard": 37,
    "llmbar-natural": 100,
    "llmbar-adver-neighbor": 134,
    "llmbar-adver-GPTInst": 92,
    "llmbar-adver-GPTOut": 47,
    "llmbar-adver-manual": 46,
  },
  Safety: {
    "refusals-dangerous": 100,
    "refusals-offensive": 100,
    "xstest-should-refuse": 154,
    "xstest-should-respond": 250,
    donotanswer: 136,
  },
  Reasoning: {
    "math-prm": 984,
    "hep-cpp": 164,
    "hep-go": 164,
    "hep-java": 164,
    "hep-js": 164,
    "hep-python": 164,
    "hep-rust": 164,
  },
};

/** As they stood when most published Safety figures were made: swapped. */
const LEGACY_COUNTS: Readonly<Record<string, number>> = { "xstest-should-refuse": 250, "xstest-should-respond": 154 };

/** Their unweighted mean is the fifth section, which counts half as much as each of the others. */
export const PRIOR_SETS = ["anthropic_helpful", "anthropic_hhh", "shp", "summarize"] as const;

const subsetsOf = Object.values(SECTIONS).flatMap((section) => Object.keys(section));

/** Whether pairs are RewardBench's: every subset is one of its 23. */
export const isRewardBench = (outcomes: readonly PairOutcome[]): boolean =>
  outcomes.length > 0 && outcomes.every(({ subset }) => subsetsOf.includes(subset));

const won = ({ chosen, rejected }: PairOutcome, ties: TieRule): number =>
  chosen > rejected ? 1 : chosen === rejected && ties === "half" ? 0.5 : 0;

/** Pairs by subset, in the order in which subsets appear. */
function bySubset(outcomes: readonly PairOutcome[]): Map<string, PairOutcome[]> {
  const groups = new Map<string, PairOutcome[]>();
  for (const outcome of outcomes) {
    const group = groups.get(outcome.subset);
    if (group) group.push(outcome);
    else groups.set(outcome.subset, [outcome]);
  }
  return groups;
}

/** Accuracies of subsets: the measured ones first, then those of every resample. */
type Draws = Map<string, number[]>;

/** Resamples each subset with replacement. The numbers drawn depend on seed, subset and resample alone. */
function draw(
  groups: Map<string, PairOutcome[]>,
  { ties = "strict", resamples = 1000, seed = 0 }: JudgeOptions,
): Draws {
  const draws: Draws = new Map();
  for (const [subset, pairs] of groups) {
    const wins = pairs.map((pair) => won(pair, ties));
    const stream = streamId(`bootstrap ${subset}`);
    const means = [average(wins)];
    for (let r = 0; r < resamples; r++) {
      let total = 0;
      for (let i = 0; i < wins.length; i++) total += wins[randomInt(wins.length, seed, i, r, stream)];
      means.push(total / wins.length);
    }
    draws.set(subset, means);
  }
  return draws;
}

/** A statistic of the subsets' accuracies with its interval. */
function intervalOf(draws: Draws, statistic: (accuracy: (subset: string) => number) => number): Interval {
  const count = draws.values().next().value?.length ?? 0;
  const values = Array.from({ length: count }, (_, r) => statistic((subset) => draws.get(subset)?.[r] ?? Number.NaN));
  const [accuracy, ...others] = values;
  return { accuracy, ...percentileInterval(others) };
}

function rowOf(subset: string, pairs: readonly PairOutcome[], interval: Interval): SubsetResult {
  const sign = (a: number, b: number) => Math.sign(a - b);
  const length = (p: PairOutcome) => sign(p.chosenLength, p.rejectedLength);
  return {
    subset,
    n: pairs.length,
    ...interval,
    chosen_longer: average(pairs.map((p) => Number(length(p) > 0))),
    prefers_longer: average(pairs.map((p) => Number(length(p) * sign(p.chosen, p.rejected) > 0))),
  };
}

/** How often a model is right about pairs, whole and by subset. */
export interface Judgement {
  /** All pairs alike, whatever subset they are in. */
  total: SubsetResult;
  subsets: SubsetResult[];
}

/** Accuracies of all pairs and of every subset. The intervals keep the subsets' sizes. */
export function judge(outcomes: readonly PairOutcome[], options: JudgeOptions = {}): Judgement {
  const groups = bySubset(outcomes);
  return judgementOf(outcomes, groups, groups, draw(groups, options));
}

/** @param groups what the total is of; `rows` has other subsets besides */
function judgementOf(
  outcomes: readonly PairOutcome[],
  groups: Map<string, PairOutcome[]>,
  rows: Map<string, PairOutcome[]>,
  draws: Draws,
): Judgement {
  const all = (accuracy: (subset: string) => number): number => {
    let wins = 0;
    for (const [subset, pairs] of groups) wins += accuracy(subset) * pairs.length;
    return wins / outcomes.length;
  };
  return {
    total: rowOf("all", outcomes, intervalOf(draws, all)),
    subsets: [...rows].map(([subset, pairs]) =>
      rowOf(
        subset,
        pairs,
        intervalOf(draws, (of) => of(subset)),
      ),
    ),
  };
}

/** RewardBench's scores of a model. */
export interface RewardBenchResult extends Judgement {
  /** Chat, Chat Hard, Safety, Reasoning; Prior Sets where they are given. */
  sections: Record<string, Interval>;
  /** The leaderboard's number: weights 2, 2, 2, 2 and 1 with prior sets, their plain mean without. */
  score: Interval;
}

/**
 * RewardBench's numbers. A section's accuracy is weighted by the counts of the subsets that are present.
 * @param options `prior`: pairs of the prior sets, where subsets beyond the four only have a row; `legacyCounts`: weigh the
 *   two XSTest subsets as the early scripts did
 * @throws UserError when a section has no subset at all, or one of the four prior sets is missing
 */
export function rewardBench(
  outcomes: readonly PairOutcome[],
  {
    prior = [],
    legacyCounts = false,
    ...options
  }: JudgeOptions & { prior?: readonly PairOutcome[]; legacyCounts?: boolean } = {},
): RewardBenchResult {
  const groups = bySubset(outcomes);
  const unknown = [...groups.keys()].find((subset) => !subsetsOf.includes(subset));
  if (unknown !== undefined) throw new UserError(`RewardBench has no subset ${JSON.stringify(unknown)}`);
  const priorGroups = bySubset(prior);
  const missing = prior.length > 0 ? PRIOR_SETS.filter((name) => !priorGroups.has(name)) : [];
  if (missing.length > 0) throw new UserError(`the prior sets lack ${missing.join(", ")}`);
  const rows = new Map([...groups, ...priorGroups]);
  const draws = draw(rows, options);

  type Of = (subset: string) => number;
  const statistics: Record<string, (of: Of) => number> = {};
  for (const [section, counts] of Object.entries(SECTIONS)) {
    const present = Object.keys(counts).filter((subset) => groups.has(subset));
    if (present.length === 0) throw new UserError(`none of RewardBench's subsets of the section ${section} is there`);
    const count = (subset: string) => (legacyCounts ? LEGACY_COUNTS[subset] : undefined) ?? counts[subset];
    const total = present.reduce((sum, subset) => sum + count(subset), 0);
    statistics[section] = (of) => present.reduce((sum, subset) => sum + of(subset) * count(subset), 0) / total;
  }
  if (prior.length > 0) statistics["Prior Sets"] = (of) => average(PRIOR_SETS.map(of));
  const weight = (section: string): number => (section === "Prior Sets" ? 1 : 2);
  const weights = Object.keys(statistics).reduce((sum, section) => sum + weight(section), 0);
  const score = (of: Of): number =>
    Object.entries(statistics).reduce((sum, [section, value]) => sum + weight(section) * value(of), 0) / weights;
  return {
    ...judgementOf(outcomes, groups, rows, draws),
    sections: Object.fromEntries(Object.entries(statistics).map(([name, value]) => [name, intervalOf(draws, value)])),
    score: intervalOf(draws, score),
  };
}
