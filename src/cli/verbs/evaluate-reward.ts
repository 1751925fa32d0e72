/** What `evaluate` measures of a reward model: accuracy on pairs, by their subsets, and RewardBench's sections. */

import type { Dataset } from "../../data/dataset.ts";
import { CYCLE, WORLD } from "../../data/made.ts";
import { cycleCeilings } from "../../data/world/cycle.ts";
import { bayesAccuracy, type WorldPreference } from "../../data/world.ts";
import { openDataset } from "../../open/datasets.ts";
import { labelOf } from "../../open/hub.ts";
import { isLlmJudge, judgeFile, openLlmJudge, refuseForJudge, usageWords } from "../../open/llm-judge.ts";
import { judgePairScorer } from "../../open/llm-judge-pairs.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import { isWeightless } from "../../open/rewards.ts";
import { openPairScorer } from "../../open/scorers.ts";
import type { RewardResult } from "../../report/data.ts";
import { judgeKappa } from "../../rlhf/llm-judge/agreement.ts";
import type { PositionBias } from "../../rlhf/llm-judge/compare.ts";
import {
  type Interval,
  isRewardBench,
  type Judgement,
  judge,
  type PairOutcome,
  type RewardBenchResult,
  rewardBench,
  type SubsetResult,
} from "../../rlhf/reward/reward-bench.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { scoringElsewhere } from "../join-cluster.ts";
import { short } from "../progress.ts";
import { surroundings } from "../surroundings.ts";
import type { Terminal } from "../terminal.ts";
import type { Context } from "../verb.ts";
import type { evaluateSettings } from "./evaluate-settings.ts";

type Options = ReturnType<typeof evaluateSettings>;

/** In evaluation.json beside the accuracy: all rows of the table and, of RewardBench, its sections. */
export type PairEvaluation = RewardResult & Partial<RewardBenchResult> & Judgement & Partial<JudgeAgreement>;

/** How far an LLM judge agrees with the labels. */
export interface JudgeAgreement {
  /** Cohen's kappa; null where it takes none of the answers. */
  kappa: number | null;
  /** Of a judge of pairs. */
  position_bias?: PositionBias;
}

/** Pairs of made-up data where the settings do not say how many. */
const MADE_PAIRS = 256;

/** Measures a reward model on held-out pairs. */
export async function rewardResult(o: Options, context: Context): Promise<PairEvaluation> {
  const { terminal, label } = context;
  const path = o.rewardModelPath as string;
  if (path === WORLD)
    throw new UserError("--reward_model_path must be a folder here: there is nothing to test about the true reward");
  const llm = isLlmJudge(path) ? await openLlmJudge(path, { onAnswer: progressOfAnswers(terminal) }) : null;
  if (llm) refuseForJudge(o, path);
  else if (isWeightless(path)) {
    throw new UserError(`--reward_model_path must be a folder here, or judge:FILE: ${path} is a server or code`);
  }
  const around = surroundings(context);
  const opener = new ModelOpener({ ...o, ...around });
  const closers: (() => Promise<void>)[] = [];
  const where = { path: o.outputDir, files: await diskFiles(), terminal, signal: context.signal, keepsNothing: true };
  const elsewhere = scoringElsewhere(o, where, closers);
  if (llm && elsewhere) throw new UserError(`${path} has no weights here: leave out cluster`);
  const biases: PositionBias[] = [];
  const scored = llm
    ? judgePairScorer(llm, path, (bias) => void biases.push(bias))
    : await openPairScorer(opener, path, o, { truncationSide: o.truncationSide }, elsewhere);
  const own = llm ? judgeFile(path) : labelOf(await opener.locate(path));
  const result = withModels(opener.opened, async () => {
    opener.refuseUnusedBase();
    const all = openDataset(o.datasetName, { ...o, ...around });
    const outcomesOf = async (dataset: Dataset, limit: number | null) => {
      const pairs = await scored(dataset.heldOut(limit));
      if (pairs.length === 0) throw new UserError(`${dataset.name}: no pairs to evaluate on`);
      const outcomes = pairs.map(
        ({ record, chosen, rejected }): PairOutcome => ({
          subset: record.subset ?? ALL,
          chosen,
          rejected,
          chosenLength: record.chosen.length,
          rejectedLength: record.rejected.length,
        }),
      );
      return { outcomes, records: pairs.map(({ record }) => record) };
    };
    const { outcomes, records } = await outcomesOf(all, o.numPrompts ?? (all.isMade ? MADE_PAIRS : null));
    const bench = isRewardBench(outcomes);
    if (!bench && o.priorDatasetName !== null) {
      throw new UserError(`prior_dataset_name belongs to RewardBench, and ${o.datasetName} is not that: leave it out`);
    }
    if (!bench && o.legacyCounts) {
      throw new UserError(`legacy_counts belongs to RewardBench, and ${o.datasetName} is not that: leave it out`);
    }
    const prior = o.priorDatasetName;
    const options = {
      ties: o.ties,
      resamples: o.bootstrapSamples,
      seed: o.seed,
      legacyCounts: o.legacyCounts,
      prior: prior === null ? [] : (await outcomesOf(all.with({ testSize: 0 }, prior), null)).outcomes,
    };
    const found = bench ? rewardBench(outcomes, options) : judge(outcomes, options);
    const { total } = found;
    const judged = records.every((record) => "certainty" in record);
    const noiseCeiling = judged ? bayesAccuracy(records as WorldPreference[]) : null;
    const best = o.datasetName === CYCLE ? cycleCeilings().order : undefined;
    show(found, terminal);
    const ceiling = noiseCeiling === null ? "" : `  noise ceiling ${short(noiseCeiling)}`;
    const order = best === undefined ? "" : `  best score there can be ${short(best)}`;
    terminal.line(
      `${label}: accuracy ${written(total)} on ${total.n} pairs${ceiling}${order}  always the longer: ${short(total.chosen_longer)}`,
    );
    const { accuracy, n: pairs, chosen_longer: length_baseline } = total;
    const shown = o.label ?? own;
    const ceilings = { noise_ceiling: noiseCeiling, ...(best !== undefined && { order_ceiling: best }) };
    const agreement = llm && agreementOf(outcomes, biases[0]);
    if (llm && agreement) {
      for (const line of agreementLines(agreement)) terminal.line(line);
      terminal.line(usageWords(llm.usage));
    }
    return { label: shown, pairs, accuracy, ...ceilings, length_baseline, ...found, ...agreement };
  });
  return result.finally(() => Promise.all(closers.map((close) => close())));
}

