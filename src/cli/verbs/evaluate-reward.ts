/** What `evaluate` measures of a reward model: accuracy on pairs, by their subsets, and RewardBench's sections. */
import { cycleCeilings } from "../../data/world/cycle.ts";
import { bayesAccuracy, type WorldPreference } from "../../data/world.ts";
import type { RewardResult } from "../../report/data.ts";
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
import type { Files } from "../../runtime/files.ts";
import { CYCLE, heldOut } from "../data/datasets.ts";
import { labelAt } from "../models/hub.ts";
import { WORLD, withModels } from "../models/models.ts";
import { ModelOpener } from "../models/opener.ts";
import { isUrl } from "../models/reward-server.ts";
import type { Values } from "../option.ts";
import type { evaluateOptions } from "../options/evaluate.ts";
import { short } from "../progress.ts";
import type { Terminal } from "../terminal.ts";
import type { Context } from "../verb.ts";
import { openPairScorer } from "./evaluate-pairs.ts";

type Options = Values<typeof evaluateOptions>;

/** In evaluation.json beside the accuracy: all rows of the table and, of RewardBench, its sections. */
export type PairEvaluation = RewardResult & Partial<RewardBenchResult> & Judgement;

/** Pairs of made-up data where the options do not say how many. */
const MADE_PAIRS = 256;

export async function rewardResult(files: Files, o: Options, { terminal, label }: Context): Promise<PairEvaluation> {
  const path = o.reward_model_path!;
  if (path === WORLD)
    throw new UserError("--reward_model_path must be a folder here: there is nothing to test about the true reward");
  if (isUrl(path)) throw new UserError(`--reward_model_path must be a folder here: ${path} is a server`);
  const opener = new ModelOpener(files, o);
  const cut = { maxLength: o.max_length, truncationSide: o.truncation_side };
  const scored = await openPairScorer(files, opener, path, cut, terminal);
  return withModels(opener.opened, async () => {
    const outcomesOf = async (choice: Options, limit: number | null) => {
      const pairs = await scored(heldOut(choice, limit));
      if (pairs.length === 0) throw new UserError(`${choice.dataset_name}: no pairs to evaluate on`);
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
    const made = o.dataset_name.startsWith("builtin:");
    const { outcomes, records } = await outcomesOf(o, o.num_prompts ?? (made ? MADE_PAIRS : null));
    const bench = isRewardBench(outcomes);
    if (!bench && o.prior_dataset_name !== null) {
      throw new UserError(`prior_dataset_name belongs to RewardBench, and ${o.dataset_name} is not that: leave it out`);
    }
    if (!bench && o.legacy_counts) {
      throw new UserError(`legacy_counts belongs to RewardBench, and ${o.dataset_name} is not that: leave it out`);
    }
    const prior = o.prior_dataset_name;
    const options = {
      ties: o.ties,
      resamples: o.bootstrap_samples,
      seed: o.seed,
      legacyCounts: o.legacy_counts,
      prior: prior === null ? [] : (await outcomesOf({ ...o, dataset_name: prior, test_size: 0 }, null)).outcomes,
    };
    const found = bench ? rewardBench(outcomes, options) : judge(outcomes, options);
    const { total } = found;
    const judged = records.every((record) => "certainty" in record);
    const noiseCeiling = judged ? bayesAccuracy(records as WorldPreference[]) : null;
    const best = o.dataset_name === CYCLE ? cycleCeilings().order : undefined;
    show(found, terminal);
    const ceiling = noiseCeiling === null ? "" : `  noise ceiling ${short(noiseCeiling)}`;
    const order = best === undefined ? "" : `  best score there can be ${short(best)}`;
    terminal.line(
      `${label}: accuracy ${written(total)} on ${total.n} pairs${ceiling}${order}  always the longer: ${short(total.chosen_longer)}`,
    );
    const { accuracy, n: pairs, chosen_longer: length_baseline } = total;
    const shown = o.label ?? labelAt(path);
    const ceilings = { noise_ceiling: noiseCeiling, ...(best !== undefined && { order_ceiling: best }) };
    return { label: shown, pairs, accuracy, ...ceilings, length_baseline, ...found };
  });
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
