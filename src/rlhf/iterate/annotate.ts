/** Rewards for rows of responses, by whatever judges them, kept row by row; and what they amount to. */

import type { SampledRow, ScoredRow } from "../../data/scored-rows.ts";
import { UserError } from "../../runtime/errors.ts";
import type { RowLog } from "../../runtime/row-log.ts";
import type { PreferenceModel } from "../pairwise/model.ts";
import { roundRobin, tournament } from "../pairwise/tournament.ts";
import { type RewardFunction, rewardsOf } from "../rewards.ts";
import type { Response } from "../sampler.ts";
import { average } from "../stats.ts";
import { samplesPerRow } from "./pairs.ts";
import { writtenTokens } from "./responses.ts";

/** One list of rewards per row, one reward per response. */
export type RowJudge = (rows: readonly SampledRow[]) => Promise<number[][]>;

/** How a judge reads a row's response. */
export type SequenceOf = (row: SampledRow, sample: number) => Response;

/**
 * Judges by a reward function: a Bradley-Terry or multi-objective model, an endpoint, a rule.
 * @param sequence the response of a row as the reward function reads it; it gets its `prompt` here: the row's place
 */
export const judgeByReward =
  (reward: RewardFunction, sequence: SequenceOf): RowJudge =>
  async (rows) => {
    const responses = rows.flatMap((row, prompt) =>
      row.responses.map((_, sample) => ({ ...sequence(row, sample), prompt, sample })),
    );
    const rewards = await rewardsOf(reward, responses);
    let at = 0;
    return rows.map(({ responses: { length } }) => {
      at += length;
      return rewards.slice(at - length, at);
    });
  };

/** Judges by comparisons: everybody's mean chance against the others, or a linear tournament with n - 1 comparisons. */
export const judgeByPreference =
  (model: PreferenceModel, how: "round_robin" | "tournament"): RowJudge =>
  async (rows) => {
    const prompts = rows.map(({ prompt }) => prompt);
    const responses = rows.map((row) => row.responses);
    return (await (how === "tournament" ? tournament : roundRobin)(model, prompts, responses)).rewards;
  };

/** Options of `annotateRows`. */
export interface AnnotateOptions {
  /** Rows handed to the judge at once. Default 32. */
  rowsAtOnce?: number;
  /** Such parts that are handed to the judge before the first one is done. Default 1. */
  partsAtOnce?: number;
  /** Told how many rows are scored. */
  progress?: (done: number, total: number) => void;
  /** When it fires, nothing more is begun; the rows so far are in the log. */
  signal?: AbortSignal;
}

/**
 * Scores the rows that the log has not got yet; it numbers them by their places. Rows that were scored before are scored
 * anew. Returns all of them in their order, or null when the signal stopped it.
 */
export async function annotateRows(
  judge: RowJudge,
  rows: readonly SampledRow[],
  log: RowLog<number[]>,
  options: AnnotateOptions = {},
): Promise<ScoredRow[] | null> {
  const { rowsAtOnce = 32, partsAtOnce = 1, progress, signal } = options;
  progress?.(log.rows.size, rows.length);
  let next = 0;
  let stopped = false;
  const work = async () => {
    while (next < rows.length && !stopped) {
      const at = next;
      next += rowsAtOnce;
      const part = rows.slice(at, at + rowsAtOnce);
      if (part.every((_, i) => log.rows.has(at + i))) continue;
      if (signal?.aborted) break;
      const rewards = await judge(part);
      await log.add(rewards.map((list, i) => [at + i, list] as const));
      progress?.(log.rows.size, rows.length);
    }
  };
  const parts = Array.from({ length: partsAtOnce }, async () => {
    try {
      await work();
    } catch (error) {
      stopped = true; // what is under way is heard out
      if (!signal?.aborted) throw error;
    }
  });
  const failed = (await Promise.allSettled(parts)).find((part) => part.status === "rejected");
  if (failed) throw failed.reason;
  if (signal?.aborted && rows.some((_, i) => !log.rows.has(i))) return null;
  return rows.map((row, i) => {
    const rewards = log.rows.get(i);
    if (rewards?.length === row.responses.length) return { ...row, rewards };
    throw new UserError(`${log.path} belongs to other rows (row ${i + 1} differs): delete it to score all anew`);
  });
}

/** Online-RLHF's figures of a scored set, and how long the responses are. */
export interface RewardStatistics {
  /** Rows, and those with all K responses, of which the others are. */
  total: number;
  kept: number;
  /** K: the most responses of a row. */
  samples: number;
  mean_reward: number;
  /** Mean over prompts of the best reward. */
  top1_reward: number;
  /** Mean over prompts of the worst. */
  min_reward: number;
  /** Characters, as code points. */
  mean_characters: number;
  /** Tokens with the end token, of episodes those that the policy wrote; only where the rows have them. */
  mean_length?: number;
  /** Part of the responses that ended by themselves; only where the rows say so. */
  eos_rate?: number;
}

/** Over the rows with all K responses, as Online-RLHF has it. */
export function rewardStatistics(rows: readonly ScoredRow[], samples = samplesPerRow(rows)): RewardStatistics {
  const kept = rows.filter((row) => row.responses.length >= samples);
  const over = (of: (row: ScoredRow) => readonly number[]) => average(kept.flatMap((row) => [...of(row)]));
  return {
    total: rows.length,
    kept: kept.length,
    samples,
    mean_reward: over(({ rewards }) => rewards),
    top1_reward: over(({ rewards }) => [Math.max(...rewards)]),
    min_reward: over(({ rewards }) => [Math.min(...rewards)]),
    mean_characters: over(({ responses }) => responses.map((text) => [...text].length)),
    ...(kept.every(({ tokenIds }) => tokenIds) && {
      mean_length: over((row) => row.responses.map((_, k) => writtenTokens(row, k))),
    }),
    ...(kept.every(({ ended }) => ended) && { eos_rate: over(({ ended = [] }) => ended.map(Number)) }),
  };
}