function agreementOf(outcomes: readonly PairOutcome[], bias: PositionBias | undefined): JudgeAgreement {
  const kappa = judgeKappa(outcomes.map(({ chosen, rejected }) => (Math.sign(chosen - rejected) + 1) / 2));
  return { kappa: Number.isFinite(kappa) ? kappa : null, ...(bias && { position_bias: bias }) };
}

function agreementLines({ kappa, position_bias: bias }: JudgeAgreement): string[] {
  const lines = [`Cohen's kappa with the labels: ${kappa === null ? "none" : short(kappa)}`];
  if (bias) lines.push(biasLine(bias));
  return lines;
}

/** How much a judge goes by places, in words. */
export const biasLine = ({ pairs, consistent, first_preferred, always_first, always_second }: PositionBias): string =>
  `both orders agree on ${consistent === null ? "none" : short(consistent)} of ${pairs} pairs; the answer shown first has ` +
  `${first_preferred === null ? "no" : short(first_preferred)} of the verdicts (always the first: ${always_first}, always the ` +
  `second: ${always_second})`;

const SECONDS_BETWEEN_LINES = 5;

/** A line now and then of how far a judge has come. */
export function progressOfAnswers(terminal: Terminal): (done: number, total: number) => void {
  let shown = performance.now();
  return (done, total) => {
    if (performance.now() - shown < 1000 * SECONDS_BETWEEN_LINES) return;
    shown = performance.now();
    terminal.line(`${done} of ${total} questions are answered`);
  };
}

/** The subset of pairs that are in none. */
const ALL = "all";

const percent = (x: number): string => (100 * x).toFixed(1);
const written = ({ accuracy, low, high }: Interval): string =>
  low === null || high === null ? short(accuracy) : `${short(accuracy)} [${short(low)}, ${short(high)}]`;

/** The table of subsets where there are several, then sections and score. */
function show(found: Judgement & Partial<RewardBenchResult>, terminal: Terminal): void {
  if (found.subsets.length > 1) for (const line of tableOf(found.subsets)) terminal.line(line);
  if (!found.sections || !found.score) return;
  for (const [name, interval] of Object.entries(found.sections)) terminal.line(`${name}: ${written(interval)}`);
  terminal.line(`RewardBench: ${written(found.score)}`);
}

/** Percentages by subset, in columns. */
export function tableOf(rows: readonly SubsetResult[]): string[] {
  const interval = ({ low, high }: SubsetResult) =>
    low === null || high === null ? "" : `${percent(low)}-${percent(high)}`;
  const cells = rows.map((row) => [
    row.subset,
    `${row.n}`,
    percent(row.accuracy),
    interval(row),
    percent(row.chosen_longer),
    percent(row.prefers_longer),
  ]);
  const table = [["subset", "n", "accuracy", "95 %", "chosen longer", "prefers longer"], ...cells];
  const widths = table[0].map((_, k) => Math.max(...table.map((row) => row[k].length)));
  return table.map((row) =>
    row
      .map((cell, k) => (k === 0 ? cell.padEnd(widths[k]) : cell.padStart(widths[k])))
      .join("  ")
      .trimEnd(),
  );
}
