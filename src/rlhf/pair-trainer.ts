/** The loop of trainers that learn from pairs of answers; what they do with a pair is their objective. */
import { type DropoutStep, withDropout } from "../nn/ambient.ts";
import type { CausalLM } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import type { ResolvedSettings } from "../settings/index.ts";
import { backward, noGrad, scope, type Tensor } from "../tensor/core.ts";
import { scale } from "../tensor/ops/elementwise.ts";
import { sum } from "../tensor/ops/reduce.ts";
import { type Segment, segmentSums } from "../tensor/ops/segments.ts";
import type { TrainEvent } from "./events.ts";
import {
  contextOf,
  type DatasetOf,
  type ExampleData,
  type ExampleMethod,
  type ExampleSplits,
  examplesOf,
} from "./examples.ts";
import { inTurn } from "./in-turn.ts";
import { type AnswerOptions, type Answers, answersOf, differing, type PairExample } from "./pairs.ts";
import { data } from "./settings.ts";
import { meanByName } from "./stats.ts";
import {
  controlMetrics,
  readWatched,
  together,
  type Watched,
  type WatchedNumbers,
  watch,
  watchControl,
} from "./watch.ts";

/** The loss of a batch of pairs, and numbers to report beside it. Vectors are [pairs]. */
export interface PairLoss {
  /** [1], a mean over the batch's pairs. */
  loss: Tensor;
  /** How good the policy holds each answer to be, times beta. */
  rewards: { chosen: Tensor; rejected: Tensor };
  /** log p of each answer, as the objective counts it. */
  logps: { chosen: Tensor; rejected: Tensor };
  /** log p of each answer under the reference, where there is one, counted likewise; made only for who looks at pairs. */
  refLogps?: () => { chosen: Tensor; rejected: Tensor };
  /** More metrics: their means over all values are reported. */
  more?: Record<string, Tensor>;
}

/** The objective of a trainer of pairs: the answers' numbers that it needs, and its loss. */
export interface PairObjective {
  answers: AnswerOptions;
  /**
   * The loss of a batch.
   * @param training false in evaluations, which leave running statistics alone */
  loss(answers: Answers, pairs: readonly PairExample[], training: boolean): PairLoss;
}

/** Everything a trainer of pairs is made of, but its stage and its state. */
export function pairMethod(
  policy: CausalLM,
  o: { disableDropout: boolean; perDeviceTrainBatchSize: number; showMargins?: boolean },
  objective: PairObjective,
): Pick<ExampleMethod<PairExample>, "step" | "evaluate"> {
  return {
    step(optimizer, batches, rate, dropout) {
      const drops = o.disableDropout ? null : dropout;
      const shown = o.showMargins === true;
      const { watched, counts, tokens } = scope(() =>
        pairStep(policy, optimizer, batches, rate, objective, drops, shown),
      );
      const read = readWatched(watched);
      const metrics = async () => {
        const [{ control }, ...passes] = await read;
        const each = passes.map((numbers, i) => pairMetrics([numbers], [counts[i]]));
        return { ...meanByName(each), ...controlMetrics(control) };
      };
      const found = { metrics: metrics(), tokens };
      if (!shown) return found;
      const margins = () =>
        read.then(([, ...passes]) => passes.flatMap((numbers, i) => marginRows(numbers, counts[i].pairs)));
      return { ...found, rows: { table: "margins", index: "pair", rows: margins } };
    },
    evaluate: (examples) => evaluatePairs(policy, examples, objective, o.perDeviceTrainBatchSize),
  };
}

/** What a pass's means are over. */
interface Counts {
  pairs: number;
  /** Tokens of the chosen answers, and of the rejected ones. */
  chosen: number;
  rejected: number;
}

/** One optimizer step; the loss is the mean of the micro-batches' means, as in TRL. */
function pairStep(
  policy: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly PairExample[])[],
  rate: number,
  objective: PairObjective,
  dropout: DropoutStep | null,
  shown: boolean,
): { watched: Watched; counts: Counts[]; tokens: number } {
  let tokens = 0;
  const counts: Counts[] = [];
  const passes = batches.map((pairs, pass) => {
    const answers = withDropout(dropout && { ...dropout, pass }, () => answersOf(policy, pairs, objective.answers));
    const found = objective.loss(answers, pairs, true);
    tokens += answers.tokens;
    counts.push(countsOf(answers));
    const watched = watchPairs(answers, found, shown);
    backward(found.loss, optimizer.lossSeed(1 / batches.length));
    return watched;
  });
  optimizer.step(rate);
  return { watched: together<string>([watchControl(optimizer), ...passes]), counts, tokens };
}

const tokensOf = (segments: readonly Segment[]): number => segments.reduce((n, { length }) => n + length, 0);

const countsOf = ({ chosen, rejected }: Answers): Counts => ({
  pairs: chosen.length,
  chosen: tokensOf(chosen),
  rejected: tokensOf(rejected),
});

/** How much a pass counts in the mean of a metric: by its tokens, where the metric is a mean over tokens. */
function weightOf(name: string, { pairs, chosen, rejected }: Counts): number {
  if (name === "entropy") return chosen + rejected;
  if (name === "logits/chosen") return chosen;
  if (name === "logits/rejected") return rejected;
  return pairs;
}

/** Of pairs alone: metrics leave them out. */
const REFERENCE = "ref_logps/";

