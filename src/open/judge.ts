/** Judges by name: whatever can score the responses of a prompt, or compare them. */

import type { Tokenizer } from "../data/tokenizer.ts";
import { judgeByPreference, judgeByReward, type RowJudge, type SequenceOf } from "../rlhf/iterate/annotate.ts";
import { JudgeComparer } from "../rlhf/llm-judge/compare.ts";
import { PairPreferenceModel } from "../rlhf/pairwise/model.ts";
import type { RewardFunction } from "../rlhf/rewards.ts";
import { UserError } from "../runtime/errors.ts";
import { isLlmJudge, llmJudgeReward, openLlmJudge, usageWords } from "./llm-judge.ts";
import type { ModelOpener } from "./opener.ts";
import { isWeightless, openReward, type RewardServerOptions } from "./rewards.ts";
import { type Elsewhere, openScorer } from "./scorers.ts";

/** A judge of rows of responses. */
export interface Judge {
  /** Makes the judge for a way to read a row's response. */
  judge: (sequence: SequenceOf) => RowJudge;
  /** Where responses have rewards of their own: the same as a reward function. */
  reward: RewardFunction | null;
  /** What an LLM judge was asked so far, in words. */
  spent?: () => string;
}

/** Options of a judge. */
export interface JudgeOptions extends RewardServerOptions {
  /** How a pair-preference model's choices become a ranking. */
  ranking: "round_robin" | "tournament";
  /** The tokenizer of the responses, where it need not be the judge's own. */
  policyTokenizer?: Tokenizer;
  /** When it fires, an LLM judge is asked nothing more. */
  signal?: AbortSignal;
}

/** Opens a judge: a pair-preference model or an LLM judge of pairs compares a prompt's responses, all else scores each by itself. */
export async function openJudge(opener: ModelOpener, name: string, options: JudgeOptions): Promise<Judge> {
  const { ranking, ...rest } = options;
  if (isLlmJudge(name)) {
    const { files } = opener.options;
    const calls = await openLlmJudge(name, {
      ...(files && { files }),
      ...(options.signal && { signal: options.signal }),
    });
    const spent = () => usageWords(calls.usage);
    if (calls.spec.mode === "pairwise") {
      return { judge: () => judgeByPreference(new JudgeComparer(calls), ranking), reward: null, spent };
    }
    const reward = llmJudgeReward(calls, name);
    return { judge: (sequence) => judgeByReward(reward, sequence), reward, spent };
  }
  const writer = isWeightless(name) ? null : await opener.pairWriter(name);
  if (writer) {
    const lm = await opener.frozenPolicy(name, "pair-preference model", opener.options.rewardModelDtype);
    return { judge: () => judgeByPreference(new PairPreferenceModel(lm, writer), ranking), reward: null };
  }
  const { rewardModelDtype } = opener.options;
  const reward = await openReward(name, { ...rest, ...(rewardModelDtype && { rewardModelDtype }), opener });
  return { judge: (sequence) => judgeByReward(reward, sequence), reward };
}

/**
 * Opens a reward or cost model as a judge by which somebody else scores.
 * @throws UserError for judges of another kind
 */
export async function judgeElsewhere(opener: ModelOpener, name: string, elsewhere: Elsewhere): Promise<Judge> {
  const what = isWeightless(name)
    ? "has no weights here"
    : (await opener.pairWriter(name))
      ? "is a pair-preference model"
      : null;
  if (what !== null) {
    throw new UserError(`${name} ${what}: leave out cluster, whose workers score by reward and cost models`);
  }
  const { scores: reward } = await openScorer(opener, name, { elsewhere });
  return { judge: (sequence) => judgeByReward(reward, sequence), reward };
}
