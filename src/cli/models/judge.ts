/** Opens whatever is to judge responses. */

import type { SampledRow } from "../../data/scored-rows.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { judgeByPreference, judgeByReward, type RowJudge } from "../../rlhf/iterate/annotate.ts";
import { readPairWriter } from "../../rlhf/pairwise/folder.ts";
import { PairPreferenceModel } from "../../rlhf/pairwise/model.ts";
import type { Response, RewardFunction } from "../../rlhf/rollout.ts";
import type { Files } from "../../runtime/files.ts";
import { WORLD } from "./models.ts";
import { type ModelOpener, openReward } from "./opener.ts";
import { isUrl } from "./reward-server.ts";

export interface Judge {
  judge: RowJudge;
  /** Where responses have rewards of their own: the same as a reward function. */
  reward: RewardFunction | null;
}

/**
 * A pair-preference model compares the responses of a prompt with each other; everything else scores each by itself.
 * @param sequence a row's response as a reward function reads it
 * @param policyTokenizer of those sequences, where it need not be the judge's own
 */
export async function openJudge(
  opener: ModelOpener,
  files: Files,
  path: string,
  ranking: "round_robin" | "tournament",
  sequence: (row: SampledRow, sample: number) => Response,
  policyTokenizer: Tokenizer | null = null,
): Promise<Judge> {
  const writer = path === WORLD || isUrl(path) ? null : await readPairWriter(files, path, () => opener.tokenizer(path));
  if (writer) {
    const format = opener.choice.reward_model_dtype;
    const lm = await opener.frozenPolicy(path, "pair-preference model", format);
    return { judge: judgeByPreference(new PairPreferenceModel(lm, writer), ranking), reward: null };
  }
  const reward = await openReward(opener, path, policyTokenizer);
  return { judge: judgeByReward(reward, sequence), reward };
}