/** A pass's numbers; those of the reference where pairs are `shown`. */
function watchPairs(answers: Answers, found: PairLoss, shown: boolean): Watched {
  const { entropy, meanLogits, chosen, rejected } = answers;
  const over = (tokens: Tensor, segments: readonly Segment[]) =>
    scale(sum(segmentSums(tokens, segments)), 1 / Math.max(1, tokensOf(segments)));
  return noGrad(() => {
    const under = shown ? found.refLogps?.() : undefined;
    return watch<string>({
      ...(under && { [`${REFERENCE}chosen`]: under.chosen, [`${REFERENCE}rejected`]: under.rejected }),
      loss: found.loss,
      entropy: over(entropy, [...chosen, ...rejected]),
      "rewards/chosen": found.rewards.chosen,
      "rewards/rejected": found.rewards.rejected,
      "logps/chosen": found.logps.chosen,
      "logps/rejected": found.logps.rejected,
      ...(meanLogits
        ? { "logits/chosen": over(meanLogits, chosen), "logits/rejected": over(meanLogits, rejected) }
        : {}),
      ...found.more,
    });
  });
}

/** Each pair of a pass with what the policy and the reference make of it, by TRL's names. */
const marginRows = (numbers: WatchedNumbers, pairs: number): Record<string, number>[] =>
  Array.from({ length: pairs }, (_, i) => {
    const names = ["logps/chosen", "logps/rejected", `${REFERENCE}chosen`, `${REFERENCE}rejected`];
    const [won, lost] = [numbers["rewards/chosen"][i], numbers["rewards/rejected"][i]];
    return {
      ...Object.fromEntries(names.flatMap((name) => (numbers[name] ? [[name, numbers[name][i]]] : []))),
      "rewards/chosen": won,
      "rewards/rejected": lost,
      "rewards/margins": won - lost,
    };
  });

/** Means over all pairs (of entropy and logits: over all their tokens), by TRL's names. A tie counts as wrong. */
function pairMetrics(passes: readonly WatchedNumbers[], counts: readonly Counts[]): Record<string, number> {
  const totals: Record<string, number> = {};
  const weights: Record<string, number> = {};
  const add = (name: string, value: number, weight: number) => {
    totals[name] = (totals[name] ?? 0) + value * weight;
    weights[name] = (weights[name] ?? 0) + weight;
  };
  passes.forEach((numbers, pass) => {
    for (const [name, part] of Object.entries(numbers)) {
      if (name.startsWith(REFERENCE)) continue;
      add(name, part.reduce((a, b) => a + b, 0) / part.length, weightOf(name, counts[pass]));
    }
    const [won, lost] = [numbers["rewards/chosen"], numbers["rewards/rejected"]];
    for (let i = 0; i < counts[pass].pairs; i++) {
      add("rewards/accuracies", Number(won[i] > lost[i]), 1);
      add("rewards/margins", won[i] - lost[i], 1);
    }
  });
  return Object.fromEntries(Object.entries(totals).map(([name, total]) => [name, total / (weights[name] || 1)]));
}

/** The training metrics on held-out pairs, as eval_loss, eval_rewards/chosen and so on. */
export async function evaluatePairs(
  policy: CausalLM,
  pairs: readonly PairExample[],
  objective: PairObjective,
  batchSize: number,
): Promise<Record<string, number>> {
  const parts: PairExample[][] = [];
  for (let at = 0; at < pairs.length; at += batchSize) parts.push(pairs.slice(at, at + batchSize));
  const counts: Counts[] = [];
  const passes = await inTurn(parts, (part) =>
    readWatched(
      scope(() =>
        noGrad(() => {
          const answers = answersOf(policy, part, objective.answers);
          counts.push(countsOf(answers));
          return watchPairs(answers, objective.loss(answers, part, false), false);
        }),
      ),
    ),
  );
  const metrics = pairMetrics(passes.flat(), counts);
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));
}

/** How pairs are cut to a length, as settings of every trainer of pairs. */
export const pairCuts = {
  maxLength: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
  maxPromptLength: data.int(
    null,
    "Cut the prompts of long pairs to this many tokens first, then the answers (TRL 0.x)",
    { min: 1 },
  ),
  truncationMode: data.choice(
    ["keep_start", "keep_end"],
    "keep_start",
    "Cut long sequences at their end, or their start",
  ),
};

/** Pairs to learn from: tokenised ones, or a dataset that makes them for a tokenizer. */
export type PairData = ExampleData<PairExample> | DatasetOf<"pairs", PairExample>;

/**
 * The pairs of a run, and a note of those whose answers are the same, which say nothing of which is better.
 * @throws UserError when all of them are such
 */
export async function* pairsOf(
  data: PairData,
  models: { policy: CausalLM; tokenizer?: TextTokenizer },
  o: ResolvedSettings<typeof pairCuts>,
): AsyncGenerator<TrainEvent, ExampleSplits<PairExample>> {
  const pairs = await examplesOf<"pairs", PairExample>(data, "pairs", models, {
    maxLength: contextOf(models.policy, o),
    maxPromptLength: o.maxPromptLength,
    truncationSide: o.truncationMode === "keep_end" ? "left" : "right",
  });
  const all = pairs.train.length;
  const same = all - differing(pairs.train).length;
  if (same === 0) return pairs;
  const text = `${same} of ${all} pairs do not say which answer is better: both have the same tokens`;
  if (same === all) throw new UserError(`there is nothing to learn: ${text}`);
  yield { type: "note", step: 0, text };
  return pairs;
}
